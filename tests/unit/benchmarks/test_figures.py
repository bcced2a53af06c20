"""The benchmark's arithmetic, its shapes, and the headings of its results."""

import itertools
import json
import subprocess
import time
from itertools import pairwise

import pytest
from confluent_kafka import KafkaException

import bench
import data
import latency
import report
from figures import Run, median_cpu, percentile, ratio
from measure import steady
from sides import Side, compare
from streamscore.config import load


def test_a_ratio_is_taken_round_by_round():
    """The result is the median of the rounds' ratios, not the ratio of medians."""
    found = ratio([10.0, 30.0, 20.0], [10.0, 10.0, 40.0])

    assert (found.median, found.least, found.largest) == (1.0, 0.5, 3.0)


def test_sides_of_different_length_have_no_ratio():
    """A round without one of the sides is an error."""
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_a_rate_is_events_per_second():
    """The rate covers the timed part alone."""
    assert Run(500, 2.0).rate == 250.0


def test_cpu_is_the_median_of_each_process():
    """CPU time is a median per process; a missing process counts as idle."""
    runs = [Run(1, 1, {"job": 3.0, "broker": 1.0}), Run(1, 1, {"job": 5.0}), Run(1, 1, {"job": 4.0, "broker": 2.0})]

    assert median_cpu(runs) == {"job": 4.0, "broker": 1.0}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_are_of_the_nearest_rank(share, expected):
    """Percentiles are measured values."""
    assert percentile(range(100, 0, -1), share) == expected


def test_the_steady_state_leaves_out_the_first_two_batches_and_the_last():
    """The first two batches are warm-up, the last may be smaller, and empty batches do not count."""
    ends = [(0, 9), (10, 900), (20, 500), (40, 100), (60, 300), (61, 80)]
    progress = [batch(0, *ends[0]), *(batch(start, *end) for (start, _), end in pairwise(ends))]

    assert steady(progress) == (40, 0.4)
    assert steady(progress[:4]) == (20, 0.1)


def batch(start, end, milliseconds):
    """Return the progress of a batch that read each of its events twice."""
    offsets = [{"ml": {"0": place}} for place in (start, end)]
    source = {"startOffset": offsets[0] if start else None, "endOffset": offsets[1]}
    return {"numInputRows": 2 * (end - start), "durationMs": {"triggerExecution": milliseconds}, "sources": [source]}


def test_a_side_is_warmed_up_until_it_is_settled():
    """A side warms up until its times settle, and a loop with a process per run once."""
    rates = {"slow": iter([10, 20, 30, 31, 32]), "quick": iter([50, 51, 52]), "loop": iter([5, 6])}
    runs = []

    def side(name, **options):
        def run():
            runs.append(name)
            return Run(next(rates[name]), 1)

        return Side(run, **options)

    found = compare({"slow": side("slow"), "quick": side("quick"), "loop": side("loop", stays=False)}, 1, 4)

    assert runs == ["slow", "quick", "loop", "slow", "quick", "slow", "slow", "slow", "quick", "loop"]
    assert {name: [run.rate for run in of_side] for name, of_side in found.items()} == {
        "slow": [32],
        "quick": [52],
        "loop": [6],
    }


def test_warming_up_has_an_end():
    """Warm-up is bounded: a side that never settles is still measured."""
    rates = itertools.count(1)

    found = compare({"growing": Side(lambda: Run(2 ** next(rates), 1))}, 2, 4)

    assert [run.rate for run in found["growing"]] == [32, 64]


def case(commit="abc", **machine):
    """Return a case in the form of the result file."""
    known = {"processor": "a chip", "cores": 2, "memory_gb": 8, "spark": "3", "python": "3.11"}
    return {
        "commit": commit,
        "machine": known | machine,
        "date": "2026-11-28",
        "rounds": 5,
        "load": [0.1, 2.0],
        "rows": [],
    }


