"""The benchmark's arithmetic."""

from itertools import pairwise

import pytest

from figures import Run, median_cpu, percentile, ratio
from measure import steady


def test_a_ratio_is_taken_round_by_round():
    """The median of the rounds' ratios, not the ratio of medians."""
    found = ratio([10.0, 30.0, 20.0], [10.0, 10.0, 40.0])

    assert (found.median, found.least, found.largest) == (1.0, 0.5, 3.0)


def test_sides_of_different_length_have_no_ratio():
    """A round that lacks a side is a fault of the benchmark."""
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_a_rate_is_events_per_second():
    """Of the part that was timed."""
    assert Run(500, 2.0).rate == 250.0


def test_cpu_is_the_median_of_each_process():
    """A process that a run did not have counts as idle."""
    runs = [Run(1, 1, {"job": 3.0, "broker": 1.0}), Run(1, 1, {"job": 5.0}), Run(1, 1, {"job": 4.0, "broker": 2.0})]

    assert median_cpu(runs) == {"job": 4.0, "broker": 1.0}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_are_of_the_nearest_rank(share, expected):
    """So that each is a value that was seen."""
    assert percentile(range(100, 0, -1), share) == expected


def test_the_steady_state_leaves_out_the_first_two_batches_and_the_last():
    """Warm-up, and a batch that may be smaller; empty ones do not count at all."""
    ends = [(0, 9), (10, 900), (20, 500), (40, 100), (60, 300), (61, 80)]
    progress = [batch(0, *ends[0]), *(batch(start, *end) for (start, _), end in pairwise(ends))]

    assert steady(progress) == (40, 0.4)
    assert steady(progress[:4]) == (20, 0.1)


def batch(start, end, milliseconds):
    """The progress of a batch that read each of its events twice."""
    offsets = [{"ml": {"0": place}} for place in (start, end)]
    source = {"startOffset": offsets[0] if start else None, "endOffset": offsets[1]}
    return {"numInputRows": 2 * (end - start), "durationMs": {"triggerExecution": milliseconds}, "sources": [source]}
