"""The batches of a bounded query: every offset of the stretch in exactly one of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamscore.stream import checkpoint
from streamscore.stream.bounded import batch_ends, position
from streamscore.stream.folders import LocalFolder

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
