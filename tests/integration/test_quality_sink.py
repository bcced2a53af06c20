"""The statistics of quality in Elasticsearch count each event once, whatever fails."""

import random
import time
from types import SimpleNamespace

import oracle
import pytest
from gateway import Gateway

from streamscore import score_stream, sinks
from streamscore.clients import elasticsearch, index_streams, kafka, quality_reader
from streamscore.errors import CheckpointError, RefusedError, ServerError, StreamError
from streamscore.quality.statistic import total
from streamscore.sinks import quality
from streamscore.sinks.base import Batch, Replay
from streamscore.sinks.quality import QualityStatistics
from streamscore.stream import ownership
from streamscore.stream.batch import aggregated
from streamscore.stream.checkpoint import State

SCHEMA = "event_time bigint, reason string, label double, prediction_lr double, score_lr double"
LR = SimpleNamespace(
    name="lr",
    version="1",
    score_kind="probability",
    classes=2,
    margin_scale=1.0,
    prediction="prediction_lr",
    score="score_lr",
    label_score=None,
)
PLAIN = SimpleNamespace(**{**vars(LR), "score_kind": "margin"})
"""The same version without its calibration."""
DAY = 86_400_000


@pytest.fixture
def config(own):
    """A configuration with this test's own indices."""
    config = own("elasticsearch.retry_seconds=20")
    elasticsearch.ensure(config.elasticsearch)
    return config


@pytest.fixture
def write(spark, config):
    """Return a function that writes a batch of events by times in milliseconds, with label 1 and probability 0.75."""

    def batch(times, number, replay=None, stream="s", model=LR, config=config):
        sink = QualityStatistics(config, [model])
        rows = spark.createDataFrame([(at, None, 1.0, 1.0, 0.75) for at in times], SCHEMA)
        aggregates = aggregated([sink], rows)[sink.label]
        sink.write(rows, Batch(number, lambda: stream, wait=time.sleep, aggregates=aggregates), replay)

    return batch


def scored(config, stream="s"):
    """Return the number of events of each window, by length and start."""
    found = oracle.documents(config, config.elasticsearch.quality_index, ["@timestamp", "seconds", "model"])
    return {
        (source["seconds"], source["@timestamp"]): source["scored"] for source in found if source["stream"] == stream
    }


def test_windows_of_three_lengths_add_up_over_batches(config, write):
    """Late events, and events before 1970, count in the windows of their own time."""
    write([5_000, 9_999, 10_000], 0)
    write([5_001, 600_000, -1], 1)

    assert scored(config) == {
        (10, 0): 3,
        (10, 10_000): 1,
        (10, 600_000): 1,
        (10, -10_000): 1,
        (600, 0): 4,
        (600, 600_000): 1,
        (600, -600_000): 1,
        (86_400, 0): 5,
        (86_400, -DAY): 1,
    }


def test_batch_that_is_written_again_counts_once(config, write):
    """Repeated writes of a batch count once, and later batches are added."""
    write([1_000, 2_000], 7)
    write([1_000, 2_000], 8)
    for _ in range(3):
        write([1_000, 2_000], 8, Replay(8, 0))
    write([3_000], 9)

    assert set(scored(config).values()) == {5}


def test_batch_that_is_planned_anew_with_other_events_takes_back_the_earlier_ones(config, write):
    """After a repair of the checkpoint the batch may have other events, in other windows."""
    write([1_000], 0)
    write([2_000, 25_000, DAY], 1)
    write([2_000, 3_000, 4_000], 1, Replay(1, 0))

    assert scored(config) == {(10, 0): 4, (600, 0): 4, (86_400, 0): 4}


def test_checkpoint_older_than_the_statistics_is_refused(config, write):
    """An old copy of the checkpoint, which would count events twice, is refused."""
    write([1_000], 5)

    with pytest.raises(RefusedError, match="has counted batch 5 of this stream already, and now comes batch 4"):
        write([1_000], 4)


def on_stream(config, **changes):
    """Return the configuration with changed settings of the stream."""
    return config.model_copy(update={"stream": config.stream.model_copy(update=changes)})


def test_version_with_another_kind_of_score_has_documents_of_its_own(config, write):
    """Probabilities and margins are kept apart; their events are added up when they are read."""
    write([1_000, 2_000], 0)
    write([3_000], 1, model=PLAIN)
    write([4_000], 2)
    write([3_000], 1, model=PLAIN, stream="other")
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.refresh(index=config.elasticsearch.quality_index)
        found = quality_reader.of_range(client, config, "all", DAY)

    assert found.keys() == {("lr", "1")}
    assert (found["lr", "1"].score_kind, found["lr", "1"].scored, found["lr", "1"].correct) == (None, 5, 5)


