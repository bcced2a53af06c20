"""The guarantee of every message once under faults inside one process, and an oracle that detects bugs."""

import random
import shutil
import threading
import time
from pathlib import Path

import oracle
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.sql import functions as F

from streamscore import models, score_stream, scored, sinks
from streamscore.clients import kafka, topic_records
from streamscore.errors import CheckpointError, ModelError, RejectedShareError, StreamError
from streamscore.models.watch import ModelWatch
from streamscore.sinks.quality import QualityStatistics
from streamscore.spark import sources
from streamscore.stream import checkpoint, folders, lease, ownership, query
from streamscore.stream.checkpoint import State
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest
from streamscore.system import failpoints

POINTS = [
    *("entry", "rejected-half", "rejected", "index-half", "index", "quality-half", "quality"),
    *("records-half", "records"),
]


@pytest.fixture
def world(own, small_models):
    """Return a function that makes a configuration with 600 messages in its topic, and their ledger."""

    def make(*overrides, seed=1, count=600, **options):
        config = own(
            oracle.listed(small_models),
            "stream.available_now=true",
            "stream.max_events_per_batch=250",
            "elasticsearch.retry_seconds=0",
            *overrides,
        )
        kafka.ensure(config.kafka, config.kafka.topics.input)
        ledger = oracle.Ledger(seed)
        oracle.send(config, ledger.next_messages(count, **options))
        score_stream.check(config)
        return config, ledger

    return make


@pytest.fixture
def break_off(spark, monkeypatch):
    """Return a function that runs a job until a fault at a point ends it; the next run has none."""

    def run(config, point, nth=1, error=StreamError):
        with monkeypatch.context() as armed:
            armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
            armed.setenv("STREAMSCORE_FAULT", f"{point}:raise:{nth}")
            with pytest.raises(error):
                score_stream.run(spark, config)

    yield run
    failpoints.arm(0)


def run_to_the_end(spark, config, break_off, points):
    """Run once per point with a fault there, then without one."""
    for number, point in enumerate(points):
        break_off(config, point, 1 + number % 2)
    score_stream.run(spark, config)


def test_every_message_once_whatever_fails_in_between(spark, world, break_off, small_models):
    """Each run fails at another point; finally nothing is lost, duplicated or wrong."""
    config, ledger = world(count=2000)
    run_to_the_end(spark, config, break_off, POINTS)

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def test_every_message_once_with_kafka_alone(spark, world, break_off, small_models):
    """With Kafka alone a batch is read once and not cached; a replay is still compared with the topic."""
    config, ledger = world("elasticsearch.enabled=false", count=2000)
    run_to_the_end(spark, config, break_off, ["entry", "records-half", "records"])

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


# Deliberate bugs, each with the finding that the oracle must report.


def no_document_id(monkeypatch):
    """Write documents without our ids."""
    write = sinks.elasticsearch.write_index
    monkeypatch.setattr(
        sinks.elasticsearch,
        "write_index",
        lambda frame, *rest: write(frame.withColumn("document_id", F.expr("uuid()")), *rest),
    )


def no_replay_filter(monkeypatch):
    """Write all records again on a replay."""
    monkeypatch.setattr(sinks.kafka, "records_without", lambda records, *_: records)


def no_memory_of_a_disorderly_end(monkeypatch):
    """Forget that an earlier run ended without a clean shutdown."""
    monkeypatch.setattr(HeldCheckpoint, "replay", None)


def filter_forgets_the_version(monkeypatch):
    """Let the replay's filter confuse the records of two models."""
    monkeypatch.setattr(sinks.kafka, "IDENTITY", ["event_id"])


def failure_swallowed(monkeypatch):
    """Let a sink report success after a failure."""
    write = sinks.kafka.write_topic

    def quiet(frame, *rest):
        try:
            write(frame.filter("topic = 'nowhere'"), *rest)
            raise RuntimeError  # noqa: TRY301 (the broker did not accept them)
        except RuntimeError:
            pass

    monkeypatch.setattr(sinks.kafka, "write_topic", quiet)


def decoder_without_checks(monkeypatch):
    """Replace the strict decoder by Spark's JSON reader, without our checks."""
    schema = (
        "struct<label: double, features: struct<type: tinyint, size: int, indices: array<int>, values: array<double>>>"
    )

    def decode(events, *room):
        value = F.from_json(F.col("value").cast("string"), schema)
        readable = F.coalesce(value["features"]["values"].isNotNull(), F.lit(False))
        decoded = original(events, *room)
        return decoded.withColumn("reason", F.when(~readable, F.col("reason")))

    original = scored.decode
    monkeypatch.setattr(scored, "decode", decode)


