"""Writing: one batch to Elasticsearch, to Kafka's two topics and to a Delta table, in that order."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamscore import messages
from streamscore.clients import elasticsearch
from streamscore.clients import kafka as kafka_client
from streamscore.config import Config, Delta, Elasticsearch, Kafka
from streamscore.errors import RefusedError, ServerError, told_in_one_line
from streamscore.schema import DOCUMENT_ID, TABLE_ROW
from streamscore.spark.session import STORE_PASSWORD
from streamscore.spark.sources import delta_table, kafka_options, topics_since
from streamscore.system import failpoints
from streamscore.system.console import log
from streamscore.system.paths import as_spark_takes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from streamscore.scoring import ServedModel
    from streamscore.spark.session import StopRequest

# Every record is acknowledged by all replicas, and the producer's own retries neither repeat nor reorder any. A broker
# that is away for longer than these limits fails the batch. `kafka.options` may say otherwise of all but the first two.
_DURABLE = {
    "kafka.acks": "all",
    "kafka.enable.idempotence": "true",
    "kafka.compression.type": "lz4",
    # Fewer, larger requests. The wait is over as soon as a task has no more records.
    "kafka.linger.ms": "20",
    "kafka.batch.size": "262144",
    # The topic knows better than the client what it takes; by default a bad message with headers of ours may be larger.
    "kafka.max.request.size": str(kafka_client.MAX_RECORD_BYTES),
    "kafka.max.block.ms": "60000",
    "kafka.request.timeout.ms": "30000",
    "kafka.delivery.timeout.ms": "120000",
}

# The connector passes on the error of Elasticsearch by its type, or, where the answer has none, the status.
_OVERLOADED = re.compile(
    r"returned \[(429|503)\||es_rejected_execution|unavailable_shards|circuit_breaking|"
    "SERVICE_UNAVAILABLE|TOO_MANY_REQUESTS"
)
_REFUSED = re.compile(r"returned \[40[13]\||security_exception")

SKEW_MS = 60_000
"""How far the clocks of the machines that plan a batch and that write its records may be apart, in milliseconds."""


STATUSES_KEPT: Final = 1_000
"""Status documents that wait for an Elasticsearch that is away, at most."""


class NotStarted(Exception):  # noqa: N818 (it is a way to stop, not an error)
    """Raised inside a batch that came up while the job was stopping: nothing of it was written."""


@dataclass(frozen=True)
class Replay:
    """Batches that may have been written before, in part or in whole."""

    last_batch: int
    since: int
    """Epoch milliseconds before which none of them was written."""


@dataclass
class BatchWriter:
    """Writes a batch of what ``rows`` makes of judged rows; hand it to ``foreachBatch``.

    If it raises, the batch is not committed: it is replayed, in whole, when the stream starts again. A replay writes
    the same documents under the same ids, and to Kafka and Delta only what is not there yet.
    """

    config: Config
    models: Sequence[ServedModel]
    stop: StopRequest
    query: Callable[[], str]
    """Tells the identity of the query, once it runs."""
    max_record_bytes: int = kafka_client.MAX_MESSAGE_BYTES
    """Largest record that the rejected topic takes."""
    trust_store: Path | None = None
    """Store of Java's with the authorities that Elasticsearch's certificate may be signed by; None: Java's own."""
    replay: Replay | None = None
    last_batch: int | None = None
    """The last batch to write; None: there is no last one."""
    sink: str | None = field(default=None, init=False)
    """The sink that is being written to, for the message when it fails."""
    closing: bool = field(default=False, init=False)
    """Set when no further batch is to begin."""
    begun: int = field(default=-1, init=False)
    """The last batch of which something may have been written."""
    not_started: bool = field(default=False, init=False)
    """Whether a batch was turned away because the job was stopping."""
    finished: bool = field(default=False, init=False)
    """Whether the last batch is written."""

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write one batch."""
        if self.stop or self.closing or self.finished:
            self.not_started = True
            raise NotStarted
        self.begun = batch_id
        failpoints.reach("entry")
        if self.several:
            # Sinks that read the batch one after the other would read Kafka, and apply every model, once each.
            batch.persist()
        try:
            replay = self.replay if self.replay and batch_id <= self.replay.last_batch else None
            if self.config.elasticsearch.enabled:
                self._write_documents(batch)
            self._write_records(batch, replay)
            if self.config.delta.table is not None:
                self._write_rows(batch, replay, batch_id)
            self.sink = None
        finally:
            if self.several:
                batch.unpersist()
        self.finished = batch_id == self.last_batch

    @property
    def several(self) -> bool:
        """Whether there are other sinks beside Kafka."""
        return self.config.elasticsearch.enabled or self.config.delta.table is not None

    def rows(self, judged: DataFrame) -> DataFrame:
        """Return the stream of what is written, from that of judged rows.

        Where Kafka is the only sink these are its records: so they are planned once, and not anew for each batch.
        """
        return judged if self.several else self._records(judged)

    def _records(self, judged: DataFrame) -> DataFrame:
        names = self.config.kafka.topics
        limit = min(self.max_record_bytes, kafka_client.MAX_RECORD_BYTES)
        return messages.records(judged, self.models, names.predictions, names.rejected, limit)

    def _write_documents(self, batch: DataFrame) -> None:
        settings = self.config.elasticsearch
        self.sink = f"Elasticsearch at {settings.url}"
        for point, documents, name in (
            ("rejected", messages.rejected_documents(batch), settings.rejected_index),
            ("index", messages.documents(messages.outcomes(batch, self.models)), settings.index),
        ):
            failpoints.write(point, documents, partial(self._write_patiently, name=name))

    def _write_records(self, batch: DataFrame, replay: Replay | None) -> None:
        kafka, names = self.config.kafka, self.config.kafka.topics
        self.sink = f"the Kafka topics {names.predictions!r} and {names.rejected!r}"
        records = self._records(batch) if self.several else batch
        if replay is not None:
            log.info("a batch that may have been written before: looking for what is there")
            since = max(0, replay.since - SKEW_MS)
            written = topics_since(batch.sparkSession, kafka, [names.predictions, names.rejected], since)
            records = messages.records_without(records, written, names.rejected)
        failpoints.write("records", records, lambda frame: write_topic(frame, kafka))

    def _write_rows(self, batch: DataFrame, replay: Replay | None, batch_id: int) -> None:
        settings = self.config.delta
        rows = messages.table_rows(messages.outcomes(batch, self.models))
        self.sink = f"the Delta table {settings.table}"
        write_table(rows, settings, self.query(), batch_id)
        if replay is not None:
            # A batch that was planned anew, after a repair of the checkpoint, may hold more than the one of its number
            # that the table has already.
            there = delta_table(rows.sparkSession, settings)
            missing = messages.rows_without(rows, there)
            if not missing.isEmpty():
                append(missing, settings)
        failpoints.reach("delta")

    def _write_patiently(self, documents: DataFrame, name: str) -> None:
        """Write documents; while Elasticsearch is away or overloaded, wait and write all again, under the same ids.

        Once the job is asked to stop the next failure is the last: the batch is replayed at the next start.
        """
        settings = self.config.elasticsearch
        deadline = time.monotonic() + settings.retry_seconds
        for delay in chain((1, 2, 4, 8, 16), repeat(30)):
            try:
                write_index(documents, settings, name, self.trust_store)
            except Exception as error:
                if time.monotonic() + delay > deadline or self.stop or not _may_pass(error, settings):
                    raise
                log.warning("Elasticsearch does not take the documents; trying again in %s s", delay)
                self.stop.wait(delay)
            else:
                return


def _may_pass(error: Exception, settings: Elasticsearch) -> bool:
    """Tell whether a failed write may succeed later: the server is away, or says that it is overloaded."""
    if _REFUSED.search(str(error)):
        return False
    if _OVERLOADED.search(str(error)):
        return True
    try:
        elasticsearch.health(settings, timeout=3.0)
    except ServerError:
        return True
    return "all nodes failed" in str(error)  # it was away a moment ago


class StatusWriter:
    """Writes each batch's status document; a failure is a warning, for the outcomes do not depend on it.

    What Elasticsearch did not take is tried again with the next batch's.
    """

    def __init__(self, settings: Elasticsearch) -> None:
        self._settings = settings
        self._client = elasticsearch.client(settings) if settings.enabled else None
        self._waiting: deque[Mapping[str, Any]] = deque(maxlen=STATUSES_KEPT)

    def write(self, statuses: Sequence[Mapping[str, Any]]) -> None:
        """Write the documents of some batches."""
        self._waiting.extend(statuses)
        if statuses:
            self._write_waiting()

    def close(self) -> None:
        """Try once more what is waiting, and let go of the connection."""
        self._write_waiting()
        if self._client is not None:
            self._client.close()

    def _write_waiting(self) -> None:
        while self._client is not None and self._waiting:
            try:
                elasticsearch.put_status(self._client, self._settings, self._waiting[0])
            except ServerError as error:
                log.warning("a batch's status is not in %s: %s", self._settings.status_index, error)
                if not isinstance(error, RefusedError):
                    return
            self._waiting.popleft()


def write_topic(records: DataFrame, kafka: Kafka) -> None:
    """Append records (``topic``, ``key``, ``value`` and perhaps ``headers``) to their topics, at least once each.

    If it raises, some of them may have been written.
    """
    options = {**_DURABLE, **kafka_options(kafka), "includeHeaders": "true"}
    records.write.format("kafka").options(**options).save()


def write_index(documents: DataFrame, settings: Elasticsearch, index: str, trust_store: Path | None = None) -> None:
    """Write documents under the ids in their column ``document_id``; one that is there already is replaced by itself.

    If it raises, some of them may have been written.
    """
    options = {
        "es.nodes": settings.host,
        "es.port": str(settings.port),
        "es.nodes.path.prefix": settings.path,
        "es.nodes.wan.only": str(settings.wan_only).lower(),
        "es.net.ssl": str(settings.url.startswith("https://")).lower(),
        "es.mapping.id": DOCUMENT_ID,
        "es.mapping.exclude": DOCUMENT_ID,
        "es.write.operation": "index",  # `create` would fail on a replay
        "es.index.auto.create": "false",  # the index has a mapping of ours
        "es.batch.write.refresh": "false",  # the default refreshes the index after every task
        "es.batch.size.entries": str(settings.bulk_documents),
        "es.batch.size.bytes": "8mb",
        "es.batch.write.retry.count": "3",
        "es.batch.write.retry.wait": "5s",
        "es.http.timeout": "30s",
        "es.http.retries": "1",
        # A proxy that the JVM was told of for the world outside; the connector heeds no exceptions from it.
        "es.net.proxy.http.use.system.props": "false",
        "es.net.proxy.https.use.system.props": "false",
        "es.net.proxy.socks.use.system.props": "false",
        **_trusted(trust_store),
        **_credentials(settings),
    }
    documents.write.format("org.elasticsearch.spark.sql").options(**options).mode("append").save(index)


def write_table(rows: DataFrame, settings: Delta, query: str, batch: int) -> None:
    """Append a batch's rows to the Delta table in one transaction, unless it has one of that query and that batch.

    After a lost checkpoint batches count from 0 again: hence the query, whose identity is lost with it. If it raises,
    either all of the rows are there or none.
    """
    append(rows, settings, {"txnAppId": query, "txnVersion": str(batch)})


def append(rows: DataFrame, settings: Delta, options: Mapping[str, str] | None = None) -> None:
    """Append rows to the Delta table in one transaction; make the table if it is missing."""
    writer = rows.write.format("delta").mode("append").options(**(options or {}))
    if settings.is_folder:
        writer.save(as_spark_takes(str(settings.table)))
    else:
        writer.saveAsTable(str(settings.table))


def prepare_table(spark: SparkSession, settings: Delta) -> None:
    """Make the Delta table, or find out whether one that exists takes our rows, by appending none.

    Raises:
        ServerError: it cannot be written.
    """
    if settings.table is None:
        return
    with told_in_one_line(ServerError, f"the Delta table {settings.table} does not take the outcomes"):
        append(spark.createDataFrame([], TABLE_ROW), settings)


def _trusted(store: Path | None) -> dict[str, str]:
    """Return the options that name the authorities to trust."""
    if store is None:
        return {}
    return {
        "es.net.ssl.truststore.location": store.as_uri(),
        "es.net.ssl.truststore.pass": STORE_PASSWORD,
        "es.net.ssl.keystore.type": "PKCS12",  # of the trust store too, which has no option of its own
    }


def _credentials(settings: Elasticsearch) -> dict[str, str]:
    """Return the options that hold secrets: writer options never show in the process list or in Spark's pages."""
    options = {}
    if settings.api_key is not None:
        options["es.net.http.header.Authorization"] = f"ApiKey {settings.api_key.get_secret_value()}"
    if settings.user is not None and settings.password is not None:
        options["es.net.http.auth.user"] = settings.user
        options["es.net.http.auth.pass"] = settings.password.get_secret_value()
    return options
