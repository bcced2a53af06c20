"""Labels that arrive after their events: found, written once, and counted as if they had come with them."""

import json
import math
import random
import threading
import time
from collections import Counter

import late
import numpy as np
import oracle
import pytest
from jobs import Job, environment, written

from streamscore import label_stream, score_stream
from streamscore.cli import doctor, labels
from streamscore.clients import elasticsearch, kafka, rejected, topic_records
from streamscore.errors import ConfigError
from streamscore.launch import submit
from streamscore.quality.statistic import total
from streamscore.schema import LABEL_COUNTS
from streamscore.stream.stop import StopRequest


@pytest.fixture
def make(own, small_models):
    """Return a function that makes a configuration of both jobs, which end when their topics are read."""

    def configured(*overrides):
        config = own(
            oracle.listed(small_models),
            "stream.available_now=true",
            "stream.max_events_per_batch=700",
            "elasticsearch.refresh_interval=1s",
            "labels.retry_seconds=0.5",
            *overrides,
        )
        topics = config.kafka.topics
        kafka.ensure(config.kafka, topics.input, topics.labels)
        return config

    return configured


def test_labels_in_any_order_count_as_if_they_had_come_in_time(spark, make, documents, monkeypatch):
    """The job breaks off at each of its points; each minute is as pandas says, and a second run changes nothing."""
    config, chance, events = (
        make(f"stream.max_events_per_batch={max(700, late.EVENTS // 10)}"),
        random.Random(27),
        late.EVENTS,
    )
    pool = oracle.Ledger(seed=27).pool
    sent = late.shuffled_labels(events, chance)
    half = len(sent) // 2
    points = ("labelled", "labels-quality", "labels-records", "labels-pending")
    faults = [
        "entry:raise:1",
        *(f"{point}{half}:raise:1" for point in points for half in ("-half", "")),
        "committed:raise:1",
    ]

    late.send_events(config, range(events // 2), pool)
    late.run(spark, score_stream, config)
    label_stream.check(config)
    late.send_labels(config, sent[:half])  # half of them before their events
    struck = [late.break_off(spark, config, monkeypatch, fault, label_stream) for fault in faults[::2]]
    late.run(spark, label_stream, config)
    late.assert_adds_up(late.counts(config))
    assert late.counts(config)["pending"] > events // 5

    late.send_events(config, range(events // 2, events), pool)
    assert late.break_off(spark, config, monkeypatch, "index-half:raise:1", score_stream)
    late.run(spark, score_stream, config)
    late.send_labels(config, sent[half:])
    struck += [late.break_off(spark, config, monkeypatch, fault, label_stream) for fault in faults[1::2]]
    summary = late.run(spark, label_stream, config)
    late.run(spark, label_stream, config)  # whatever a search did not see yet

    assert all(struck), dict(zip([*faults[::2], *faults[1::2]], struck, strict=True))
    wanted, joined = late.expected(spark, config, sent)
    late.assert_same(late.by_minute(config), wanted)
    late.assert_pairs_are_those_of(config, joined)
    late.assert_absent_ones_are_negatives(config, joined)
    final = late.counts(config)
    late.assert_adds_up(final)
    assert (final["received"], final["rejected"], final["expired"], final["ambiguous"]) == (len(sent), 0, 0, 0)
    assert final["pending"] == events // 100
    assert summary.keys() >= set(LABEL_COUNTS)

    there, records = late.assert_written(spark, config, documents, joined)
    state = labels.read(config, "all")
    assert state.counts == final
    of_lr = joined[joined["model"] == "lr"]
    shares = {each.model: (each.scored, each.labelled) for each in state.coverage}
    assert shares["lr"] == (len(of_lr), of_lr["final"].notna().sum())
    lag = (of_lr["time"] - of_lr["event_time"]).dropna()
    assert state.lags == {percent: pytest.approx(np.percentile(lag, percent), rel=0.01) for percent in (50, 90, 99)}

    before = late.by_minute(config)
    again = config.model_copy(
        update={"labels": config.labels.model_copy(update={"checkpoint": config.labels.checkpoint + "2"})}
    )
    second = late.run(spark, label_stream, again)
    late.assert_adds_up(second)
    assert second["matched"] == 0
    assert late.by_minute(config) == before
    assert {key: each["label"] for key, each in documents(config, config.elasticsearch.labelled_index).items()} == {
        key: each["label"] for key, each in there.items()
    }
    assert len(late.labelled_topic(spark, config)) == len(records)


def rejected_labels(consume, config):
    """Return value, reason and detail of each rejected message."""
    found = []
    for key, value, headers in consume(config.kafka, config.kafka.topics.rejected):
        named = dict(headers)
        assert named["__connect.errors.topic"].decode() == config.kafka.topics.labels
        found.append((key, value, named["reason"].decode(), named["__connect.errors.exception.message"].decode()))
    return found


def test_every_label_has_one_fate(spark, make, consume, documents, monkeypatch):
    """Bad ones are rejected once; a label corrects the event's own; one key of two events labels both; one expires."""
    config = make("labels.horizon=0.001")
    pool = oracle.Ledger(seed=3).pool
    late.send_events(config, range(10), pool, labels={0: 0.0, 1: 1.0})
    late.send_events(config, [5], pool)
    late.run(spark, score_stream, config)
    label_stream.check(config)
    at = late.BEGIN + 600_000
    late.send_labels(config, [("k0", 1.0, at), ("k1", 1.0, at), ("k5", 1.0, at), ("nobody", 1.0, at), ("k7", 2.0, at)])
    bad = [
        (b"k8", b"not json", "not_json", "not JSON"),
        (b"k8", b'{"label":1,"time":1750000000}', "bad_time", "looks like seconds"),
        (None, b'{"label":1}', "bad_id", "nor a key"),
        (b"k8", b"x" * 20_000, "too_large", "more than 16384"),
    ]
    late.send(config, config.kafka.topics.labels, [(key, value, at) for key, value, *_ in bad])
    late.send(config, config.kafka.topics.labels, [(b"k9", b'{"label":0}', at)])
    for fault in ("labels-records-half:raise:1", "labels-pending:raise:1"):
        assert late.break_off(spark, config, monkeypatch, fault, label_stream)
    late.run(spark, label_stream, config)

    assert late.counts(config) == {
        "received": 10,
        "matched": 5,
        "duplicate": 0,
        "superseded": 0,
        "pending": 0,
        "expired": 1,
        "rejected": 4,
        "ambiguous": 1,
    }
    found = sorted(rejected_labels(consume, config), key=lambda each: each[2])
    assert [(key, reason) for key, _, reason, _ in found] == sorted(
        ((None if reason == "too_large" else key, reason) for key, _, reason, _ in bad), key=lambda each: each[1]
    )
    for (_, value, reason, words), (_, kept, _, detail) in zip(
        sorted(bad, key=lambda each: each[2]), found, strict=True
    ):
        assert words in detail
        assert kept == (None if reason == "too_large" else value)

    there = documents(config, config.elasticsearch.labelled_index)
    assert len(there) == 2 * 6
    assert {(each["key"], each["label"]) for each in there.values()} == {
        ("k0", 1.0),
        ("k1", 1.0),
        ("k5", 1.0),
        ("k7", 2.0),
        ("k9", 0.0),
    }
    assert {each["label_time"] for each in there.values()} == {at}
    of_lr = total(statistic for (model, _), statistic in late.by_minute(config).items() if model == "lr")
    assert of_lr.scored == 11
    labels = Counter()
    for (label, _), count in of_lr.confusion.items():
        labels[label] += count
    assert labels == {1.0: 4, 0.0: 1, math.inf: 1}
    assert of_lr.loss_events == 5


def test_rejected_label_is_sent_to_its_own_topic_again(spark, make, documents):
    """Repaired, it finds its event; the topic of events gets nothing."""
    config = make()
    pool = oracle.Ledger(seed=9).pool
    late.send_events(config, range(3), pool)
    late.run(spark, score_stream, config)
    label_stream.check(config)
    late.send(config, config.kafka.topics.labels, [(b"k1", b'{"label":1,"time":1750000000}', late.BEGIN)])
    late.run(spark, label_stream, config)
    events = topic_records.extent(config.kafka, config.kafka.topics.input).records
    for sent in (1, 0):
        groups = rejected.by_topic(config.kafka, rejected.select(config.kafka, reason="bad_time"))
        assert sum(rejected.replay(own, group, b'{"label":1}') for own, group in groups) == sent
    late.run(spark, label_stream, config)

    assert topic_records.extent(config.kafka, config.kafka.topics.input).records == events
    assert {each["key"] for each in documents(config, config.elasticsearch.labelled_index).values()} == {"k1"}
    assert {name: count for name, count in late.counts(config).items() if count} == {
        "received": 2,
        "rejected": 1,
        "matched": 1,
    }


def test_first_label_counts_and_events_are_found_by_their_ids(spark, make, documents):
    """An earlier label that arrives later replaces the one that is there; the job goes on where it ended."""
    config = make("labels.conflict=first", "labels.match=event_id", "labels.id_field=event")
    pool = oracle.Ledger(seed=4).pool
    late.send_events(config, range(20), pool)
    late.run(spark, score_stream, config)
    label_stream.check(config)
    outcomes = documents(config)
    event = next(iter(outcomes.values()))["event_id"]
    for at, value in ((late.BEGIN + 9_000, 1.0), (late.BEGIN + 10_000, 0.0), (late.BEGIN + 8_000, 0.0)):
        content = json.dumps({"event": event, "label": value, "time": at}).encode()
        late.send(config, config.kafka.topics.labels, [(None, content, late.BEGIN)])
        late.run(spark, label_stream, config)

    there = documents(config, config.elasticsearch.labelled_index)
    assert {(each["label"], each["label_time"]) for each in there.values()} == {(0.0, late.BEGIN + 8_000)}
    assert len(there) == 2
    of_lr = total(statistic for (model, _), statistic in late.by_minute(config).items() if model == "lr")
    assert {label for label, _ in of_lr.confusion} == {0.0}
    assert (of_lr.scored, of_lr.labelled) == (20, 1)
    found = late.counts(config)
    assert (found["matched"], found["superseded"]) == (2, 1)


def test_events_without_keys_are_refused_at_the_start(spark, make, produce):
    """The message says what to set; a topic or an index that has another purpose is refused too."""
    config = make()
    pool = oracle.Ledger(seed=5).pool
    produce(config.kafka, config.kafka.topics.input, [oracle.message(1.0, pool[0])])
    late.run(spark, score_stream, config)
    with elasticsearch.client(config.elasticsearch) as server:
        server.indices.refresh(index=config.elasticsearch.index)
    with pytest.raises(ConfigError, match="no outcome in .* has a key.*Set labels.match to event_id"):
        label_stream.check(config)
    assert [level for level, text in doctor._labels(config) if "no outcome" in text] == ["fault"]
    topics = config.kafka.topics.model_copy(update={"labelled": config.kafka.topics.predictions})
    wrong = config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})})
    with pytest.raises(ConfigError, match="late labels need topics of their own"):
        label_stream.check(wrong)


