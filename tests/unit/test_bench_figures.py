"""The benchmark's arithmetic."""

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
    batches = [(0, 9), (10, 900), (10, 500), (20, 100), (20, 300), (1, 80)]
    progress = [{"numInputRows": rows, "durationMs": {"triggerExecution": ms}} for rows, ms in batches]

    assert steady(progress) == (40, 0.4)
    assert steady(progress[:4]) == (20, 0.1)
