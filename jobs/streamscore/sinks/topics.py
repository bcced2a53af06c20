"""What sinks that write to Kafka have in common: how records are appended, and which of a replay are there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamscore.clients.kafka import MAX_RECORD_BYTES
from streamscore.config import Kafka
from streamscore.sinks.base import Replay
from streamscore.spark.sources import kafka_options, topics_since

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

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
    "kafka.max.request.size": str(MAX_RECORD_BYTES),
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


def written_since(spark: SparkSession, kafka: Kafka, names: Sequence[str], replay: Replay) -> DataFrame:
    """Return the records that some topics have got since the first batch of a replay may have been written.

    Args:
        spark: the session.
        kafka: the connection.
        names: names of the topics.
        replay: what the sink was given.
    """
    return topics_since(spark, kafka, names, max(0, replay.since - SKEW_MS))