@pytest.mark.timeout(900)
def test_every_label_once_after_kills_of_the_process(spark, make, root, tmp_path):
    """SIGKILL during and between batches loses no label and counts none twice."""
    config, chance = make("stream.max_events_per_batch=200"), random.Random(8)
    pool = oracle.Ledger(seed=8).pool
    sent = late.shuffled_labels(400, chance)
    late.send_events(config, range(400), pool)
    late.run(spark, score_stream, config)
    label_stream.check(config)
    late.send_labels(config, sent)
    file = tmp_path / "test.yml"
    file.write_text(written(config))
    words = submit.command(label_stream.JOB, config, ["--config", str(file)])
    words = [str(root / "jobs" / "label_stream.py") if word.endswith("/label_stream.py") else word for word in words]
    base = environment() | submit.prepare(config)
    for fault in (
        "labelled-half:kill-group:1",
        "labels-quality-half:kill-python:2",
        "labels-pending-half:kill-group:1",
    ):
        killed = Job(words, env=base | {"STREAMSCORE_TEST_FAULTS": "1", "STREAMSCORE_FAULT": fault})
        assert killed.wait() != 0, killed.output
        assert "Traceback" not in killed.output or "kill-python" in fault, killed.output
    late.run(spark, label_stream, config)
    late.run(spark, label_stream, config)

    wanted, joined = late.expected(spark, config, sent)
    late.assert_same(late.by_minute(config), wanted)
    late.assert_pairs_are_those_of(config, joined)
    final = late.counts(config)
    late.assert_adds_up(final)
    assert (final["received"], final["pending"]) == (len(sent), 4)
    records = late.labelled_topic(spark, config)
    identities = Counter((each["event_id"], each["model"], each["label"], each["label_time"]) for each in records)
    assert max(identities.values()) == 1


