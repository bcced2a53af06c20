"""Score a past stretch of the input topic again, with candidates beside the configured models.

It reads the topic and writes statistics under the run's name; no topic, index or checkpoint of the running stream is
touched. Interrupted, the same command goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamscore import listeners, models, scored, sinks
from streamscore.clients import elasticsearch, kafka, quality, topic_records
from streamscore.clients.topic_records import Stretch
from streamscore.config import Config
from streamscore.config.types import iso_time
from streamscore.errors import CheckpointError, ConfigError, InputError
from streamscore.launch.arguments import Option
from streamscore.launch.job import Job
from streamscore.launch.runner import run_job
from streamscore.listeners.comparisons import Comparisons
from streamscore.listeners.terminal import print_summary
from streamscore.listeners.totals import Totals
from streamscore.models import registry
from streamscore.spark import sources
from streamscore.spark.settings import log_file, streaming
from streamscore.stream import notes, recovery, runs
from streamscore.stream.bounded import BoundedQuery, position
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.runs import Run
from streamscore.stream.stop import StopRequest
from streamscore.system.console import log, step

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from streamscore.scoring.served import ServedModel

NAME = "replay_topic"

OPTIONS = (
    Option("--from", "replay.begin", "begin of the stretch, by record times: ISO 8601, or epoch milliseconds", "TIME"),
    Option("--to", "replay.end", "end of the stretch, exclusive, written alike", "TIME"),
    Option("--model", "replay.models", "a candidate beside the configured models", "NAME=URI", is_list=True),
    Option("--name", "replay.name", "name of the run; default: made from the stretch", "NAME"),
    Option("--documents", "replay.documents", "also write documents per event, not the statistics alone"),
)


def check(config: Config) -> None:
    """Check the arguments, the servers and the stretch before any JVM starts; create nothing.

    Raises:
        ConfigError: the stretch is missing, Elasticsearch is not configured, or the run was begun with other arguments.
        InputError: the stretch has no record, or retention has dropped what is still to be scored.
        ServerError: a server does not answer, the topic does not exist, or an index cannot hold what is written.
    """
    own = _own(config)
    elasticsearch.compare(own.elasticsearch)
    if _begun(own) is None:
        _planned(own)


def run(
    spark: SparkSession,
    config: Config,
    stop: StopRequest | None = None,
    watch: Callable[[Totals], None] | None = None,
) -> dict[str, Any]:
    """Score the stretch, or what an earlier run has left of it.

    The versions of the models are those at the begin of the run, also if it is interrupted.

    Args:
        spark: a classic session that was started with the jars.
        config: the configuration.
        stop: the request to stop, for a caller that stops the job without a signal.
        watch: called with the totals after each batch.

    Returns:
        The summary: counts in total and per model, of this part of the run.

    Raises:
        ConfigError: as of ``check``.
        InputError: as of ``check``.
        ModelError: a model cannot be used.
        CheckpointError: the run is in use, damaged, or another topic's.
        StreamError: a batch failed; it is not committed, and the next start repeats it.
    """
    own = _own(config)
    stop = StopRequest() if stop is None else stop
    topic = own.kafka.topics.input
    with recovery.held(spark, own.stream, topic, stop) as held:
        run = _begun(own)
        if run is None:
            run, stretch = _planned(own)
            _tell_what_is_missing(run, stretch, own)
        _require_whole(own, run, held)
        served = _load_models(spark, own, run, held)
        totals = Totals(
            served,
            own.stream.synthetic,
            min_labelled=own.dashboard.min_labelled,
            comparisons=Comparisons(own.compare),
        )
        left = run.records - runs.done(run, held.files, held.past.committed)
        log.info(
            "replaying %s records of the topic %s from %s to %s as run %s",
            *(f"{left:,}", topic, iso_time(run.begin), iso_time(run.end), run.name),
        )
        with listeners.opened(listeners.of_replay(own, totals, left, watch)) as hearing:
            query = BoundedQuery(
                topic,
                run.first,
                run.last,
                own.stream.max_events_per_batch,
                held,
                stop,
                hearing,
                log_file(own, NAME),
                own.stream.drain_seconds,
            )
            complete = _score(spark, own, served, query)
        _require_same_topic(own, run)
    print_summary(totals)
    if complete:
        log.info("the run %s is complete: `streamscore quality --run %s` shows its figures", run.name, run.name)
    else:
        log.info("stopped before the end of the run %s: the same command goes on", run.name)
    return {**totals.summary(), "run": run.name, "complete": complete}


def _score(spark: SparkSession, config: Config, served: Sequence[ServedModel], query: BoundedQuery) -> bool:
    """Score what is left; return whether the end was reached."""
    scored.register(spark, config, served)
    room = scored.key_room(config)

    def rows(begin: Mapping[int, int], end: Mapping[int, int]) -> DataFrame:
        events = sources.records(spark, config.kafka, config.kafka.topics.input, begin, end)
        return scored.evaluated(events, served, room)

    outputs = sinks.of_replay(config)
    for sink in outputs:
        sink.prepare(spark)
    return query.run(rows, scored.observations(spark, config, served), [sink.with_models(served) for sink in outputs])


def _own(config: Config) -> Config:
    """Return the configuration of the replay itself."""
    if not config.elasticsearch.enabled:
        raise ConfigError("a replay writes its statistics to Elasticsearch, and elasticsearch.enabled is false")
    if config.replay.documents and not config.elasticsearch.documents:
        raise ConfigError("--documents writes the share elasticsearch.documents of the events, which is 0")
    return runs.of_config(config)


def _begun(config: Config) -> Run | None:
    """Return the run that was begun under the name; None if none was.

    Raises:
        ConfigError: it was begun with other arguments.
        CheckpointError: its topic was created again, or its file is damaged.
    """
    asked = runs.asked_for(config)
    begun = runs.read(runs.folder(config, asked.name))
    if begun is not None:
        runs.require_same(begun, asked)
        _require_same_topic(config, begun)
    return begun


def _planned(config: Config) -> tuple[Run, Stretch]:
    """Return a new run, and its stretch.

    Raises:
        InputError: the stretch has no record.
        ServerError: no broker answers, or the topic does not exist.
    """
    asked, topic = runs.asked_for(config), config.kafka.topics.input
    stretch = topic_records.stretch(config.kafka, topic, asked.begin, asked.end)
    if not stretch.records:
        why = f" ({_lost(stretch)})" if stretch.dropped else ""
        raise InputError(
            f"the topic {topic!r} has no record from {iso_time(asked.begin)} to {iso_time(asked.end)}{why}: the times "
            "are those of Kafka's records, in UTC unless you write an offset"
        )
    return runs.with_stretch(asked, stretch, kafka.topic_id(config.kafka, topic)), stretch


def _tell_what_is_missing(run: Run, stretch: Stretch, config: Config) -> None:
    """Log what retention has dropped, and that records of the stretch's time follow its end."""
    if stretch.dropped:
        log.warning("retention may have dropped the beginning of the stretch: %s", _lost(stretch))
    late = topic_records.earlier_than(config.kafka, run.topic, run.last, run.end)
    if late:
        log.warning(
            "the record times are not in order: of the first records behind the end of the stretch, %s are earlier "
            "than %s. They are left out, for each partition ends at its first record of that time or later",
            *(f"{late:,}", iso_time(run.end)),
        )


