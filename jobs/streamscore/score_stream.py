"""Score a Kafka topic with Spark ML models, compare with the labels, and write the outcomes to Kafka and Elasticsearch.

It runs until Ctrl-C or SIGTERM, finishes the batch in flight and prints a summary. A message that cannot be decoded
goes to the rejected topic with its reason and never stops the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from streamscore import listeners, models, scored, sinks
from streamscore.clients import kafka, skipped
from streamscore.config import Config
from streamscore.launch.arguments import Option
from streamscore.launch.job import Job
from streamscore.launch.runner import run_job
from streamscore.listeners import exporter
from streamscore.listeners.base import BatchListener
from streamscore.listeners.comparisons import Comparisons
from streamscore.listeners.terminal import print_summary
from streamscore.listeners.totals import Totals
from streamscore.messages import decoder, event_counts
from streamscore.models import registry
from streamscore.models.watch import ModelWatch
from streamscore.sinks.base import OutcomeSink
from streamscore.spark import sources
from streamscore.spark.settings import log_file, streaming
from streamscore.stream import notes, ownership, recovery, skipping
from streamscore.stream.ownership import TopicWatch
from streamscore.stream.query import QueryRunner
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest
from streamscore.system.console import log, step

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from streamscore.scoring.served import ServedModel

NAME = "score_stream"

OPTIONS = (
    Option("--available-now", "stream.available_now", "score what the topic holds now, then end"),
    Option("--checkpoint", "stream.checkpoint", "folder of the stream's checkpoint", "PATH"),
    Option(
        "--new-checkpoint",
        "stream.new_checkpoint",
        "allow a start from another checkpoint than before",
    ),
    Option(
        "--skip",
        "stream.skip",
        "pass over a message that ends the job; may be given several times",
        "PARTITION:OFFSET",
        is_list=True,
    ),
)


def check(config: Config) -> None:
    """Check servers, topics and indices before any JVM starts, and create our missing outputs.

    Raises:
        SetupError: the port of the metrics is in use.
        ServerError: a server does not answer, the input topic does not exist, or an output cannot hold the outcomes.
    """
    exporter.check(config.metrics.port, config.metrics.address, "metrics.port")
    kafka.require(config.kafka, config.kafka.topics.input, "Read")
    for sink in sinks.configured(config):
        created = sink.check()
        if created:
            log.info("created %s", ", ".join(created))


def run(
    spark: SparkSession,
    config: Config,
    stop: StopRequest | None = None,
    watch: Callable[[Totals], None] | None = None,
) -> dict[str, Any]:
    """Score until the stream is asked to stop, or, with ``stream.available_now``, until the topic is scored.

    When the alias of a model moves, the new version passes the gate and takes over between two batches.

    Args:
        spark: a classic session that was started with the jars.
        config: the configuration.
        stop: the request to stop, for a caller that stops the stream without a signal, for instance by a time limit.
        watch: called with the totals twice a second, and when the stream has ended.

    Returns:
        The summary: counts in total and per model.

    Raises:
        ModelError: a model cannot be used.
        CheckpointError: the checkpoint is damaged, in use, another topic's, or not the one from which earlier outcomes
            were written, or the topic no longer holds its next events.
        StreamError: the stream stopped on a fault; its last batch was not committed and will be replayed.
        RejectedShareError: too many of the last messages were rejected.
    """
    stop = StopRequest() if stop is None else stop
    with recovery.held(spark, config.stream, config.kafka.topics.input, stop) as held:
        topic = TopicWatch(config, held.files, held.past)
        ownership.require_known(config, held.past)
        ownership.require_unexpired(config, held.files, held.past.committed)
        aliases = _load_models(spark, config, held)
        outputs = sinks.configured(config)
        for sink in outputs:
            sink.prepare(spark)
        if held.past.is_new:
            notes.record_outputs(held.files, {name: end for sink in outputs for name, end in sink.ends().items()})
        totals = Totals(
            aliases.served,
            config.stream.synthetic,
            aliases.refused,
            config.dashboard.min_labelled,
            Comparisons(config.compare),
        )
        with listeners.opened(listeners.configured(config, totals, watch)) as hearing:
            scoring = _Scoring(spark, config, held, topic, outputs, totals, hearing, stop)
            scoring.skip_messages(aliases.served)
            scoring.finish_batch_of_other_models(aliases.served)
            log.info("scoring the topic %s, checkpoint %s", config.kafka.topics.input, config.stream.checkpoint)
            scoring.run_until_stopped(aliases)
    print_summary(totals)
    return totals.summary()


def scored_events(spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> DataFrame:
    """Return the stream of evaluated rows: decoded, scored by every model, compared with the label, counted.

    Args:
        spark: a classic session that was started with the decoder's jar.
        config: the configuration, which names the topic and describes a message.
        served: the models, all with the same number of features.
    """
    scored.register(spark, config, served)
    events = sources.events(spark, config.kafka, config.kafka.topics.input, config.stream)
    rows = scored.evaluated(events, served, scored.key_room(config))
    # Only the metrics show these, and each event costs some time.
    counts = [] if config.metrics.port is None else [decoder.event_counts(spark).alias(event_counts.NAME)]
    return rows.observe("quality", *scored.observations(spark, config, served), *counts)


class _Scoring:
    """The consecutive queries of one run, each with the current models."""

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        held: HeldCheckpoint,
        topic: TopicWatch,
        outputs: Sequence[OutcomeSink],
        totals: Totals,
        hearing: Sequence[BatchListener],
        stop: StopRequest,
    ) -> None:
        self._spark = spark
        self._config = config
        self._held = held
        self._topic = topic
        self._sinks = outputs
        self._totals = totals
        self._stop = stop
        self._runner = QueryRunner(NAME, config.stream, held, stop, hearing, log_file(config, NAME))

    def skip_messages(self, served: Sequence[ServedModel]) -> None:
        """Pass over the messages of ``stream.skip`` that are still to be read, after scoring what is before them."""
        files, location, topic = self._held.files, self._held.location, self._config.kafka.topics.input
        for place in skipping.places(self._config.stream.skip):
            if not skipping.is_ahead(files, location, topic, place):
                log.info("stream.skip: partition %s is beyond offset %s already", *place)
                continue
            batch = skipping.plan_up_to(files, location, topic, place)
            self.finish_batch_of_other_models(served)
            if self._held.committed() < batch:
                notes.record_models(files, batch, [model.identity() for model in served])
                self._run(served, last_batch=batch)
            if self._held.committed() < batch:  # asked to stop
                return
            skipped.keep(self._config, *place)
            skipping.pass_over(files, location, topic, place)
            log.warning(
                "passed over the message at offset %s of partition %s of %s", place.offset, place.partition, topic
            )

    def finish_batch_of_other_models(self, served: Sequence[ServedModel]) -> None:
        """Finish an earlier run's batch with the models of that run, so that no batch mixes versions."""
        held = self._held
        if not held.past.is_unfinished:  # after a clean shutdown a batch without a commit was only planned
            return
        recorded = notes.recorded_models(held.files, held.past.planned)
        if recorded is None or recorded == [model.identity() for model in served]:
            return
        names = ", ".join(f"{model['name']} {model['version']}" for model in recorded)
        log.info("batch %s was begun with %s: finishing it with them", held.past.planned, names)
        earlier = models.load_recorded(self._spark, self._config, recorded, f"{held.location}/{notes.MODELS}")
        self._run(earlier, last_batch=held.past.planned)

    def run_until_stopped(self, aliases: ModelWatch) -> None:
        """Score; when new models take over, restart the query with them between two batches."""
        next_batch = self._held.next_batch
        served = None
        while served is not aliases.served and not self._stop:
            served = aliases.served
            notes.record_models(self._held.files, next_batch, [model.identity() for model in served])
            next_batch = self._run(served, interrupted=partial(self._is_over, aliases, served)) + 1

    def _is_over(self, aliases: ModelWatch, served: Sequence[ServedModel]) -> bool:
        """Return whether the query must end: the topic was recreated, or new models take over."""
        return self._topic.has_changed() or self._are_replaced(aliases, served)

    def _are_replaced(self, aliases: ModelWatch, served: Sequence[ServedModel]) -> bool:
        """Return whether new models take over. Never before the batch that a run left unfinished is committed."""
        return (self._totals.batches > 0 or not self._held.past.is_unfinished) and aliases.replaces(served)

    def _run(self, served: Sequence[ServedModel], **how: Any) -> int:
        """Run one query and return the number of its last committed batch."""
        self._totals.models = served
        rows = scored_events(self._spark, self._config, served)
        with self._topic.required():
            return self._runner.run(rows, [sink.with_models(served) for sink in self._sinks], **how)


def _load_models(spark: SparkSession, config: Config, held: HeldCheckpoint) -> ModelWatch:
    with step("Loading the models"):
        recorded = notes.recorded_models(held.files, held.past.planned + 1)
        aliases = ModelWatch(spark, config, models.load(spark, config, recorded))
    for model in aliases.served:
        log.info("model %s: version %s, %s features", model.name, model.version, f"{model.size:,}")
    return aliases


JOB = Job(NAME, __doc__.splitlines()[0], OPTIONS, check, run, settings=streaming, ahead=registry.import_ahead)
"""The job's entry point for launchers, the command line and notebooks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    run_job(JOB, argv)


if __name__ == "__main__":
    main()
