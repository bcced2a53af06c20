"""The time window of the page, and its buckets."""

import pytest

from streamscore.config import TimeRange
from streamscore.quality.windows import (
    BUCKETS,
    DAY,
    HOUR,
    MINUTE,
    MOST_WINDOWS,
    RANGES,
    SECOND,
    Period,
    of_batches,
)
from streamscore.quality.windows import window as window_of

NOW = 1_795_514_400_000
LENGTHS = (10, 600, 86_400)


def window(time_range, period, now, lengths=(1,)):
    """Return a window for statistics with the given lengths, by default of one second."""
    return window_of(time_range, period, now, lengths)


def test_ranges_are_those_of_the_configuration():
    """The ranges are exactly those that the configuration allows."""
    assert tuple(RANGES) == TimeRange.__args__


def test_everything_begins_with_the_first_message():
    """The range "all" starts at the first message, rounded down to the start of a bucket."""
    shown = window("all", Period(NOW - 40_500, NOW), NOW)

    assert (shown.start, shown.interval, shown.whole) == (NOW - 41_000, SECOND, True)


def test_range_begins_so_long_ago():
    """A range starts its length before now, and omits earlier messages."""
    shown = window("15m", Period(NOW - 30 * DAY, NOW), NOW)

    assert (shown.start, shown.interval, shown.whole) == (NOW - 15 * MINUTE, 15 * SECOND, False)


def test_range_longer_than_the_run_shows_the_run():
    """A range longer than the run has the buckets of the range "all"."""
    period = Period(NOW - 50 * SECOND, NOW)

    assert window("7d", period, NOW) == window("all", period, NOW)


@pytest.mark.parametrize("length", [1, 61 * SECOND, HOUR, 25 * HOUR, 400 * DAY])
def test_buckets_are_few_and_begin_together(length):
    """There are at most some sixty buckets, each at a multiple of the interval."""
    shown = window("all", Period(NOW - length, NOW), NOW)

    assert length / shown.interval <= BUCKETS
    assert shown.start % shown.interval == 0
    assert 0 <= NOW - length - shown.start < shown.interval


def test_message_that_is_dated_ahead_does_not_make_the_buckets_longer():
    """A message dated a year or fifty thousand years ahead does not change the window."""
    for last in (NOW + 400 * DAY, NOW * 1_000):
        assert window("5m", Period(NOW - DAY, last), NOW) == window("5m", Period(NOW - DAY, NOW), NOW)
    assert window("all", Period(NOW + DAY, NOW + DAY), NOW).interval == SECOND


def test_messages_that_are_all_dated_ahead_are_shown_like_others():
    """With buckets of a second there would be more than Elasticsearch returns."""
    ahead = window("all", Period(NOW + 400 * DAY, NOW + 408 * DAY), NOW)

    assert ahead.interval == window("all", Period(NOW - 8 * DAY, NOW), NOW).interval


def test_batches_have_buckets_of_their_own():
    """Batches over four days get their own buckets, also for events of five seconds or expired events."""
    shown = window("all", Period(NOW - 4 * DAY, NOW - 4 * DAY + 5 * SECOND), NOW)
    long = of_batches(shown, Period(NOW - 4 * DAY - 10, NOW))
    after = of_batches(shown, Period(NOW - 300 * DAY, NOW - 4 * DAY + 50 * SECOND))
    later = of_batches(window("5m", Period(NOW - DAY, NOW), NOW), Period(NOW - DAY, NOW))

    assert (shown.interval, long.interval) == (SECOND, 2 * HOUR)
    assert long.start <= NOW - 4 * DAY - 10
    assert (after.start, after.interval) == (NOW - 4 * DAY - MINUTE, 2 * SECOND)
    assert (later.start, later.interval) == (NOW - 5 * MINUTE, 5 * SECOND)
    assert not any(found.whole for found in (long, after, later))


def test_buckets_of_a_live_range_stay_in_place():
    """A refresh two seconds later has the same buckets, so that they can be cached."""
    first = window("1h", Period(NOW - DAY, NOW), NOW)
    later = window("1h", Period(NOW - DAY, NOW + 2 * SECOND), NOW + 2 * SECOND)

    assert (first.start, first.interval) == (later.start, later.interval)


@pytest.mark.parametrize(
    ("time_range", "length", "seconds", "interval"),
    [
        ("5m", DAY, 10, 10 * SECOND),
        ("15m", DAY, 10, 30 * SECOND),
        ("1h", DAY, 10, MINUTE),
        ("6h", DAY, 600, 10 * MINUTE),
        ("24h", DAY, 600, 30 * MINUTE),
        ("7d", 30 * DAY, 600, 3 * HOUR),
        ("all", 5 * SECOND, 10, 10 * SECOND),
        ("all", 400 * DAY, 86_400, 7 * DAY),
        ("all", 1_000 * DAY, 86_400, 30 * DAY),
    ],
)
def test_statistics_are_as_fine_as_a_bounded_number_allows(time_range, length, seconds, interval):
    """Buckets consist of whole windows, and no range needs more windows than the limit."""
    shown = window(time_range, Period(NOW - length, NOW), NOW, LENGTHS)

    assert (shown.seconds, shown.interval) == (seconds, interval)
    assert shown.start % interval == 0
    assert (NOW - shown.start) / (1_000 * seconds) <= MOST_WINDOWS + interval / (1_000 * seconds)


def test_windows_of_an_odd_length_make_buckets_of_their_own():
    """Windows of an odd length, or a period of years, get buckets outside the round intervals."""
    shown = window("1h", Period(NOW - DAY, NOW), NOW, (7,))

    assert (shown.seconds, shown.interval) == (7, 16 * 7 * SECOND)
    assert window("all", Period(NOW - 4_000 * DAY, NOW), NOW, LENGTHS).interval == 128 * DAY
