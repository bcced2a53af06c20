"""Read Kafka topics as a stream or as a table, and data sets of labels and features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from streamscore.config import Delta, Kafka, Stream
from streamscore.errors import InputError
from streamscore.spark.errors import translate_spark_errors
from streamscore.system.paths import as_spark_takes, is_local, local_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# After each fetch Spark asks for a partition's offsets on the connection on which the consumer already waits for more
# records. At the end of a partition that wait is half a second by default, which would delay every task.
_READING = {"kafka.fetch.max.wait.ms": "10"}

# By default Spark also reads records of aborted and open transactions, which are no events.
_COMMITTED = {"kafka.isolation.level": "read_committed"}

# A poll unpacks what it returns: with more records than one, a message that is larger than the memory would end the JVM
# while the batch before it is read.
_ONE_BY_ONE = {"kafka.max.poll.records": "1"}

_NANOSECONDS = "spark.sql.legacy.parquet.nanosAsLong"


def kafka_options(kafka: Kafka) -> dict[str, str]:
    """Return the connection's options for Spark's Kafka source and sink; they contain secrets, so never log them."""
    return {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        **{f"kafka.{name}": value for name, value in kafka.client_options().items()},
    }


def events(spark: SparkSession, kafka: Kafka, topic: str, settings: Stream) -> DataFrame:
    """Return a topic as a streaming DataFrame, in the columns of Spark's Kafka source with headers.

    The stream fails if Kafka no longer has the next offsets: a loss must not go unnoticed.

    Args:
        spark: the session.
        kafka: the connection.
        topic: name of the topic.
        settings: where a new checkpoint starts, and how large a batch may be.
    """
    options = {
        **_READING,
        **_COMMITTED,
        **(_ONE_BY_ONE if settings.skip else {}),
        **kafka_options(kafka),
        "subscribe": topic,
        "startingOffsets": settings.starting_offsets,
        "maxOffsetsPerTrigger": str(settings.max_events_per_batch),
        "failOnDataLoss": "true",
        "includeHeaders": "true",
    }
    return spark.readStream.format("kafka").options(**options).load()


def topic(spark: SparkSession, kafka: Kafka, name: str) -> DataFrame:
    """Return the current content of a topic as a table, in the columns of Spark's Kafka source with headers.

    Args:
        spark: the session.
        kafka: the connection.
        name: name of the topic.
    """
    options = {**_READING, **kafka_options(kafka), "subscribe": name, "includeHeaders": "true"}
    return spark.read.format("kafka").options(**options).load()


def records(
    spark: SparkSession, kafka: Kafka, topic: str, begin: Mapping[int, int], end: Mapping[int, int]
) -> DataFrame:
    """Return the committed records between offsets of a topic as a table, in the columns of ``events``.

    Reading fails if Kafka no longer has one of the first offsets.

    Args:
        spark: the session.
        kafka: the connection.
        topic: name of the topic.
        begin: the first offset, by partition.
        end: the offset after the last one, by partition; partitions with nothing between are not read.
    """
    read = sorted(partition for partition in begin if begin[partition] < end[partition])
    options = {
        **_READING,
        **_COMMITTED,
        **kafka_options(kafka),
        "assign": json.dumps({topic: read}),
        "startingOffsets": json.dumps({topic: {partition: begin[partition] for partition in read}}),
        "endingOffsets": json.dumps({topic: {partition: end[partition] for partition in read}}),
        "failOnDataLoss": "true",
        "includeHeaders": "true",
    }
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
        # A partition without a later record yields nothing; by default Spark would fail.
        "startingOffsetsByTimestampStrategy": "latest",
    }
    return spark.read.format("kafka").options(**options).load()


def delta_table(spark: SparkSession, settings: Delta) -> DataFrame:
    """Return the current Delta table of the outcomes."""
    if settings.is_folder:
        return spark.read.format("delta").load(as_spark_takes(str(settings.table)))
    return spark.read.table(str(settings.table))


def is_delta(source: str) -> bool:
    """Return whether a local folder is a Delta table; a remote table has the prefix ``delta:`` instead."""
    return source.startswith("delta:") or (is_local(source) and (local_path(source) / "_delta_log").is_dir())


def data_set(spark: SparkSession, source: str, schema: str | None = None) -> DataFrame:
    """Return a parquet file, a folder of them or a Delta table.

    Args:
        spark: the session.
        source: the file, folder or table.
        schema: the parquet columns to read, as DDL; None: all columns, with inferred types.

    Raises:
        InputError: Spark cannot read the data set.
    """
    kind = "delta" if is_delta(source) else "parquet"
    reader = spark.read.format(kind)
    if schema is not None:
        reader = reader.schema(schema)
    # Spark would refuse a file for a column in nanoseconds, as pandas writes times, even if the column is not used.
    before = spark.conf.get(_NANOSECONDS)
    spark.conf.set(_NANOSECONDS, "true")
    try:
        with translate_spark_errors(InputError, f"{source}: cannot be read as {kind}"):
            return reader.load(as_spark_takes(source.removeprefix("delta:")))
    finally:
        spark.conf.set(_NANOSECONDS, str(before))
