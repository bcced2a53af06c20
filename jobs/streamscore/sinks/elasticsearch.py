"""Outcomes and rejected messages as documents of Elasticsearch's indices, written by the Spark connector."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyspark.sql import functions as F

from streamscore.clients import elasticsearch, index_streams
from streamscore.clients.written_index import WrittenIndex
from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.schema import DETAIL, DOCUMENT_ID, LABEL, REASON, TIME
from streamscore.scoring.outcomes import is_finite, outcomes
from streamscore.sinks.base import Batch, OutcomeSink, Replay
from streamscore.sinks.patience import patiently
from streamscore.spark.jvm import STORE_PASSWORD, trust_store
from streamscore.system import failpoints
from streamscore.system.console import log

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_COUNT: Final = "documents"
"""Name of the aggregate with the number of a batch's documents."""
_TOO_LARGE = "returned [413|"
_LARGEST_BULK = 8 * 1024 * 1024
_SHARES = 1_000_000_000
_SMALLEST_BULK = 32 * 1024
"""Smallest size in bytes to which a bulk request is reduced for a gateway's limit."""


@dataclass
class _IndexSink(OutcomeSink):
    """Base of sinks that write documents to one index under ids that depend on the rows: a replay overwrites them."""

    store: Path | None = None
    """Java trust store with the authorities of Elasticsearch's certificate; None: Java's default store."""
    bulk_bytes: int = _LARGEST_BULK
    """Size of a bulk request in bytes; halved when a gateway refuses a request as too large."""
    written: WrittenIndex | None = None
    """The index, once it is known; a copy for other models keeps it."""

    @property
    def name(self) -> str:
        """The server's address."""
        return f"Elasticsearch at {self.config.elasticsearch.url}"

    @property
    @abstractmethod
    def index(self) -> str:
        """Name of the index."""

    @property
    @abstractmethod
    def failpoint(self) -> str:
        """Name of the failpoint at its writes."""

    def prepare(self, spark: SparkSession) -> None:
        """Make the Java trust store, and take note of the index.

        Raises:
            ConfigError: ``elasticsearch.ca_file`` cannot be read as PEM certificates.
            ServerError: the server cannot be reached, or the index was deleted since the check.
        """
        self.store = trust_store(spark, self.config)
        self._known_index().operations()

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:  # noqa: ARG002 (a replay has the same ids)
        """Write the documents, if there are any; retry all of them while Elasticsearch is unreachable or overloaded."""
        count = batch.aggregates[_COUNT]
        if count:
            patiently(lambda: self._write_counted(shaped, count), self.config.elasticsearch, batch)

    def _write_counted(self, documents: DataFrame, count: int) -> None:
        """Write documents and compare their number with the index's new operations.

        The connector accepts any response of status 200 as a success, even one without an item for each document.

        Raises:
            ServerError: the index has counted fewer operations than there are documents.
            RefusedError: the index was deleted, or its name stands for another one by now.
        """
        settings, written = self.config.elasticsearch, self._known_index()
        before = written.operations()
        failpoints.write(self.failpoint, documents, self._write_in_bulks)
        after = written.operations()
        taken = sum(number - before[shard] for shard, number in after.items() if shard in before)
        if taken < count:
            raise ServerError(
                f"the index {self.index!r} at {settings.url} has taken {max(taken, 0):,} of {count:,} documents, "
                "though all bulk requests were answered with success: does a gateway answer in its place?"
            )

    def _known_index(self) -> WrittenIndex:
        if self.written is None:
            self.written = WrittenIndex(self.config.elasticsearch, self.index)
        return self.written

    def _write_in_bulks(self, part: DataFrame) -> None:
        """Write the documents in bulk requests, halved in size until a gateway accepts them.

        Raises:
            RefusedError: a gateway refuses even the smallest requests.
        """
        settings = self.config.elasticsearch
        while True:
            try:
                return write_index(part, settings, self.index, self.store, self.bulk_bytes)
            except Exception as error:
                if _TOO_LARGE not in str(error):
                    raise
                if self.bulk_bytes <= _SMALLEST_BULK:
                    raise RefusedError(
                        f"what answers at {settings.url} refuses bulk requests of {self.bulk_bytes:,} bytes as too "
                        "large (413): raise the limit of the gateway (nginx: client_max_body_size), or "
                        "Elasticsearch's http.max_content_length"
                    ) from None
                self.bulk_bytes //= 2
                log.warning("a bulk request was too large (413); trying requests of %s bytes", f"{self.bulk_bytes:,}")