def test_running_job_tries_waiting_labels_again_without_new_ones(spark, make):
    """Labels that came before their events are matched once these are scored, and the job goes on."""
    config = make("labels.retry_seconds=2", "stream.report_seconds=1")
    running = config.model_copy(update={"stream": config.stream.model_copy(update={"available_now": False})})
    pool = oracle.Ledger(seed=6).pool
    late.send_labels(config, [(f"k{number}", 1.0, late.BEGIN + 1_000 * number) for number in range(50)])
    label_stream.check(config)
    stop, summaries = StopRequest(), []
    job = threading.Thread(target=lambda: summaries.append(label_stream.run(spark, running, stop)))
    job.start()
    try:
        await_counts(config, pending=50)
        late.send_events(config, range(40), pool)
        late.run(spark, score_stream, config)
        await_counts(config, matched=40, pending=10)
        late.send_labels(config, [("k0", 0.0, late.BEGIN + 100_000)])
        await_counts(config, matched=41, pending=10)
    finally:
        stop.ask("the test")
        job.join(120)

    assert summaries[0]["received"] == 51
    of_svm = total(statistic for (model, _), statistic in late.by_minute(config).items() if model == "svm")
    assert (of_svm.scored, of_svm.labelled, of_svm.declined) == (40, 40, 0)
    assert sum(count for (label, _), count in of_svm.confusion.items() if label == 0.0) == 1


def await_counts(config, **wanted):
    """Wait until the status documents have these counts."""
    deadline = time.monotonic() + 180
    while {name: late.counts(config)[name] for name in wanted} != wanted:
        assert time.monotonic() < deadline, late.counts(config)
        time.sleep(1)