def wrong_reason(monkeypatch):
    """Give every rejected message the same reason."""
    with_correct = scored.with_correct
    same = F.when(F.col("reason").isNotNull(), "not_json").alias("reason")
    monkeypatch.setattr(scored, "with_correct", lambda *given: with_correct(*given).withColumn("reason", same))


def label_compared_the_wrong_way(monkeypatch):
    """Invert the comparison with the label."""
    with_correct = scored.with_correct
    monkeypatch.setattr(
        scored,
        "with_correct",
        lambda rows, served: with_correct(rows, served).withColumn(
            "correct_lr", (1 - F.col("correct_lr")).cast("byte")
        ),
    )


def score_of_the_other_class(monkeypatch):
    """Report the probability of class 0."""
    with_correct = scored.with_correct
    monkeypatch.setattr(
        scored,
        "with_correct",
        lambda rows, served: with_correct(rows.withColumn("score_lr", 1 - F.col("score_lr")), served),
    )


def begins_at_the_end(monkeypatch):
    """Start a new checkpoint at the latest offsets."""
    events = sources.events

    def late(spark, kafka, topic, settings):
        return events(spark, kafka, topic, settings.model_copy(update={"starting_offsets": "latest"}))

    monkeypatch.setattr(sources, "events", late)


def counted_twice_on_a_replay(monkeypatch):
    """Add a replayed batch to the statistics again."""

    def before(_, kept, __):
        return None if kept is None else kept.source

    monkeypatch.setattr(QualityStatistics, "_before", before)


def statistics_of_half_a_batch(monkeypatch):
    """Let the sink of statistics report success after half of a batch."""
    write = sinks.quality.client.write
    monkeypatch.setattr(
        sinks.quality.client, "write", lambda server, settings, changes: write(server, settings, changes[::2])
    )


