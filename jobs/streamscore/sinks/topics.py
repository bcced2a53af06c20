"""What sinks that write to Kafka have in common: how records are appended, and which of a replay are there already."""

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
    "kafka.max.request.size": str(client.MAX_RECORD_BYTES),
    "kafka.max.block.ms": "60000",
    "kafka.request.timeout.ms": "30000",
    "kafka.delivery.timeout.ms": "120000",
}

SKEW_MS = 60_000
"""How far the clocks of the machines that plan a batch and that write its records may be apart, in milliseconds."""


def write_topic(records: DataFrame, kafka: Kafka) -> None:
    """Append records (``topic``, ``key``, ``value`` and perhaps ``headers``) to their topics, at least once each.

    If it raises, some of them may have been written.
    """
    options = {**_DURABLE, **kafka_options(kafka), "includeHeaders": "true"}
    records.write.format("kafka").options(**options).save()


def ends(kafka: Kafka, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return where some topics end now, with their ids, as ``Sink.ends`` does.

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
    """Return the records that topics received since the first batch of a replay may have been written.

    It waits until every record that was appended is visible: a leader may hold some that too few replicas have yet.
    What an earlier stream wrote is left out, where it was noted how far that reached: an input topic that was created
    again has the same events' ids once more.

    Args:
        spark: the session.
        kafka: the connection.
        names: names of the topics.
        replay: what the sink was given.
        is_stopping: asked while it waits; there is no waiting any more once it returns true.

    Raises:
        ServerError: too few replicas have the last records, or no broker answers.
    """
    topic_records.await_visible(kafka, names, _patience(kafka), is_stopping)
    written = topics_since(spark, kafka, names, max(0, replay.since - SKEW_MS))
    for name, noted in replay.begins.items():
        if name in names and noted["id"] == client.topic_id(kafka, name):
            written = written.filter((F.col("topic") != name) | _is_behind(noted["ends"]))
    return written


def _patience(kafka: Kafka) -> float:
    """Return the seconds within which the brokers must have taken a record."""
    return int({**_DURABLE, **kafka_options(kafka)}["kafka.delivery.timeout.ms"]) / 1_000


def _is_behind(ends: Mapping[str, int]) -> Column:
    """Return whether a record is not before the offset that its partition ended at; a new partition has none."""
    pairs = [F.lit(value) for partition, end in ends.items() for value in (int(partition), end)]
    return F.col("offset") >= F.coalesce(F.element_at(F.create_map(*pairs), F.col("partition")), F.lit(0))
