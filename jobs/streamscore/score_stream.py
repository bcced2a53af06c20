"""Score a Kafka topic with Spark ML models, compare with the labels, and write the outcomes to Kafka and Elasticsearch.

It runs until Ctrl-C or SIGTERM, finishes the batch in flight and prints a summary. A message that cannot be decoded
goes to the rejected topic with its reason and never stops the job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.live import Live

from streamscore import checkpoint, decoder, faults, index, messages, models, options, runner, session, sources, topics
from streamscore.checkpoint import State
from streamscore.config import Config
from streamscore.console import log, step, terminal
from streamscore.errors import CheckpointError, StreamError
from streamscore.options import Arguments, Option
from streamscore.report import Totals
from streamscore.session import StopRequest
from streamscore.sinks import BatchWriter, Replay, StatusWriter

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from streamscore.models import ServedModel

NAME = "score_stream"
POLL_SECONDS = 0.5

OPTIONS = (
    Option("--available-now", "stream.available_now", "score what the topic holds now, then end"),
    Option("--checkpoint", "stream.checkpoint", "folder of the stream's checkpoint", "PATH"),
    Option("--new-checkpoint", "stream.new_checkpoint", "start from a checkpoint that the index does not know"),
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


def run(
    spark: SparkSession,
    config: Config,
    stop: StopRequest | None = None,
    watch: Callable[[Totals], None] | None = None,
) -> dict[str, Any]:
    """Score until the stream is asked to stop, or, with ``stream.available_now``, until the topic is scored.

    Args:
        spark: a classic session that was started with the jars.
        config: the configuration.
        stop: the request to stop, for a caller who has another reason to than a signal, for instance a time.
        watch: called with the totals some times a second, and when the stream has ended.

    Returns:
        The summary: counts in all and per model.

    Raises:
        ModelError: a model cannot be used.
        CheckpointError: the checkpoint is damaged, in use, or not the one that the index was written from.
        StreamError: the stream stopped on a fault; its last batch was not committed and will be replayed.
        RejectedShareError: too many of the last messages were rejected.
    """
    stop = StopRequest() if stop is None else stop
    jvm = session.jvm_pid(spark)
    faults.arm(jvm)
    files = checkpoint.folder(config.stream.checkpoint, spark)
    with stop.listening(spark), checkpoint.hold(files, config.stream.checkpoint, jvm) as past:
        _require_known_past(config, past)
        with step("Loading the models"):
            served = models.load(spark, config)
        for model in served:
            log.info("model %s: version %s, %s features", model.name, model.version, f"{model.size:,}")
        totals = Totals(served, config.stream.synthetic)
        noted = checkpoint.noted_models(files, past.planned)
        _finish_with_earlier_models(spark, config, past, noted, totals, stop)
        checkpoint.note_models(files, past.planned + 1, [model.described() for model in served])
        totals.models = served
        if not stop:
            _score(spark, config, totals, stop, BatchWriter(config, served, stop, _replay(past)), watch)
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


def _require_known_past(config: Config, past: State) -> None:
    """Refuse to score a topic from another checkpoint than the index was written from.

    From a new one the whole topic would be scored again, or, with ``starting_offsets: latest``, a part of it never.
    """
    if not config.elasticsearch.enabled or config.stream.new_checkpoint:
        return
    known = index.checkpoint_of(config.elasticsearch, config.kafka.topics.input)
    if known is not None and known != past.query:
        found = "is new" if past.is_new else f"belongs to stream {past.query}"
        raise CheckpointError(
            f"the index {config.elasticsearch.index!r} holds outcomes of the topic {config.kafka.topics.input!r} from "
            f"stream {known}, but the checkpoint {config.stream.checkpoint} {found}. Give the checkpoint of that "
            "stream with --checkpoint, or accept a new beginning with --new-checkpoint"
        )


def _finish_with_earlier_models(
    spark: SparkSession,
    config: Config,
    past: State,
    noted: list[dict[str, str]] | None,
    totals: Totals,
    stop: StopRequest,
) -> None:
    """Run a batch that was begun with other models again with those, so that no batch mixes versions."""
    if past.planned == past.committed or noted is None or noted == [model.described() for model in totals.models]:
        return
    names = ", ".join(f"{model['name']} {model['version']}" for model in noted)
    log.info("batch %s was begun with %s: finishing it with them", past.planned, names)
    earlier = models.load_noted(spark, config, noted)
    totals.models = earlier
    _score(spark, config, totals, stop, BatchWriter(config, earlier, stop, _replay(past), last_batch=past.planned))


def _replay(past: State) -> Replay | None:
    """Return which batches may have been written before."""
    if past.last_replayed < 0 or past.since is None:
        return None
    return Replay(past.last_replayed, past.since)


def _score(
    spark: SparkSession,
    config: Config,
    totals: Totals,
    stop: StopRequest,
    writer: BatchWriter,
    watch: Callable[[Totals], None] | None = None,
) -> None:
    """Run the stream to its end, or to the writer's last batch, and keep the totals up to date."""
    status = StatusWriter(config.elasticsearch)
    query = _start(scored_events(spark, config, writer.models), writer, config)
    with _stopped_at_last(query), _shown(totals, config, watch) as refresh:
        if config.elasticsearch.enabled:
            index.note_checkpoint(config.elasticsearch, config.kafka.topics.input, str(query.id))
        log.info("scoring the topic %s, checkpoint %s", config.kafka.topics.input, config.stream.checkpoint)
        while query.isActive and not stop and not writer.finished and not totals.too_many_rejected(config.stream):
            _take(query, totals, status)
            refresh()
            stop.wait(POLL_SECONDS)
        _drain(query, writer, stop, config.stream.drain_seconds)
        _take(query, totals, status)
        refresh()
    status.close()
    _raise_fault(query, writer, config)
    totals.require_few_rejected(config.stream, config.kafka.topics.rejected)


@contextmanager
def _stopped_at_last(query: StreamingQuery) -> Iterator[None]:
    """Stop a query on the way out: a session that lives on, a notebook's, must not go on with it after an error."""
    try:
        yield
    finally:
        query.stop()


def _take(query: StreamingQuery, totals: Totals, status: StatusWriter) -> None:
    """Add the batches that have ended to the totals and tell of them."""
    taken = totals.take(query)
    status.write(taken)
    for _ in taken:
        faults.reach("committed")


def _start(judged: DataFrame, writer: BatchWriter, config: Config) -> StreamingQuery:
    settings = config.stream
    stream = judged.writeStream.queryName(NAME).foreachBatch(writer).option("checkpointLocation", settings.checkpoint)
    if settings.available_now:
        return stream.trigger(availableNow=True).start()
    return stream.trigger(processingTime=f"{settings.trigger_seconds * 1000:.0f} milliseconds").start()


def _drain(query: StreamingQuery, writer: BatchWriter, stop: StopRequest, patience: float) -> None:
    """Let the batch in flight be committed, then stop; ``stop()`` alone would break off between two sinks."""
    deadline = time.monotonic() + patience
    writer.closing = True
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
def _shown(totals: Totals, config: Config, watch: Callable[[Totals], None] | None) -> Iterator[Callable[[], None]]:
    """Keep the totals in view: with whoever watches, in a live table on a terminal, in a log line per interval."""
    if watch is not None:
        yield lambda: watch(totals)
        return
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