BUGS = {
    no_document_id: {"duplicated documents"},
    no_replay_filter: {"duplicated"},
    no_memory_of_a_disorderly_end: {"duplicated"},
    filter_forgets_the_version: {"lost"},
    failure_swallowed: {"lost"},
    decoder_without_checks: {"phantom", "lost"},
    wrong_reason: {"wrong reason"},
    label_compared_the_wrong_way: {"divergent"},
    score_of_the_other_class: {"divergent"},
    begins_at_the_end: {"lost", "lost documents"},
    counted_twice_on_a_replay: {"divergent statistics"},
    statistics_of_half_a_batch: {"lost statistics"},
}
BUGS_OF_REPLAYS = {
    *(no_document_id, no_replay_filter, no_memory_of_a_disorderly_end, filter_forgets_the_version),
    counted_twice_on_a_replay,
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_the_oracle_notices(spark, world, break_off, small_models, monkeypatch, bug):
    """The oracle reports each deliberate bug: those of replays after two failures, all others after a plain run."""
    config, ledger = world(count=300)
    with monkeypatch.context() as broken:
        bug(broken)
        run_to_the_end(spark, config, break_off, ["records-half", "index"] if bug in BUGS_OF_REPLAYS else [])
    judgement = oracle.faults(oracle.judge(spark, config, ledger, small_models))

    assert judgement.keys() >= BUGS[bug]


def test_create_in_place_of_index_would_stop_the_stream(spark, world, break_off, monkeypatch):
    """With the operation `create` a replay fails on existing documents."""
    config, _ = world(count=100)
    break_off(config, "records")
    original = sinks.elasticsearch.write_index

    def creating(documents, settings, *rest):
        with monkeypatch.context() as patched:
            patched.setattr(sinks.elasticsearch, "_credentials", lambda _: {"es.write.operation": "create"})
            original(documents, settings, *rest)

    monkeypatch.setattr(sinks.elasticsearch, "write_index", creating)
    with pytest.raises(StreamError, match="version conflict|document already exists"):
        score_stream.run(spark, config)


def test_batch_is_read_and_scored_once_for_all_sinks(spark, world, monkeypatch):
    """Each event is observed once, not once per sink."""
    config, ledger = world()

    assert score_stream.run(spark, config)["events"] == ledger.sent


def test_batch_begun_with_other_models_is_finished_with_them(spark, world, break_off, small_models, tmp_path, outcomes):
    """The replayed batch keeps its versions, the next one has the new versions, and no event has both."""
    config, ledger = world("stream.max_events_per_batch=300")
    break_off(config, "index")
    changed = with_other_lr(config, str(tmp_path / "lr"), spark)
    old = models.load(spark, config)[0].version
    new = models.load(spark, changed)[0].version
    score_stream.run(spark, changed)
    versions = {}
    for outcome in outcomes(config):
        if outcome["model"] == "lr":
            versions.setdefault(outcome["event_id"], []).append(outcome["model_version"])

    assert old != new
    assert all(len(found) == 1 for found in versions.values())
    assert {found[0] for found in versions.values()} == {old, new}
    assert len(versions) == len(ledger.good)


def test_models_that_a_batch_was_begun_with_may_be_gone(spark, world, break_off, small_models, tmp_path):
    """The start is refused with a remedy, although the configuration is correct."""
    config, _ = world(count=50)
    folder = tmp_path / "gone"
    begun = with_other_lr(config, str(folder), spark)
    break_off(begun, "index")
    shutil.rmtree(folder)

    with pytest.raises(
        ModelError, match="begun with version .* of the model 'lr', .*put it back, or delete .*models.json"
    ):
        score_stream.run(spark, config)


def test_query_that_somebody_else_stops_amid_a_batch_is_no_end_in_order(spark, world, small_models, monkeypatch):
    """Spark reports no error, but the next start replays the batch without duplicates."""
    config, ledger = world()
    write = sinks.kafka.write_topic
    stopping = []

    def written_while_it_is_stopped(frame, *rest):
        write(frame, *rest)
        (query,) = spark.streams.active
        stopping.append(threading.Thread(target=query.stop))
        stopping[0].start()
        while query.isActive:
            time.sleep(0.1)
        time.sleep(3)  # the write is interrupted meanwhile

    with monkeypatch.context() as patched:
        patched.setattr(sinks.kafka, "write_topic", written_while_it_is_stopped)
        with pytest.raises(StreamError, match="stopped by someone else in the middle of batch 0"):
            score_stream.run(spark, config)
    stopping[0].join(60)
    score_stream.run(spark, config)

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def with_other_lr(config, folder, spark):
    """Train another logistic regression into a folder and return a configuration with it."""
    generator = random.Random(99)
    rows = [(float(generator.random() < 0.7), oracle.vector(generator)) for _ in range(200)]
    Pipeline(stages=[LogisticRegression(maxIter=3)]).fit(spark.createDataFrame(rows, ["label", "features"])).save(
        folder
    )
    first = config.models[0].model_copy(update={"uri": folder, "trust": "unsigned"})
    return config.model_copy(update={"models": (first, *config.models[1:])})


def test_models_are_not_replaced_before_a_batch_that_was_begun_is_finished(spark, world, break_off, monkeypatch):
    """The unfinished batch's earlier outcomes are those of the previous models."""
    config, _ = world(count=2000)
    break_off(config, "index")
    monkeypatch.setattr(query, "POLL_SECONDS", 0.02)
    committed = []

    def replaces(*_):
        files = folders.open_folder(config.stream.checkpoint)
        committed.append(checkpoint.inspect(files, config.stream.checkpoint).committed)
        return False

    monkeypatch.setattr(ModelWatch, "replaces", replaces)
    score_stream.run(spark, config)

    assert committed
    assert min(committed) >= 0


def test_second_session_of_one_jvm_does_not_take_the_checkpoint_from_the_first(spark, world, small_models, monkeypatch):
    """The second of two notebooks on one cluster is refused; Spark would stop the first one's query amid a batch."""
    config, ledger = world("stream.available_now=false")
    stop, begun = StopRequest(), threading.Event()

    def watch(totals):
        if totals.batches:
            begun.set()

    first = threading.Thread(target=score_stream.run, args=(spark, config, stop, watch))
    first.start()
    try:
        assert begun.wait(120)
        monkeypatch.setattr(lease, "PATIENCE", 1.0)
        with pytest.raises(CheckpointError, match="is in use by another session of this Spark application"):
            score_stream.run(spark.newSession(), config)
        assert first.is_alive()
    finally:
        stop.ask("a test")
        first.join(60)

    again = config.model_copy(update={"stream": config.stream.model_copy(update={"available_now": True})})
    score_stream.run(spark.newSession(), again)
    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def test_write_that_is_repeated_counts_every_event_once(spark, world, small_models, monkeypatch):
    """A write that is retried after a failed task counts every event once, although Spark cached the task's rows."""
    config, ledger = world("elasticsearch.retry_seconds=60")
    write, failed = sinks.elasticsearch.write_index, []

    def refuse_once(documents, *rest):
        if not failed:
            failed.append(True)
            documents.foreach(lambda _: 1 / 0)
        write(documents, *rest)

    monkeypatch.setattr(sinks.elasticsearch, "write_index", refuse_once)
    monkeypatch.setattr(sinks.patience, "is_transient", lambda *_: True)
    summary = score_stream.run(spark, config)

    assert failed
    assert (summary["events"], summary["rejected"]) == (600, len(ledger.bad))
    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def at_another_checkpoint(config, tmp_path, **changes):
    """Return the configuration with a new checkpoint."""
    stream = config.stream.model_copy(update={"checkpoint": str(tmp_path / "other"), **changes})
    return config.model_copy(update={"stream": stream})


@pytest.mark.parametrize("sink", ["elasticsearch.enabled=true", "elasticsearch.enabled=false"])
def test_lost_checkpoint_is_refused_until_accepted(spark, world, tmp_path, sink):
    """The index, or without it the topic of outcomes, shows that a new checkpoint would score the topic again."""
    config, _ = world(sink, count=50)
    score_stream.run(spark, config)
    with pytest.raises(
        CheckpointError, match="holds outcomes of the topic .* but the checkpoint .* is new.*--new-checkpoint"
    ):
        score_stream.run(spark, at_another_checkpoint(config, tmp_path))

    assert score_stream.run(spark, at_another_checkpoint(config, tmp_path, new_checkpoint=True))["events"] == 50
    if config.elasticsearch.enabled:
        with pytest.raises(CheckpointError, match="belongs to stream"):
            score_stream.run(spark, config)


@pytest.mark.parametrize("value", [None, b"plain text", b"[1]", b'{"model":"lr"}', b'{"event_id":"%s-2-0-7"}'])
def test_other_outcomes_do_not_ask_for_a_checkpoint(own, produce, value):
    """Other streams' outcomes in a shared topic do not count, also if one input topic's name begins with another's."""
    config = own("elasticsearch.enabled=false")
    new = State(None, -1, -1, None, clean=True)
    kafka.ensure(config.kafka, config.kafka.topics.input, config.kafka.topics.predictions)
    ownership.require_known(config, new)
    sent = value and value.replace(b"%s", config.kafka.topics.input.encode())
    produce(config.kafka, config.kafka.topics.predictions, [sent])
    ownership.require_known(config, new)


def test_checkpoint_that_spark_cannot_use_is_told_in_one_line(spark, world):
    """Spark may fail to read or write a checkpoint that passed our checks, with a one-line error."""
    config, _ = world(count=10)
    (Path(config.stream.checkpoint) / "metadata").mkdir(parents=True)
    with pytest.raises(StreamError, match="no stream can be started from .*checkpoint: .*metadata") as caught:
        score_stream.run(spark, config)

    assert len(str(caught.value).splitlines()) == 1


def test_repaired_log_doubles_nothing(spark, world, break_off, small_models):
    """After the removal of a damaged last entry, Spark plans the batch again, and nothing is duplicated."""
    config, ledger = world()
    break_off(config, "committed", 3, RuntimeError)
    location = Path(config.stream.checkpoint)
    last = max(int(path.name) for path in (location / "offsets").iterdir() if path.name.isdigit())
    (location / "offsets" / str(last)).write_text("v1")
    with pytest.raises(CheckpointError, match=f"offsets/{last} is damaged"):
        score_stream.run(spark, config)
    remove(location / "offsets", last)
    with pytest.raises(CheckpointError, match=f"commits/{last} has no offsets"):
        score_stream.run(spark, config)
    remove(location / "commits", last)
    score_stream.run(spark, config)

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def remove(folder, batch):
    """Remove a log's entry and its checksum."""
    (folder / str(batch)).unlink()
    (folder / f".{batch}.crc").unlink(missing_ok=True)


def test_too_many_rejected_messages_stop_the_job(spark, world):
    """The limit on rejected messages ends the job."""
    config, _ = world("stream.rejected_window=200", count=1500, share_bad=0.5)
    with pytest.raises(RejectedShareError, match=r"\d+% of the last messages were rejected"):
        score_stream.run(spark, config)

    assert topic_records.extent(config.kafka, config.kafka.topics.rejected).records < 600


def test_fewer_rejected_messages_do_not(spark, world, small_models):
    """A share of a tenth is below the limit."""
    config, ledger = world("stream.rejected_window=200", count=1000)
    score_stream.run(spark, config)

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}