def _lost(stretch: Stretch) -> str:
    return "; ".join(
        f"partition {partition} no longer holds its first {dropped.records:,} records"
        + ("" if dropped.until is None else f", and begins at {iso_time(dropped.until)}")
        for partition, dropped in sorted(stretch.dropped.items())
    )


def _require_same_topic(config: Config, run: Run) -> None:
    """Refuse to count a topic that was deleted and created again since the run began.

    Raises:
        CheckpointError: it was.
    """
    now = kafka.topic_id(config.kafka, run.topic)
    if None not in {now, run.topic_id} and now != run.topic_id:
        raise CheckpointError(
            f"the topic {run.topic!r} was deleted and created again since the run {run.name!r} began: its statistics "
            f"are of another topic's events. `streamscore replay delete {run.name}` deletes it"
        )


def _require_whole(config: Config, run: Run, held: HeldCheckpoint) -> None:
    """Check that the run's folder and indices belong together, and that the topic holds what is still to be scored.

    Raises:
        CheckpointError: the indices hold another run's statistics, or the folder lacks what was asked for.
        InputError: retention has dropped records since the run began.
    """
    search, delete = config.elasticsearch, f"`streamscore replay delete {run.name}` deletes it"
    if not held.past.is_new and not runs.has_begun(config, run.name):
        raise CheckpointError(f"{held.location} has lost its {runs.FILE}, which says what the run is: {delete}")
    if quality.other_stream(search, run.topic, held.past.query) is not None:
        raise CheckpointError(
            f"the index {search.quality_index!r} at {search.url} holds statistics of another run {run.name!r}, whose "
            f"folder is not {held.location}: choose another --name, or delete that run: {delete}"
        )
    at = position(held.files, held.past.committed, run.topic, run.first)
    begin = topic_records.extent(config.kafka, run.topic).begin
    lost = sum(max(0, min(begin.get(each, 0), run.last[each]) - at[each]) for each in at)
    if lost:
        raise InputError(
            f"retention has dropped {lost:,} records of the topic {run.topic!r} that the run {run.name!r} has not "
            f"scored yet: what it has counted is a part of the stretch. {delete}"
        )


def _load_models(spark: SparkSession, config: Config, run: Run, held: HeldCheckpoint) -> list[ServedModel]:
    """Load the models and write down what the run is; a run that has begun goes on with its versions."""
    recorded = notes.recorded_models(held.files, 0) if runs.has_begun(config, run.name) else None
    with step("Loading the models"):
        if recorded is None:
            served = models.load(spark, config)
        else:
            served = models.load_recorded(spark, config, recorded, f"{held.location}/{notes.MODELS}")
    for model in served:
        log.info("model %s: version %s, %s features", model.name, model.version, f"{model.size:,}")
    elasticsearch.ensure(config.elasticsearch)
    runs.write(runs.folder(config, run.name), run)
    notes.record_models(held.files, 0, [model.identity() for model in served])
    return served


JOB = Job(NAME, __doc__.splitlines()[0], OPTIONS, check, run, settings=streaming, ahead=registry.import_ahead)
"""The job's entry point for launchers, the command line and notebooks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    run_job(JOB, argv)


if __name__ == "__main__":
    main()
