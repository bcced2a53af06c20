"""Score a Kafka topic with Spark ML models, compare with the labels, and write the outcomes to Kafka and Elasticsearch.

It runs until Ctrl-C or SIGTERM, finishes the batch in flight and prints a summary. A message that cannot be decoded
goes to the rejected topic with its reason and never stops the job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from streamscore import models
from streamscore.clients import elasticsearch, kafka
from streamscore.config import Config
from streamscore.errors import StreamError
from streamscore.launch import arguments, runner
from streamscore.launch.arguments import Arguments, Option
from streamscore.models import registry
from streamscore.models.watch import ModelWatch
from streamscore.sinks import BatchWriter, Replay, prepare_table
from streamscore.spark import session
from streamscore.spark.session import StopRequest
from streamscore.stream import NAME, Stream, checkpoint, ownership
from streamscore.stream.checkpoint import Folder, State
from streamscore.stream.ownership import TopicWatch
from streamscore.stream.progress import Totals
from streamscore.system import failpoints
from streamscore.system.console import log, step, terminal

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streamscore.scoring import ServedModel

OPTIONS = (
    Option("--available-now", "stream.available_now", "score what the topic holds now, then end"),
    Option("--checkpoint", "stream.checkpoint", "folder of the stream's checkpoint", "PATH"),
    Option(
        "--new-checkpoint",
        "stream.new_checkpoint",
        "allow a start from another checkpoint than before",
    ),
)


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line."""
    return arguments.parse(NAME, __doc__.splitlines()[0], OPTIONS, argv)


def check(config: Config) -> None:
    """Find what can be found wrong before any JVM starts: the servers, the topics, the index; make what is ours.

    Raises:
        ServerError: a server does not answer, the input topic does not exist, or the index cannot hold the outcomes.
    """
    kafka.require(config.kafka, config.kafka.topics.input)
    made = kafka.ensure(config.kafka, config.kafka.topics.predictions, config.kafka.topics.rejected)
    if made:
        log.info("created the topics %s", ", ".join(made))
    created = elasticsearch.ensure(config.elasticsearch) if config.elasticsearch.enabled else []
    if created:
        log.info("created the indices %s", ", ".join(created))


def run(
    spark: SparkSession,
    config: Config,
    stop: StopRequest | None = None,
    watch: Callable[[Totals], None] | None = None,
) -> dict[str, Any]:
    """Score until the stream is asked to stop, or, with ``stream.available_now``, until the topic is scored.

    When the alias of a model moves, the new version is judged, and takes over between two batches.

    Args:
        spark: a classic session that was started with the jars.
        config: the configuration.
        stop: the request to stop, for a caller who has another reason to than a signal, for instance a time.
        watch: called with the totals some times a second, and when the stream has ended.

    Returns:
        The summary: counts in all and per model.

    Raises:
        ModelError: a model cannot be used.
        CheckpointError: the checkpoint is damaged, in use, another topic's, or not the one that earlier outcomes
            were written from.
        StreamError: the stream stopped on a fault; its last batch was not committed and will be replayed.
        RejectedShareError: too many of the last messages were rejected.
    """
    location = config.stream.checkpoint
    stop = StopRequest() if stop is None else stop
    jvm = session.jvm_pid(spark)
    failpoints.arm(jvm)
    files = checkpoint.folder(location, spark)
    runs = partial(session.runs_query, spark)
    with stop.listening(spark), checkpoint.hold(files, location, jvm, runs) as past:
        checkpoint.require_topic(files, location, config.kafka.topics.input)
        topic = TopicWatch(config, files, past)
        ownership.require_known(config, past)
        with step("Loading the models"):
            noted = checkpoint.noted_models(files, past.planned + 1)
            aliases = ModelWatch(spark, config, models.load(spark, config, noted))
        for model in aliases.served:
            log.info("model %s: version %s, %s features", model.name, model.version, f"{model.size:,}")
        prepare_table(spark, config.delta)
        query = partial(checkpoint.query_id, files, location)
        limit = kafka.max_message_bytes(config.kafka, config.kafka.topics.rejected)
        writer = partial(
            BatchWriter,
            config,
            stop=stop,
            query=query,
            max_record_bytes=limit,
            trust_store=session.trust_store(spark, config),
            replay=_replay(past),
        )
        totals = Totals(aliases.served, config.stream.synthetic, aliases.refused)
        run_query = partial(_run_query, Stream(spark, config, stop, totals, watch), files, location)
        earlier = _earlier_models(files, past, aliases.served)
        if earlier:
            names = ", ".join(f"{model['name']} {model['version']}" for model in earlier)
            log.info("batch %s was begun with %s: finishing it with them", past.planned, names)
            begun = models.load_noted(spark, config, earlier, f"{location}/{checkpoint.MODELS}")
            run_query(writer(begun, last_batch=past.planned))
        log.info("scoring the topic %s, checkpoint %s", config.kafka.topics.input, location)
        begun_with = None
        next_batch = (past.committed if past.clean else past.planned) + 1
        while begun_with is not aliases.served and not stop:
            begun_with = aliases.served
            checkpoint.note_models(files, next_batch, [model.identity() for model in begun_with])
            interrupted = partial(_interrupted, topic, aliases, begun_with, past, totals)
            with topic.required():
                next_batch = run_query(writer(begun_with), interrupted) + 1
    _print(totals)
    return totals.summary()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    runner.run_job(sys.modules[__name__], argv, ahead=registry.import_ahead)


def _earlier_models(files: Folder, past: State, served: Sequence[ServedModel]) -> list[dict[str, str]] | None:
    """Return the other models with which a batch was begun: it is finished with those, so that none mixes versions.

    After an orderly end no batch had begun: what has no commit was planned only.
    """
    if not past.is_unfinished:
        return None
    noted = checkpoint.noted_models(files, past.planned)
    return None if noted == [model.identity() for model in served] else noted


def _interrupted(
    topic: TopicWatch, aliases: ModelWatch, begun_with: Sequence[ServedModel], past: State, totals: Totals
) -> bool:
    """Return whether the query has to stop: the topic was created again, or new models take over."""
    return topic.has_changed() or _replaced(aliases, begun_with, past, totals)


def _replaced(aliases: ModelWatch, begun_with: Sequence[ServedModel], past: State, totals: Totals) -> bool:
    """Tell whether other models are to go on: not before the batch is finished that an earlier life has begun."""
    return (totals.batches > 0 or not past.is_unfinished) and aliases.replaces(begun_with)


def _run_query(
    stream: Stream, files: Folder, location: str, writer: BatchWriter, interrupted: Callable[[], bool] = lambda: False
) -> int:
    """Run the query and return the number of its last batch.

    If somebody else has stopped it amid a batch, a notebook's button, a platform, a second run from the same
    checkpoint, Spark reports no error; but it is no end in order.
    """
    stream.run(writer, interrupted)
    committed = checkpoint.inspect(files, location).committed
    if writer.begun > committed:
        raise StreamError(
            f"the query was stopped by someone else in the middle of batch {writer.begun}; it is not committed and "
            "will be replayed at the next start"
        )
    return committed


def _replay(past: State) -> Replay | None:
    """Return which batches may have been written before."""
    if past.last_replayed < 0 or past.since is None:
        return None
    return Replay(past.last_replayed, past.since)


def _print(totals: Totals) -> None:
    console = terminal()
    if console is not None:
        with suppress(OSError):  # the terminal may have gone
            console.print(totals.table())
    log.info("summary: %s", totals.line())


if __name__ == "__main__":
    main()