def test_earlier_stream_of_the_topic_is_dropped_and_others_stay(config, write, monkeypatch):
    """The earlier streams' statistics, which counted the same events, are deleted, page by page; others stay."""
    monkeypatch.setattr(quality.client, "_PAGE", 3)
    topics = config.kafka.topics.model_copy(update={"input": "another"})
    another = config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})})
    for stream in ("old", "older"):
        write([10_000 * window for window in range(5)], 0, stream=stream)
    write([1_000], 0, stream="another", config=another)
    write([1_000], 0, stream="new", config=on_stream(config, new_checkpoint=True))

    assert scored(config, "old") == scored(config, "older") == {}
    assert len(scored(config, "new")) == len(scored(config, "another")) == 3
    assert quality.client.other_stream(config.elasticsearch, config.kafka.topics.input, "new") is None


@pytest.mark.parametrize(
    "start", [{}, {"new_checkpoint": True, "starting_offsets": "latest"}], ids=["as before", "latest"]
)
def test_statistics_of_another_stream_stay_unless_the_topic_is_counted_again(config, write, start):
    """Another stream's statistics stay without --new-checkpoint, and with it at the latest offsets."""
    write([1_000], 0, stream="old")
    write([2_000], 0, stream="new", config=on_stream(config, **start))

    assert len(scored(config, "old")) == len(scored(config, "new")) == 3


def test_second_job_on_a_topic_needs_an_index_of_statistics_of_its_own(config, write, own):
    """A start beside another stream's statistics is refused, unless the index is another or they are deleted."""
    kafka.ensure(config.kafka, config.kafka.topics.input)
    new, begun = (State(query, -1, -1, None, clean=True) for query in (None, "s"))
    ownership.require_known(config, new)
    write([1_000], 0)
    ownership.require_known(config, begun)
    with pytest.raises(CheckpointError, match=f"{config.elasticsearch.quality_index}.* from stream s, .*is new"):
        ownership.require_known(config, new)

    ownership.require_known(own("elasticsearch.quality_index=absent-quality"), new)
    write([1_000], 0, stream="new", config=on_stream(config, new_checkpoint=True))
    ownership.require_known(config, State("new", 0, 0, None, clean=True))


def test_batch_is_written_in_pieces(config, write, monkeypatch):
    """A batch of many windows is written a thousand documents at a time; a retry repeats only one piece."""
    times, sizes, faults = [10_000 * window for window in range(1_500)], [], [ServerError("away")]
    write_to = quality.client.write

    def away_after_the_second(server, settings, changes):
        sizes.append(len(changes))
        write_to(server, settings, changes)
        if len(sizes) == 2 and faults:
            raise faults.pop()

    monkeypatch.setattr(quality.client, "write", away_after_the_second)
    write(times, 0)
    write([*times, 1], 1, Replay(1, 0))

    assert sizes == [1_000, 526, 526, 0, 1_000, 526]  # the replay finds nothing to take back
    assert sum(events for (seconds, _), events in scored(config).items() if seconds == 10) == 3_001


def test_document_that_is_changed_meanwhile_is_read_again(config, write, monkeypatch):
    """A late bulk request of a killed job does not overwrite a newer batch."""
    write([1_000], 0)
    read, came = quality.client.read, []

    def read_and_be_late(server, settings, ids):
        found = read(server, settings, ids)
        if not came:
            came.append(True)
            write([1_001], 1)
        return found

    monkeypatch.setattr(quality.client, "read", read_and_be_late)
    write([1_002], 2)

    assert set(scored(config).values()) == {3}


def test_deleted_index_is_not_made_by_a_write(config, write):
    """A write does not create the index, which Elasticsearch would give another mapping."""
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.delete(index=config.elasticsearch.quality_index)
        with pytest.raises(RefusedError, match=f"{config.elasticsearch.quality_index}.* was deleted|no such index"):
            write([1_000], 0)
        assert not client.indices.exists(index=config.elasticsearch.quality_index)


@pytest.fixture
def behind(config):
    """A gateway in front of Elasticsearch, and a configuration that uses it."""
    gateway = Gateway(config.elasticsearch.url)
    yield gateway, replace_url(config, gateway.url)
    gateway.close()


def replace_url(config, url):
    """Return the configuration with another address of Elasticsearch."""
    return config.model_copy(update={"elasticsearch": config.elasticsearch.model_copy(update={"url": url})})


