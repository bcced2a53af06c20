"""Where outcomes go: a module per sink, in which shape and write stand side by side; this page lists them."""

from __future__ import annotations

from streamscore.config import Config
from streamscore.sinks.base import OutcomeSink


def configured(config: Config) -> list[OutcomeSink]:
    """Return the sinks of the scoring job that a configuration asks for, in the order in which a batch is written.

    Elasticsearch comes first: there a replay overwrites, so that what a fault leaves half done shows nowhere twice.
    """
    # Imported here, so that a job with other sinks takes the base alone, and nothing of scoring.
    from streamscore.sinks.delta import TableRows
    from streamscore.sinks.elasticsearch import OutcomeDocuments, RejectedDocuments
    from streamscore.sinks.kafka import Records
    from streamscore.sinks.quality import QualityStatistics

    search: list[OutcomeSink] = []
    if config.elasticsearch.enabled:
        search = [RejectedDocuments(config), OutcomeDocuments(config), QualityStatistics(config)]
    table = [TableRows(config)] if config.delta.table is not None else []
    return [*search, Records(config), *table]
