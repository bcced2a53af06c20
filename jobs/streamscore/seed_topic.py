"""Send a data set of labels and features to the input topic, at full speed or at the pace of a live stream.

Features are a vector, or raw columns if ``message.fields`` names any.
Each row becomes one message with the key and the header ``id``: digest of the data set, then the row's number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from streamscore.clients import kafka, topic_records
from streamscore.clients.paced import send_paced
from streamscore.config import Config
from streamscore.data import datasets
from streamscore.errors import ServerError
from streamscore.launch.arguments import Option
from streamscore.launch.job import Job
from streamscore.launch.runner import run_job
from streamscore.sinks.topics import write_topic
from streamscore.spark import sources
from streamscore.spark.errors import translate_spark_errors
from streamscore.spark.settings import ONE_ATTEMPT
from streamscore.system.console import log, step

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NAME = "seed_topic"

_SORTED_AT_ONCE = 100_000
"""Number of messages to sort together; a round is never divided, however many rows it has."""

OPTIONS = (
    Option("--source", "seed.source", "parquet file or folder, or Delta table", "PATH"),
    Option("--rate", "seed.rate", "rows per second, in row order; without it, everything at once", "N"),
    Option("--limit", "seed.limit", "maximum rows to send in one round", "N"),
    Option("--repeat", "seed.repeat", "number of rounds through the rows", "N"),
    Option("--resume", "seed.resume", "send only what an interrupted run over the same rows did not send"),
    Option("--label-column", "seed.label_column", "column of the label", "NAME"),
    Option("--features-column", "seed.features_column", "column of the features, as a vector or as text", "NAME"),
)


def check(config: Config) -> None:
    """Check the data set's columns, by its footers, and the broker, before any JVM starts; create the missing topic.

    Raises:
        InputError: the data set is absent or empty, or has wrong columns or types.
        ServerError: no broker answers, or the topic cannot be created.
        RefusedError: an ACL is missing.
    """
    datasets.check_footer(config.seed, config.message.columns, config.message.label_values)
    topics = config.kafka.topics
    wanted = {topics.input: ("Read", "Write") if config.seed.resume else ("Write",)}
    if config.seed.label_delay is not None:
        wanted[topics.labels] = ("Write",)
    for name, operations in wanted.items():
        if kafka.ensure(config.kafka, name, operations=operations):
            log.info("created the topic %s with %s partitions", name, config.kafka.partitions)


def run(spark: SparkSession, config: Config) -> dict[str, Any]:
    """Send the rows.

    Returns:
        The summary: digest, rows of the data set, rows sent, seconds.

    Raises:
        InputError: the data set cannot be used.
        ServerError: the broker did not accept the messages.
    """
    from pyspark.sql import functions as F

    settings = config.seed
    with step(f"Reading {settings.source}"):
        rows = datasets.numbered(spark, settings, config.message.columns, config.message.label_values)
    wanted = rows.count * settings.repeat
    there = None
    if settings.resume:
        with step("Looking for what is there already"):
            there = _there(spark, rows, config).persist()
            count = there.count()
        log.info("%s of %s messages are there already", f"{count:,}", f"{wanted:,}")
        wanted -= count
    started = time.monotonic()
    if settings.rate is None:
        records = _records(rows, config, range(settings.repeat), there)
        topic = config.kafka.topics.input
        problem = f"the topic {topic!r} did not take every message"
        with translate_spark_errors(ServerError, problem, ". Run again with --resume"), _counted(config, wanted):
            write_topic(records.drop("label").withColumn("topic", F.lit(topic)), config.kafka)
    else:
        send_paced(_in_order(rows, config, there), wanted, settings.rate, config)
    seconds = time.monotonic() - started
    log.info("sent %s messages in %.1f s (%s/s)", f"{wanted:,}", seconds, f"{wanted / max(seconds, 1e-3):,.0f}")
    return {"digest": rows.digest, "rows": rows.count, "sent": wanted, "seconds": round(seconds, 3)}


JOB = Job(
    NAME,
    __doc__.splitlines()[0],
    OPTIONS,
    check,
    run,
    settings=lambda _: ONE_ATTEMPT,
)
"""The job's entry point for launchers, the command line and notebooks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    run_job(JOB, argv)


def _records(rows: datasets.NumberedRows, config: Config, rounds: range, there: DataFrame | None) -> DataFrame:
    """Return the messages of some rounds, without those whose keys the topic holds already."""
    records = datasets.records(rows, config, rounds)
    return records if there is None else records.join(there, "key", "left_anti")


def _in_order(rows: datasets.NumberedRows, config: Config, there: DataFrame | None) -> Iterator[Any]:
    """Yield the messages in row order, some rounds at a time: the first must not wait for a sort of all rounds."""
    at_once = max(1, _SORTED_AT_ONCE // rows.count)
    for first in range(0, config.seed.repeat, at_once):
        rounds = range(first, min(first + at_once, config.seed.repeat))
        records = _records(rows, config, rounds, there).orderBy(datasets.NUMBER)
        yield from records.select("key", "value", "label").toLocalIterator(prefetchPartitions=True)


def _there(spark: SparkSession, rows: datasets.NumberedRows, config: Config) -> DataFrame:
    """Return the keys of this data set's wanted messages that the topic holds already.

    The keys are read from the topic, because a killed run leaves no record of the broker's last acknowledgements.
    """
    from pyspark.sql import functions as F

    key = F.col("key").cast("string")
    number = F.substring_index(key, "-", -1).cast("long")
    keys = sources.topic(spark, config.kafka, config.kafka.topics.input).select("key")
    ours = key.startswith(f"{rows.digest}-") & (number < rows.total * config.seed.repeat)
    ours &= number % rows.total < rows.count
    return keys.filter(ours).distinct()


@contextmanager
def _counted(config: Config, wanted: int) -> Iterator[None]:
    """Show a parallel write's progress by the number of messages that have arrived in the topic."""
    topic = config.kafka.topics.input
    before = topic_records.extent(config.kafka, topic).records
    finished = threading.Event()

    def watch(show: Callable[[str], None]) -> None:
        while not finished.wait(1.0):
            with suppress(ServerError):  # the write itself fails if the broker stays down
                show(f"{topic_records.extent(config.kafka, topic).records - before:,} of {wanted:,}")

    with step(f"Sending {wanted:,} messages") as show:
        watcher = threading.Thread(target=watch, args=(show,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()


if __name__ == "__main__":
    main()
