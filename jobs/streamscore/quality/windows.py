"""The stretch of time that is shown: the windows that are read for it, and the buckets that they are added up in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

RANGES: Final[dict[str, int | None]] = {
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "1h": HOUR,
    "6h": 6 * HOUR,
    "24h": DAY,
    "7d": 7 * DAY,
    "all": None,
}
"""The time ranges to choose from, in milliseconds; None is everything there is."""

BUCKETS: Final = 60
"""Most buckets of a window, give or take one: the points of a chart over time."""

MOST_WINDOWS: Final = 1_100
"""Most windows of statistics that a range is read from, per model: three hours of those of 10 seconds, a week of those
of 10 minutes."""

INTERVALS: Final = (
    *(SECOND * count for count in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(HOUR * count for count in (1, 2, 3, 6, 12)),
    *(DAY * count for count in (1, 2, 7, 30)),
)


@dataclass(frozen=True)
class Period:
    """The times of the first and the last message of all, in epoch milliseconds."""

    first: int
    last: int
    step: int = 0
    """How much later the last message may be: all that is known is the window that it is in."""


@dataclass(frozen=True)
class Window:
    """What is shown: everything from ``start`` on, counted in buckets of ``interval``; both in milliseconds."""

    start: int
    interval: int
    whole: bool
    """Whether nothing lies before the start."""
    seconds: int = 1
    """Length of the windows of statistics that the buckets are made of, in seconds."""


def window(time_range: str, period: Period, now: int, lengths: Sequence[int]) -> Window:
    """Return the window of a time range.

    It starts where a bucket starts, at most one bucket earlier than asked for: so no bucket is counted in part, and
    the figures of a bucket mean the same at every refresh. The statistics that it is read from are the finest of which
    it has no more than ``MOST_WINDOWS``, whatever the number of events.

    Args:
        time_range: one of ``RANGES``.
        period: the first and the last message of all.
        now: this moment, in epoch milliseconds.
        lengths: the lengths of windows for which statistics are kept, in seconds, the shortest first.
    """
    length = RANGES[time_range]
    start = period.first if length is None else max(period.first, now - length)
    # A message that is dated ahead, by a producer's clock or in another unit, must not make the buckets longer, unless
    # all are: then there would be more buckets than Elasticsearch returns.
    end = period.last if start > now else min(period.last, now)
    seconds = next((each for each in lengths if end - start <= each * SECOND * MOST_WINDOWS), lengths[-1])
    return _window(start, end, seconds, whole=start == period.first)


def of_batches(shown: Window, period: Period) -> Window:
    """Return the window of the batches that scored what is shown.

    They have the time of the job, which may be days after that of the events; so their buckets have a length of their
    own. And there may be batches whose events were deleted long ago.

    Args:
        shown: the window of the events.
        period: the first and the last batch of all.
    """
    start = shown.start - MINUTE if shown.whole else shown.start  # a batch begins before the last of its events comes
    return _window(max(start, period.first), period.last, 1, whole=False)


def _window(start: int, end: int, seconds: int, *, whole: bool) -> Window:
    span, shortest = max(0, end - start), seconds * SECOND
    doubled = shortest
    while span > doubled * BUCKETS:
        doubled *= 2
    round_ones = (interval for interval in INTERVALS if interval % shortest == 0 and span <= interval * BUCKETS)
    round_one = next(round_ones, doubled)
    interval = round_one if round_one <= 4 * doubled else doubled
    return Window(start - start % interval, interval, whole, seconds)
