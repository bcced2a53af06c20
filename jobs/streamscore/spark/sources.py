"""Reading: the Kafka topic as a stream or as a table, and data sets of labels and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamscore.config import Delta, Kafka, Stream
from streamscore.errors import InputError
from streamscore.spark.errors import translate_spark_errors
from streamscore.system.paths import as_spark_takes, is_local, local_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Spark asks where a partition begins and ends after each fetch, on the connection on which the consumer already waits
# for more. At the end of a partition that wait is half a second by default, and every task would last that long.
_READING = {"kafka.fetch.max.wait.ms": "10"}

# A record of a transaction that was aborted, or is not over, is no event; by default Kafka shows it to Spark.
_COMMITTED = {"kafka.isolation.level": "read_committed"}

_NANOSECONDS = "spark.sql.legacy.parquet.nanosAsLong"


def kafka_options(kafka: Kafka) -> dict[str, str]:
    """Return the connection's options for Spark's Kafka source and sink; they hold secrets, never log them."""
    return {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        **{f"kafka.{name}": value for name, value in kafka.client_options().items()},
    }


def events(spark: SparkSession, kafka: Kafka, topic: str, settings: Stream) -> DataFrame:
    """Return a topic as a streaming DataFrame, in the columns of Spark's Kafka source with headers.

    The stream fails rather than skip offsets that Kafka no longer has: what is lost must not go unnoticed.

    Args:
        spark: the session.
        kafka: the connection.
        topic: name of the topic.
        settings: where a new checkpoint starts, and how large a batch may be.
    """
    options = {
        **_READING,
        **_COMMITTED,
        **kafka_options(kafka),
        "subscribe": topic,
        "startingOffsets": settings.starting_offsets,
        "maxOffsetsPerTrigger": str(settings.max_events_per_batch),
        "failOnDataLoss": "true",
        "includeHeaders": "true",
    }
    return spark.readStream.format("kafka").options(**options).load()


def topic(spark: SparkSession, kafka: Kafka, name: str) -> DataFrame:
    """Return all that a topic holds now, as a table in the columns of Spark's Kafka source with headers.

    Args:
        spark: the session.
        kafka: the connection.
        name: name of the topic.
    """
    options = {**_READING, **kafka_options(kafka), "subscribe": name, "includeHeaders": "true"}
    return spark.read.format("kafka").options(**options).load()


def topics_since(spark: SparkSession, kafka: Kafka, names: Sequence[str], since: int) -> DataFrame:
    """Return the records that topics received since a time, in the columns of Spark's Kafka source with headers.

    Args:
        spark: the session.
        kafka: the connection.
        names: names of the topics.
        since: append time of the oldest record, in epoch milliseconds.
    """
    options = {
        **_READING,
        **kafka_options(kafka),
        "subscribe": ",".join(names),
        "includeHeaders": "true",
        "startingTimestamp": str(since),
        # A partition without a later record has nothing to give; by default Spark would fail.
        "startingOffsetsByTimestampStrategy": "latest",
    }
    return spark.read.format("kafka").options(**options).load()


def delta_table(spark: SparkSession, settings: Delta) -> DataFrame:
    """Return the Delta table of the outcomes as it is now."""
    if settings.is_folder:
        return spark.read.format("delta").load(as_spark_takes(str(settings.table)))
    return spark.read.table(str(settings.table))


def is_delta(source: str) -> bool:
    """Return whether a local folder is a Delta table; a remote one is asked for by the prefix ``delta:``."""
    return source.startswith("delta:") or (is_local(source) and (local_path(source) / "_delta_log").is_dir())


def data_set(spark: SparkSession, source: str, schema: str | None = None) -> DataFrame:
    """Return a parquet file, a folder of them or a Delta table.

    Args:
        spark: the session.
        source: the file, folder or table.
        schema: the columns to read of parquet, as DDL; None: all of them, as Spark infers them.

    Raises:
        InputError: Spark cannot read it.
    """
    kind = "delta" if is_delta(source) else "parquet"
    reader = spark.read.format(kind)
    if schema is not None:
        reader = reader.schema(schema)
    # A column in nanoseconds, as pandas writes times, would be refused even if nobody needs it.
    before = spark.conf.get(_NANOSECONDS)
    spark.conf.set(_NANOSECONDS, "true")
    try:
        with translate_spark_errors(InputError, f"{source}: cannot be read as {kind}"):
            return reader.load(as_spark_takes(source.removeprefix("delta:")))
    finally:
        spark.conf.set(_NANOSECONDS, str(before))
