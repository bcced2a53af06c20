"""The sinks of outcomes, one module each; this module lists them."""

from __future__ import annotations

from streamscore.config import Config
from streamscore.sinks.base import OutcomeSink


def configured(config: Config) -> list[OutcomeSink]:
    """Return the sinks of the scoring job that a configuration asks for, in the order in which a batch is written.

    Elasticsearch comes first: a replay overwrites its documents, so a batch that fails halfway leaves no duplicates.
    """
    # Imported here, so that a job with other sinks imports the base alone, without scoring.
    from streamscore.sinks.delta import TableRows
    from streamscore.sinks.elasticsearch import OutcomeDocuments, RejectedDocuments
    from streamscore.sinks.kafka import Records
    from streamscore.sinks.quality import QualityStatistics

    search: list[OutcomeSink] = []
    if config.elasticsearch.enabled:
        search = [RejectedDocuments(config), OutcomeDocuments(config), QualityStatistics(config)]
    table = [TableRows(config)] if config.delta.table is not None else []
    return [*search, Records(config), *table]


def of_replay(config: Config) -> list[OutcomeSink]:
    """Return the sinks of a replay: Elasticsearch alone, because consumers of Kafka took its outcomes for new ones.

    Args:
        config: the configuration of the replay, with indices of its own.
    """
    from streamscore.sinks.elasticsearch import OutcomeDocuments, RejectedDocuments
    from streamscore.sinks.quality import QualityStatistics

    documents = [OutcomeDocuments(config)] if config.elasticsearch.documents else []
    return [RejectedDocuments(config), *documents, QualityStatistics(config)]
