"""Join labels that arrive later than their events with the outcomes, and restate how good the models were.

It runs until Ctrl-C or SIGTERM and finishes the batch in flight. A label whose event is not scored yet waits. A message
that holds no label goes to the rejected topic with its reason and never stops the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamscore import listeners
from streamscore.clients import kafka
from streamscore.clients import labels as client
from streamscore.config import Config
from streamscore.errors import ConfigError
from streamscore.launch.arguments import Option
from streamscore.launch.job import Job
from streamscore.launch.runner import run_job
from streamscore.listeners import exporter
from streamscore.listeners.label_totals import LabelTotals
from streamscore.sinks.labels import LateLabels
from streamscore.spark import sources
from streamscore.spark.settings import log_file, streaming
from streamscore.stream import checkpoint, notes, ownership, recovery
from streamscore.stream.ownership import TopicWatch
from streamscore.stream.query import QueryRunner
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest
from streamscore.system.console import log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NAME = "label_stream"

OPTIONS = (
    Option("--available-now", "stream.available_now", "join the labels that the topic holds now, then end"),
    Option("--checkpoint", "labels.checkpoint", "folder of the job's checkpoint", "PATH"),
)


def check(config: Config) -> None:
    """Check servers, topics and indices before any JVM starts, and create our missing outputs.

    Raises:
        ConfigError: Elasticsearch is not configured, two topics or indices have one name, or no outcome has a key.
        SetupError: the port of the metrics is in use.
        ServerError: a server does not answer, the topic of labels does not exist, or an index cannot hold the labels.
    """
    search, topics = config.elasticsearch, config.kafka.topics
    if not search.enabled:
        raise ConfigError("late labels find their events in Elasticsearch, and elasticsearch.enabled is false")
    _require_distinct("topics", [topics.input, topics.predictions, topics.rejected, topics.labels, topics.labelled])
    own = [search.labelled_index, search.pending_index, search.labels_status_index]
    _require_distinct("indices", [*search.indices, *own])
    if config.labels.checkpoint == config.stream.checkpoint:
        raise ConfigError(f"labels.checkpoint and stream.checkpoint are both {config.labels.checkpoint}")
    exporter.check(config.metrics.labels_port, config.metrics.address, "metrics.labels_port")
    kafka.require(config.kafka, topics.labels, "Read")
    created = LateLabels(config).check()
    if created:
        log.info("created %s", ", ".join(created))
    if config.labels.match == "key" and client.has_field(search, topics.input, "key") is False:
        raise ConfigError(
            f"no outcome in {search.index!r} has a key, because the messages of {topics.input!r} have none: labels "
            "cannot find their events by it. Set labels.match to event_id"
        )
    if search.documents < 1:
        log.warning(
            "elasticsearch.documents is %s: a label finds only events whose documents were kept; the labels of the "
            "others wait in vain, until they expire",
            search.documents,
        )


def run(spark: SparkSession, config: Config, stop: StopRequest | None = None) -> dict[str, Any]:
    """Join labels until the stream is asked to stop, or, with ``stream.available_now``, until the topic is read.

    Args:
        spark: a classic session that was started with the jars.
        config: the configuration.
        stop: the request to stop, for a caller that stops the stream without a signal.

    Returns:
        The summary: what became of the labels.

    Raises:
        CheckpointError: the checkpoint is damaged, in use, or another topic's, or the topic no longer holds its next
            labels.
        StreamError: the stream stopped on a fault; its last batch was not committed and will be replayed.
    """
    stop = StopRequest() if stop is None else stop
    reading, topic = _reading(config), config.kafka.topics.labels
    with recovery.held(spark, reading.stream, topic, stop) as held:
        watch = TopicWatch(reading, held.files, held.past)
        ownership.require_unexpired(reading, held.files, held.past.committed)
        sink = LateLabels(config)
        sink.prepare(spark)
        if held.past.is_new:
            notes.record_outputs(held.files, sink.ends())
        else:
            sink.take_up(held.query_id())
        totals = LabelTotals(sink.counts, config.stream.report_seconds)
        with listeners.opened(listeners.of_labels(config, totals)) as hearing:
            runner = QueryRunner(NAME, reading.stream, held, stop, hearing, log_file(config, NAME))
            log.info("joining the labels of the topic %s, checkpoint %s", topic, reading.stream.checkpoint)
            labels = sources.events(spark, config.kafka, topic, reading.stream)
            is_last, ends = False, config.stream.available_now

            def is_over() -> bool:
                return watch.has_changed() or (not ends and sink.is_due())

            while not stop:
                with watch.required():
                    runner.run(labels, [sink], interrupted=is_over)
                if ends and (is_last or not sink.waits):
                    break
                is_last = sink.tries_all = ends
                sink.tries_again = True
                _plan_empty_batch(held, topic)
        log.info("summary: %s", totals.line())
    return totals.summary()


def _plan_empty_batch(held: HeldCheckpoint, topic: str) -> None:
    """Let the next batch be one without messages, in which waiting labels are tried again."""
    past = checkpoint.inspect(held.files, held.location)
    if past.committed >= 0 and past.planned == past.committed:
        checkpoint.plan(held.files, past.committed + 1, topic, checkpoint.offsets(held.files, past.committed)[topic])


def _reading(config: Config) -> Config:
    """Return the configuration with the topic and the checkpoint of the labels in the place of the events'."""
    topics = config.kafka.topics.model_copy(update={"input": config.kafka.topics.labels})
    stream = {"checkpoint": config.labels.checkpoint, "skip": (), "new_checkpoint": False}
    return config.model_copy(
        update={
            "kafka": config.kafka.model_copy(update={"topics": topics}),
            "stream": config.stream.model_copy(update=stream),
        }
    )


def _settings(config: Config) -> Mapping[str, str]:
    return streaming(_reading(config))


def _require_distinct(kind: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"late labels need {kind} of their own, and {twice[0]!r} is named twice")


JOB = Job(NAME, __doc__.splitlines()[0], OPTIONS, check, run, settings=_settings)
"""The job's entry point for launchers, the command line and notebooks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    run_job(JOB, argv)


if __name__ == "__main__":
    main()
