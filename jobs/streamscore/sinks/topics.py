"""Append records to Kafka topics, and find the records that an interrupted batch wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from streamscore.clients import kafka as client
from streamscore.clients import topic_records
from streamscore.config import Kafka
from streamscore.sinks.base import Replay
from streamscore.spark.sources import kafka_options, topics_since

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# All replicas acknowledge every record, and the producer's own retries neither repeat nor reorder records. A broker
# that is down for longer than these limits fails the batch. `kafka.options` may override all but the first two.
_DURABLE = {
    "kafka.acks": "all",
    "kafka.enable.idempotence": "true",
    "kafka.compression.type": "lz4",
    # Fewer, larger requests. The wait ends as soon as a task has no more records.
    "kafka.linger.ms": "20",
    "kafka.batch.size": "262144",
    # The topic's own limit applies instead: a bad message with our headers may exceed the client's default.
    "kafka.max.request.size": str(client.MAX_RECORD_BYTES),
    "kafka.max.block.ms": "60000",
    "kafka.request.timeout.ms": "30000",
    "kafka.delivery.timeout.ms": "120000",
}

SKEW_MS = 60_000
"""Largest clock difference between the machines that plan a batch and that write its records, in milliseconds."""


def write_topic(records: DataFrame, kafka: Kafka) -> None:
    """Append records (``topic``, ``key``, ``value`` and optionally ``headers``) to their topics, at least once each.

    After an error some of the records may have been written.
    """
    options = {**_DURABLE, **kafka_options(kafka), "includeHeaders": "true"}
    records.write.format("kafka").options(**options).save()


def ends(kafka: Kafka, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the current end offsets and the ids of topics, in the form of ``Sink.ends``.

    Raises:
        ServerError: no broker answers, or too few replicas have the last records.
    """
    visible = topic_records.await_visible(kafka, names, _patience(kafka))
    return {name: {"id": client.topic_id(kafka, name), "ends": visible[name]} for name in names}


def written_since(
    spark: SparkSession,
    kafka: Kafka,
    names: Sequence[str],
    replay: Replay,
    is_stopping: Callable[[], bool] = lambda: False,
) -> DataFrame:
    """Return the records that topics received since the earliest write of a replay's batches.

    The function waits until every appended record is visible: a leader may hold records that too few replicas have yet.
    Records before the recorded ends are omitted: an earlier stream wrote them, and a recreated input topic may repeat
    event ids.

    Args:
        spark: the session.
        kafka: the connection.
        names: names of the topics.
        replay: the sink's replay.
        is_stopping: polled; once it returns True, the wait ends.

    Raises:
        ServerError: too few replicas have the last records, or no broker answers.
    """
    topic_records.await_visible(kafka, names, _patience(kafka), is_stopping)
    written = topics_since(spark, kafka, names, max(0, replay.since - SKEW_MS))
    for name, recorded in replay.begins.items():
        if name in names and recorded["id"] == client.topic_id(kafka, name):
            written = written.filter((F.col("topic") != name) | _is_behind(recorded["ends"]))
    return written


def _patience(kafka: Kafka) -> float:
    """Return the seconds within which the brokers must have accepted a record."""
    return int({**_DURABLE, **kafka_options(kafka)}["kafka.delivery.timeout.ms"]) / 1_000


def _is_behind(ends: Mapping[str, int]) -> Column:
    """Return whether a record is at or after its partition's recorded end; a new partition has none."""
    pairs = [F.lit(value) for partition, end in ends.items() for value in (int(partition), end)]
    return F.col("offset") >= F.coalesce(F.element_at(F.create_map(*pairs), F.col("partition")), F.lit(0))
