"""Score a Kafka topic with Spark ML models, compare with the labels, and write the outcomes to Kafka and Elasticsearch.

It runs until Ctrl-C or SIGTERM, finishes the batch in flight and prints a summary. A message that cannot be decoded
goes to the rejected topic with its reason and never stops the job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live

from streamscore import decoder, index, messages, models, options, runner, session, sources, topics
from streamscore.config import Config
from streamscore.console import log, step, terminal
from streamscore.errors import StreamError
from streamscore.options import Arguments, Option
from streamscore.session import StopRequest
from streamscore.sinks import BatchWriter, StatusWriter
from streamscore.totals import Totals

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from streamscore.models import ServedModel

NAME = "score_stream"
POLL_SECONDS = 0.5

OPTIONS = (
    Option("--available-now", "stream.available_now", "score what the topic holds now, then end"),
    Option("--checkpoint", "stream.checkpoint", "folder of the stream's checkpoint", "PATH"),
)


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line."""
    return options.parse(NAME, __doc__.splitlines()[0], OPTIONS, argv)


def check(config: Config) -> None:
    """Find what can be found wrong before any JVM starts: the servers, the topics, the index; make what is ours.

    Raises:
        ServerError: a server does not answer, the input topic does not exist, or the index cannot hold the outcomes.
    """
    topics.require(config.kafka, config.kafka.topics.input)
    made = topics.ensure(config.kafka, config.kafka.topics.predictions, config.kafka.topics.rejected)
    if made:
        log.info("created the topics %s", ", ".join(made))
    created = index.ensure(config.elasticsearch) if config.elasticsearch.enabled else []
    if created:
        log.info("created the indices %s", ", ".join(created))


def run(spark: SparkSession, config: Config) -> dict[str, Any]:
    """Score until the stream is asked to stop, or, with ``stream.available_now``, until the topic is scored.

    Args:
        spark: a classic session that was started with the jars.
        config: the configuration.

    Returns:
        The summary: counts in all and per model.

    Raises:
        ModelError: a model cannot be used.
        StreamError: the stream stopped on a fault; its last batch was not committed and will be replayed.
    """
    stop = StopRequest()
    with stop.listening(spark):
        with step("Loading the models"):
            served = models.load(spark, config)
        for model in served:
            log.info("model %s: version %s, %s features", model.name, model.version, f"{model.size:,}")
        totals = Totals(served, config.stream.synthetic)
        _score(spark, config, totals, stop)
    _print(totals)
    return totals.summary()


def scored_events(spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> DataFrame:
    """Return the stream of judged rows: decoded, scored by every model, compared with the label, counted."""
    decoder.register(
        spark,
        messages.DECODER,
        messages.DECODED,
        label=config.message.label_field,
        features=config.message.features_field,
        form=config.message.vector_form,
        size=served[0].size,
        max_bytes=config.message.max_bytes,
    )
    decoded = messages.decode(sources.events(spark, config))
    judged = messages.judge(models.apply(decoded, served), served)
    return judged.observe("quality", *messages.quality(served))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    runner.run_job(sys.modules[__name__], argv)


def _score(spark: SparkSession, config: Config, totals: Totals, stop: StopRequest) -> None:
    """Run the stream to its end and keep the totals up to date."""
    writer = BatchWriter(config, totals.models, stop)
    status = StatusWriter(config.elasticsearch)
    query = _start(scored_events(spark, config, totals.models), writer, config)
    log.info("scoring the topic %s, checkpoint %s", config.kafka.topics.input, config.stream.checkpoint)
    with _shown(totals, config) as refresh:
        while query.isActive and not stop:
            status.write(totals.take(query))
            refresh()
            stop.wait(POLL_SECONDS)
        if stop:
            _drain(query, writer, stop, config.stream.drain_seconds)
        status.write(totals.take(query))
        refresh()
    status.close()
    _raise_fault(query, writer, config)


def _start(judged: DataFrame, writer: BatchWriter, config: Config) -> StreamingQuery:
    settings = config.stream
    checkpoint = settings.checkpoint
    if "://" not in checkpoint:
        checkpoint = str(Path(checkpoint).resolve())
    stream = judged.writeStream.queryName(NAME).foreachBatch(writer).option("checkpointLocation", checkpoint)
    if settings.available_now:
        return stream.trigger(availableNow=True).start()
    return stream.trigger(processingTime=f"{settings.trigger_seconds * 1000:.0f} milliseconds").start()


def _drain(query: StreamingQuery, writer: BatchWriter, stop: StopRequest, patience: float) -> None:
    """Let the batch in flight be committed, then stop; ``stop()`` alone would break off between two sinks."""
    deadline = time.monotonic() + patience
    while query.isActive and query.status["isTriggerActive"] and not writer.not_started:
        if stop.urgent or time.monotonic() > deadline:
            query.stop()
            raise StreamError(
                "stopped in the middle of a batch; it is not committed and will be replayed at the next start"
            )
        time.sleep(0.1)
    query.stop()


def _raise_fault(query: StreamingQuery, writer: BatchWriter, config: Config) -> None:
    fault = query.exception()
    if fault is None or writer.not_started:
        return
    reason = _cause(str(fault))
    place = f" while writing to {writer.sink}" if writer.sink else ""
    raise StreamError(
        f"the stream stopped{place}: {reason}\n"
        "The batch in flight is not committed and will be replayed at the next start. "
        f"Spark's log: {session.log_file(config, NAME)}"
    )


def _cause(text: str) -> str:
    """Return the line that says why, from an exception with a JVM's and a Python's stack trace in it."""
    lines = [line.strip() for line in text.splitlines()]
    refusals = [line for line in lines if "EsHadoopRemoteException: " in line]
    if refusals:  # Elasticsearch's own words say more than the connector's
        return refusals[0].split("EsHadoopRemoteException: ", 1)[1][:500]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    errors = [line for line in lines if line.startswith(("py4j.protocol", ": ", "pyspark.errors"))]
    return (causes[-1] if causes else errors[-1] if errors else lines[0])[:500]


@contextmanager
def _shown(totals: Totals, config: Config) -> Iterator[Any]:
    """Keep the totals in view: a live table on a terminal, a line per interval in a log."""
    console = terminal()
    if console is None:
        last = time.monotonic()

        def log_line() -> None:
            nonlocal last
            if time.monotonic() - last >= config.stream.report_seconds:
                last = time.monotonic()
                log.info("%s", totals.line())

        yield log_line
        return
    with Live(totals.table(), console=console, auto_refresh=False, transient=True) as live:
        yield lambda: live.update(totals.table(), refresh=True)


def _print(totals: Totals) -> None:
    console = terminal()
    if console is not None:
        console.print(totals.table())
    log.info("summary: %s", totals.line())


if __name__ == "__main__":
    main()