def test_overload_is_waited_for_and_large_requests_are_divided(config, write, behind):
    """429 and 503 are retried; a gateway with a small size limit gets smaller requests."""
    gateway, through = behind
    gateway.failing = [429, 503]
    write([10_000 * window for window in range(150)], 0, config=through)
    gateway.limit = 10_000
    write([10_000 * window for window in range(150)], 1, config=through)

    assert sum(events for (seconds, _), events in scored(config).items() if seconds == 10) == 300
    assert max(gateway.bulks[2:]) <= 10_000


def test_answer_without_items_is_no_success(config, write, behind):
    """A gateway's answer without items fails the write."""
    gateway, through = behind
    gateway.swallowed = 1
    write([1_000], 0, config=through)
    assert set(scored(config).values()) == {1}

    gateway.swallowed = 1_000
    impatient = through.elasticsearch.model_copy(update={"retry_seconds": 0})
    with pytest.raises(ServerError, match="does a gateway answer in its place"):
        write([1_000], 1, config=through.model_copy(update={"elasticsearch": impatient}))


@pytest.fixture
def world(own, small_models):
    """Return a function that makes a configuration with unordered messages of several days in its topic."""

    def make(*overrides, count=600):
        config = own(
            oracle.listed(small_models),
            "stream.available_now=true",
            "stream.max_events_per_batch=200",
            "elasticsearch.retry_seconds=0",
            *overrides,
        )
        kafka.ensure(config.kafka, config.kafka.topics.input)
        ledger, chance = oracle.Ledger(5), random.Random(5)
        producer = kafka.producer(config.kafka)
        now = round(time.time() * 1_000)
        for key, value in ledger.next_messages(count):
            producer.produce(config.kafka.topics.input, value, key, timestamp=now - chance.randrange(3 * DAY))
        assert producer.flush(30) == 0
        score_stream.check(config)
        return config, ledger

    return make


@pytest.mark.parametrize("share", [1.0, 0.1, 0.0])
def test_statistics_count_every_event_whatever_share_has_documents(spark, world, outcomes, documents, share):
    """The statistics do not depend on the share; an event's models have documents or none, rejected messages always."""
    config, ledger = world(f"elasticsearch.documents={share}")
    score_stream.run(spark, config)
    kept, expected = oracle.statistics(config), oracle.statistics_of(outcomes(config), config.quality.windows)
    in_index = [document["event_id"] for document in documents(config).values()]

    assert kept.keys() == expected.keys()
    assert all(oracle.same_statistics(kept[key], expected[key]) for key in kept)
    for seconds in config.quality.windows:
        whole = total(
            statistic for (model, _, length, _), statistic in kept.items() if (model, length) == ("lr", seconds)
        )
        assert whole.scored == len(ledger.good)
    assert len(in_index) == 2 * len(set(in_index))
    assert len(set(in_index)) == pytest.approx(share * len(ledger.good), rel=0.5)
    assert len(documents(config, config.elasticsearch.rejected_index)) == len(ledger.bad)


def test_without_documents_the_index_is_not_written_and_knows_its_stream(spark, world, monkeypatch, tmp_path):
    """Without documents no Spark job writes to the index, but a lost checkpoint is still detected."""
    config, _ = world("elasticsearch.documents=0", count=50)
    written = []
    write_index = sinks.elasticsearch.write_index
    monkeypatch.setattr(
        sinks.elasticsearch,
        "write_index",
        lambda frame, settings, index, *rest: (written.append(index), write_index(frame, settings, index, *rest)),
    )
    score_stream.run(spark, config)

    assert set(written) == {config.elasticsearch.rejected_index}
    assert index_streams.checkpoint_of(config.elasticsearch, config.kafka.topics.input) is not None


def test_new_checkpoint_counts_the_topic_once(spark, world, outcomes, tmp_path, monkeypatch):
    """The records are in the topic twice, the statistics are not, also if the new stream's first batch fails."""
    config, ledger = world()
    score_stream.run(spark, config)
    stream = config.stream.model_copy(update={"checkpoint": str(tmp_path / "other"), "new_checkpoint": True})
    new = config.model_copy(update={"stream": stream})
    with monkeypatch.context() as armed:
        armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
        armed.setenv("STREAMSCORE_FAULT", "quality-half:raise:1")
        with pytest.raises(StreamError):
            score_stream.run(spark, new)
    summary = score_stream.run(spark, new)
    kept = oracle.statistics(config)

    assert summary["models"]["lr"]["scored"] == len(ledger.good)
    assert kept.keys() == (expected := oracle.statistics_of(outcomes(config), config.quality.windows)).keys()
    assert all(oracle.same_statistics(kept[key], expected[key]) for key in kept)
