"""The batches of a bounded query: every offset of the stretch in exactly one of them."""

import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.errors import StreamError
from streamscore.sinks.base import Sink
from streamscore.stream import checkpoint
from streamscore.stream.bounded import BoundedQuery, batch_ends, position
from streamscore.stream.folders import LocalFolder
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest

PARTS = st.dictionaries(st.integers(0, 20), st.integers(0, 5_000), min_size=1, max_size=12)


@given(PARTS, st.integers(1, 900))
def test_batches_cover_the_stretch_once_and_are_no_larger_than_allowed(sizes, limit):
    """Each batch advances, in proportion to what is left, until all partitions end together."""
    at = dict.fromkeys(sizes, 7)
    end = {partition: 7 + size for partition, size in sizes.items()}
    while at != end:
        ends = batch_ends(at, end, limit)
        assert all(at[each] <= ends[each] <= end[each] for each in end)
        advance = sum(ends.values()) - sum(at.values())
        assert 0 < advance <= max(limit, limit + len(sizes) - 1)
        assert all(ends[each] > at[each] for each in end if at[each] < end[each])
        at = ends


def test_partitions_advance_in_proportion():
    """A partition with three times as much left advances three times as far; the last batch takes the rest."""
    assert batch_ends({0: 100, 1: 0}, {0: 400, 1: 100}, 40) == {0: 130, 1: 10}
    assert batch_ends({0: 100, 1: 0, 2: 5}, {0: 101, 1: 2, 2: 5}, 40) == {0: 101, 1: 2, 2: 5}


@pytest.fixture
def folder(tmp_path):
    """An empty checkpoint."""
    return LocalFolder(str(tmp_path))


def test_log_is_read_as_that_of_a_stream(folder, tmp_path):
    """What is planned and committed is what the recovery of streams reads."""
    assert checkpoint.inspect(folder, str(tmp_path)).is_new
    checkpoint.begin(folder)
    checkpoint.plan(folder, 0, "ml", {0: 10, 3: 4})
    checkpoint.commit(folder, 0)
    checkpoint.plan(folder, 1, "ml", {0: 20, 3: 9})
    state = checkpoint.inspect(folder, str(tmp_path))

    assert (state.planned, state.committed, state.is_new) == (1, 0, False)
    assert state.since == json.loads((tmp_path / "offsets" / "1").read_text().splitlines()[1])["batchTimestampMs"]
    assert position(folder, 0, "ml", {0: 1, 3: 2}) == {0: 10, 3: 4}
    assert position(folder, -1, "ml", {0: 1, 3: 2}) == {0: 1, 3: 2}
    assert checkpoint.offsets(folder, 1) == {"ml": {0: 20, 3: 9}}


class Counter(Sink):
    """A sink that counts its rows, which takes as long as they take."""

    name = "nowhere"

    def __init__(self, begun=lambda: None):
        self.counts = []
        self.begun = begun

    def shape(self, rows):
        """Return the rows as they are."""
        return rows

    def write(self, shaped, _batch, _replay):
        """Count the rows."""
        self.begun()
        self.counts.append(shaped.count())


@pytest.fixture
def query(folder, tmp_path):
    """Return a function that makes a query over offsets 0 to 100 of a topic, which listens to a stop request."""

    def make(stop, drain_seconds=60.0):
        held = HeldCheckpoint(folder, str(tmp_path), checkpoint.inspect(folder, str(tmp_path)))
        return BoundedQuery("ml", {0: 0}, {0: 100}, 40, held, stop, [], tmp_path / "log", drain_seconds)

    return make


def test_query_ends_with_the_stretch_and_goes_on_after_a_stop(spark, folder, query):
    """Three batches are written; after a stop the next run takes up the rest."""
    from pyspark.sql import functions as F

    stop, counter, read = StopRequest(), Counter(), []

    def rows(begin, end):
        read.append((begin[0], end[0]))
        if len(read) == 2:
            stop.ask("a test")
        return spark.range(begin[0], end[0])

    observed = [F.count("*").alias("events")]
    assert not query(stop).run(rows, observed, [counter])
    assert query(StopRequest()).run(rows, observed, [counter])
    assert read == [(0, 40), (40, 80), (40, 80), (80, 100)]
    assert counter.counts == [40, 40, 20]
    assert query(StopRequest()).run(rows, observed, [counter])
    assert len(read) == 4
    assert folder.names("commits") == ["0", "1", "2"]


@pytest.mark.parametrize("how", ["urgent", "late"])
def test_batch_is_broken_off_if_the_stop_is_urgent_or_it_takes_too_long(spark, folder, query, how):
    """A batch of hours ends soon after the second signal, or after the time to drain; it is not committed."""
    from pyspark.sql import functions as F

    stop = StopRequest()

    def ask():
        time.sleep(1)
        stop.ask("a test")
        if how == "urgent":
            stop.urgent = True

    counter = Counter(threading.Thread(target=ask, daemon=True).start)
    began = time.monotonic()
    # Short tasks, since one that computes ends by itself only, and would keep its core from the next test.
    endless = spark.range(0, 10**11, 1, 5_000).where(F.xxhash64("id") != 1)
    with pytest.raises(StreamError, match="stopped in the middle of a batch; the same command goes on"):
        query(stop, 60.0 if how == "urgent" else 0.5).run(lambda *_: endless, [F.count("*").alias("events")], [counter])

    assert time.monotonic() - began < 120
    assert folder.names("offsets") == ["0"]
    assert folder.names("commits") == []
    assert spark.range(5).count() == 5  # later jobs are not cancelled
