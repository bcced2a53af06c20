"""Writing: one batch of outcomes to the rejected topic, Elasticsearch and Kafka, in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamscore import index, messages
from streamscore.config import Config, Elasticsearch, Kafka
from streamscore.console import log
from streamscore.errors import ServerError
from streamscore.schema import DOCUMENT_ID
from streamscore.sources import kafka_options

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from streamscore.models import ServedModel
    from streamscore.session import StopRequest

# Every record is acknowledged by all replicas, and the producer's own retries neither repeat nor reorder any. These are
# the client's defaults today; the promise must not hang on that.
_DURABLE = {"kafka.acks": "all", "kafka.enable.idempotence": "true", "kafka.compression.type": "lz4"}


class NotStarted(Exception):  # noqa: N818 (it is a way to stop, not an error)
    """Raised inside a batch that came up while the job was stopping: nothing of it was written."""


@dataclass
class BatchWriter:
    """Writes a batch of judged rows; hand it to ``foreachBatch``.

    If it raises, the batch is not committed: it is replayed, in whole, when the stream starts again. A replay writes
    the same documents under the same ids; Kafka may then hold a record of that batch twice.
    """

    config: Config
    models: Sequence[ServedModel]
    stop: StopRequest
    sink: str | None = field(default=None, init=False)
    """The sink that is being written to, for the message when it fails."""
    not_started: bool = field(default=False, init=False)
    """Whether a batch was turned away because the job was stopping."""

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        """Write one batch."""
        if self.stop:
            self.not_started = True
            raise NotStarted
        # Both sinks read the batch; without this Kafka would be read, and every model applied, once for each.
        batch.persist()
        try:
            self.sink = f"the Kafka topic {self.config.kafka.topics.rejected!r}"
            write_topic(messages.rejected_records(batch), self.config.kafka, self.config.kafka.topics.rejected)
            outcomes = messages.outcomes(batch, self.models)
            if self.config.elasticsearch.enabled:
                self.sink = f"Elasticsearch at {self.config.elasticsearch.url}"
                settings = self.config.elasticsearch
                write_index(messages.rejected_documents(batch), settings, settings.rejected_index)
                write_index(messages.documents(outcomes), settings, settings.index)
            self.sink = f"the Kafka topic {self.config.kafka.topics.predictions!r}"
            write_topic(messages.outcome_records(outcomes), self.config.kafka, self.config.kafka.topics.predictions)
            self.sink = None
        finally:
            batch.unpersist()


class StatusWriter:
    """Writes each batch's status document; a failure is a warning, for the outcomes do not depend on it."""

    def __init__(self, settings: Elasticsearch) -> None:
        self._settings = settings
        self._client = index.client(settings) if settings.enabled else None

    def write(self, statuses: Sequence[Mapping[str, Any]]) -> None:
        """Write the documents of some batches."""
        if self._client is None:
            return
        try:
            for status in statuses:
                index.put_status(self._client, self._settings, status)
        except ServerError as error:
            log.warning("a batch's status is not in %s: %s", self._settings.status_index, error)

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()


def write_topic(records: DataFrame, kafka: Kafka, topic: str) -> None:
    """Append records (``key``, ``value`` and perhaps ``headers``) to a topic, at least once each.

    If it raises, some of them may have been written.
    """
    options = {**_DURABLE, **kafka_options(kafka), "topic": topic, "includeHeaders": "true"}
    records.write.format("kafka").options(**options).save()


def write_index(documents: DataFrame, settings: Elasticsearch, index: str) -> None:
    """Write documents under the ids in their column ``document_id``; one that is there already is replaced by itself.

    If it raises, some of them may have been written.
    """
    options = {
        "es.nodes": settings.host,
        "es.port": str(settings.port),
        "es.nodes.wan.only": str(settings.wan_only).lower(),
        "es.net.ssl": str(settings.url.startswith("https://")).lower(),
        "es.mapping.id": DOCUMENT_ID,
        "es.mapping.exclude": DOCUMENT_ID,
        "es.write.operation": "index",  # `create` would fail on a replay
        "es.index.auto.create": "false",  # the index has a mapping of ours
        "es.batch.write.refresh": "false",  # the default refreshes the index after every task
        "es.batch.size.entries": str(settings.bulk_documents),
        "es.batch.size.bytes": "8mb",
        "es.batch.write.retry.count": "6",
        "es.batch.write.retry.wait": "5s",
        **_credentials(settings),
    }
    documents.write.format("org.elasticsearch.spark.sql").options(**options).mode("append").save(index)


def _credentials(settings: Elasticsearch) -> dict[str, str]:
    """Return the options that hold secrets: writer options never show in the process list or in Spark's pages."""
    options = {}
    if settings.ca_file is not None:
        options["es.net.ssl.cert.allow.self.signed"] = "false"
        options["es.net.ssl.truststore.location"] = settings.ca_file.as_uri()
    if settings.api_key is not None:
        options["es.net.http.header.Authorization"] = f"ApiKey {settings.api_key.get_secret_value()}"
    if settings.user is not None and settings.password is not None:
        options["es.net.http.auth.user"] = settings.user
        options["es.net.http.auth.pass"] = settings.password.get_secret_value()
    return options