class RejectedDocuments(_IndexSink):
    """A sink of one document per rejected message, with its id and reason; the messages themselves are in Kafka."""

    label = "rejected_documents"

    @property
    def index(self) -> str:
        """Index of the rejected messages."""
        return self.config.elasticsearch.rejected_index

    @property
    def failpoint(self) -> str:
        """Name of the failpoint at its writes."""
        return "rejected"

    def aggregates(self, spark: SparkSession) -> dict[str, Column]:  # noqa: ARG002 (a count of Spark's own)
        """Return the number of bad messages."""
        return {_COUNT: F.count(REASON)}

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the bad messages as documents."""
        return rejected_documents(rows)


@dataclass
class OutcomeDocuments(_IndexSink):
    """A sink of one document per event and model."""

    label = "outcome_documents"

    is_owned: bool = False
    """Whether the index's mapping is known to name the stream that writes to it."""

    @property
    def index(self) -> str:
        """Index of the outcomes."""
        return self.config.elasticsearch.index

    @property
    def failpoint(self) -> str:
        """Name of the failpoint at its writes."""
        return "index"

    def check(self) -> list[str]:
        """Create the missing indices of the stream, and check the mappings of the others.

        Returns:
            The names of the indices that were created.

        Raises:
            ServerError: the server cannot be reached, or an index cannot hold the documents.
        """
        return [f"the index {name}" for name in elasticsearch.ensure(self.config.elasticsearch)]

    def aggregates(self, spark: SparkSession) -> dict[str, Column]:  # noqa: ARG002 (a count of Spark's own)
        """Return the number of documents."""
        good = f"{REASON} IS NULL AND {is_sampled(self.config.elasticsearch.documents)}"
        return {_COUNT: len(self.models) * F.expr(f"count_if({good})")}

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the outcomes of all events, or of the sampled share of events, as documents."""
        sampled = rows.filter(is_sampled(self.config.elasticsearch.documents))
        return documents(outcomes(sampled, self.models), self.config.kafka.topics.input)

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Record the stream in the index's mapping, then write the sampled documents; retry transient failures."""
        if not self.is_owned:
            settings, topic = self.config.elasticsearch, self.config.kafka.topics.input
            patiently(lambda: index_streams.record_checkpoint(settings, topic, batch.query()), settings, batch)
            self.is_owned = True
        super().write(shaped, batch, replay)


def is_sampled(share: float) -> str:
    """Return SQL for whether an event is one of a share of them, by its id alone, so that a replay samples the same.

    Args:
        share: the share, in [0, 1].
    """
    return "true" if share == 1 else f"pmod(xxhash64(event_id), {_SHARES}) < {round(share * _SHARES)}"


def documents(outcomes: DataFrame, topic: str) -> DataFrame:
    """Return outcomes of a topic as documents: the index's fields, and ``document_id``, which is not a field.

    A score that is not finite, such as a margin that overflowed, is omitted: Elasticsearch would refuse the document.
    """
    return outcomes.selectExpr(
        f"concat_ws('-', event_id, model, model_version) AS {DOCUMENT_ID}",
        f"event_time AS `{TIME}`",
        "event_id",
        "string(key) AS key",
        *("model", "model_version", "prediction"),
        f"CASE WHEN {is_finite('score')} THEN score END AS score",
        *(LABEL, "correct", "declined", "declined_column"),
    ).withColumn("topic", F.lit(topic))


def rejected_documents(evaluated: DataFrame) -> DataFrame:
    """Return the bad messages as documents with id and reason; ``document_id`` is not a field."""
    return evaluated.filter(f"{REASON} IS NOT NULL").selectExpr(
        f"event_id AS {DOCUMENT_ID}", f"event_time AS `{TIME}`", "event_id", REASON, DETAIL
    )


def write_index(
    documents: DataFrame,
    settings: Elasticsearch,
    index: str,
    trust_store: Path | None = None,
    bulk_bytes: int = _LARGEST_BULK,
) -> None:
    """Write documents under the ids of the column ``document_id``; an existing document is overwritten.

    After an error some of the documents may have been written. Without an error the connector saw none; the caller
    must check that the index has accepted all documents.

    Args:
        documents: the documents and their ids.
        settings: the server.
        index: name of the index, which must exist.
        trust_store: Java trust store; None: Java's default store.
        bulk_bytes: size of a bulk request in bytes.
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
        "es.index.auto.create": "false",  # the index exists, with our mapping
        "es.batch.write.refresh": "false",  # the default refreshes the index after every task
        "es.batch.size.entries": str(settings.bulk_documents),
        "es.batch.size.bytes": str(bulk_bytes),
        "es.batch.write.retry.count": "3",
        "es.batch.write.retry.wait": "5s",
        "es.http.timeout": "30s",
        "es.http.retries": "1",
        # Ignore the JVM's proxy for the internet; the connector does not honour the proxy's exceptions.
        "es.net.proxy.http.use.system.props": "false",
        "es.net.proxy.https.use.system.props": "false",
        "es.net.proxy.socks.use.system.props": "false",
        **_trusted(trust_store),
        **_credentials(settings),
    }
    documents.write.format("org.elasticsearch.spark.sql").options(**options).mode("append").save(index)


def _trusted(store: Path | None) -> dict[str, str]:
    """Return the connector's options for a trust store."""
    if store is None:
        return {}
    return {
        "es.net.ssl.truststore.location": store.as_uri(),
        "es.net.ssl.truststore.pass": STORE_PASSWORD,
        "es.net.ssl.keystore.type": "PKCS12",  # also the type of the trust store, which has no option of its own
    }


def _credentials(settings: Elasticsearch) -> dict[str, str]:
    """Return the options with secrets: writer options never show in the process list or in Spark's web UI."""
    options = {}
    if settings.api_key is not None:
        options["es.net.http.header.Authorization"] = f"ApiKey {settings.api_key.get_secret_value()}"
    if settings.user is not None and settings.password is not None:
        options["es.net.http.auth.user"] = settings.user
        options["es.net.http.auth.pass"] = settings.password.get_secret_value()
    return options