def test_the_heading_tells_all_that_was_measured_with():
    """The heading has one sentence per commit and machine, with the cases if there are several."""
    result = {"scale": "full", "cases": {"kafka": case(), "seed": case() | {"load": [2.0, 1.5]}}}

    (only,) = report.heading(result)
    assert only.startswith("Measured on 2026-11-28 at commit abc (full; rounds: 5): a chip, 2 cores, 8 GB, Spark 3, ")
    assert only.endswith("load average (1 minute) 0.1 to 2.0 before a case, 1.5 to 2.0 after.")

    result["cases"]["grow"] = case("def", cores=4)
    first, second = report.heading(result)

    assert "commit abc (full: kafka, seed; rounds: 5): a chip, 2 cores" in first
    assert "commit def (full: grow; rounds: 5): a chip, 4 cores" in second


def test_cases_of_another_commit_or_machine_are_not_merged(tmp_path):
    """Results of another commit or machine are merged only on request, and unidentified ones never."""
    cases = {"kafka": case(), "seed": case()}
    options = {"file": tmp_path, "merge": False}

    assert bench.kept(cases, ["seed"], case(), **options) == {"kafka": case()}
    for other in (case("def"), case(cores=4)):
        with pytest.raises(SystemExit, match="kafka of another commit or machine"):
            bench.kept(cases, ["seed"], other, **options)
        assert bench.kept(cases, ["seed"], other, file=tmp_path, merge=True) == {"kafka": case()}
        assert bench.kept(cases, ["kafka", "seed"], other, **options) == {}
    with pytest.raises(SystemExit, match="kafka of another"):
        bench.kept({"kafka": {"date": "2026-11-27", "rows": []}}, ["seed"], case(), file=tmp_path, merge=True)


def test_a_commit_with_changes_says_so(tmp_path):
    """Uncommitted changes of code are reported; those of documents are not."""

    def git(*words):
        identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "jobs").mkdir()
    code, text = tmp_path / "jobs" / "code", tmp_path / "text"
    code.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "code")
    first = report.commit(tmp_path)
    text.write_text("1")
    git("add", ".")
    git("commit", "-m", "text")

    assert report.commit(tmp_path) == first
    code.write_text("2")
    assert report.commit(tmp_path) == f"{first}-dirty"


def test_sparse_shapes_of_the_plots_differ_in_one_thing():
    """The sparse shapes have the same kind of values and differ only in their length."""
    short, long = (data.messages(data.shape(f"sparse-{size}-15"), 50) for size in (110, 1_048_576))
    values = [[json.loads(message)["features"]["values"] for message in those] for those in (short, long)]

    assert all(any(value % 1 for row in rows for value in row) for rows in values)


def test_the_decoder_has_no_short_cut_for_loose_messages():
    """Loose messages, with spaces and a further field, do not take the decoder's fast path."""
    plain, loose = (data.messages(data.shape(name), 50) for name in ("article", "loose"))

    assert [json.loads(message) | {"note": "xxxxxxxx"} for message in plain] == [*map(json.loads, loose)]
    assert all(b'": ' in message for message in loose)


class SlowProducer:
    """A client that is slow at its first message, and records each message's timestamp."""

    def __init__(self, fault=None):
        self.times = []
        self._fault = fault

    def produce(self, _topic, _value, *, timestamp, on_delivery):
        """Record a message."""
        if not self.times:
            time.sleep(0.1)
        self.times.append(timestamp)
        if self._fault:
            on_delivery(self._fault, None)

    def poll(self, _seconds):
        """Do nothing."""

    def flush(self):
        """Do nothing."""


def test_an_event_has_the_time_at_which_it_was_due(monkeypatch):
    """An event's timestamp is its due time, however late it is sent."""
    producer = SlowProducer()
    monkeypatch.setattr(latency.kafka, "producer", lambda _: producer)

    with latency.sending(load("local", []), [b"1"], 100):
        time.sleep(0.5)

    assert len(producer.times) > 20
    assert all(9 <= after - before <= 11 for before, after in pairwise(producer.times))


def test_a_sender_that_fails_says_so(monkeypatch):
    """A failed sender raises an error; otherwise missing events would count as events without latency."""
    monkeypatch.setattr(latency.kafka, "producer", lambda _: SlowProducer("refused"))

    with pytest.raises(KafkaException, match="refused"), latency.sending(load("local", []), [b"1"], 100):
        time.sleep(0.2)
