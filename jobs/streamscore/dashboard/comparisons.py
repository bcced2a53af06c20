"""The comparisons of the models, and how their differences came about over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from streamscore.clients.comparison_reader import Compared
from streamscore.quality import paired
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.windows import Window


class DifferencePoint(NamedTuple):
    """The difference in accuracy on all events of a pair up to the end of a bucket, in percentage points."""

    at: int
    """Start of the bucket, in epoch milliseconds."""
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Card:
    """The comparison of a pair of versions, and how its difference came about."""

    compared: Compared
    course: tuple[DifferencePoint, ...]
    """The points of the shown time range, in order of time."""


def cards(
    found: Iterable[Compared],
    courses: Mapping[tuple[str, str], Sequence[tuple[int, PairStatistic]]],
    shown: Window,
) -> tuple[Card, ...]:
    """Return the cards of the comparisons with events in the shown time range.

    Args:
        found: the comparisons.
        courses: the events of each bucket of the time range, by topic and ``Pair.id``.
        shown: the time range.
    """
    return tuple(
        Card(each, _course(each, courses.get((each.topic, each.pair.id), ())))
        for each in found
        if each.last + shown.seconds * 1_000 > shown.start
    )


def _course(each: Compared, buckets: Sequence[tuple[int, PairStatistic]]) -> tuple[DifferencePoint, ...]:
    """Return the difference up to the end of each bucket: of all events before the range, and of the buckets so far."""
    inside = [_counts(statistic) for _, statistic in buckets]
    whole = _counts(each.comparison.sums)
    before = tuple(max(0, total - sum(column)) for total, column in zip(whole, zip(*inside, strict=True), strict=False))
    sums = accumulate(inside, _added, initial=before)
    next(sums)
    points = []
    for (at, _), (events, challenger, champion) in zip(buckets, sums, strict=True):
        found = paired.accuracy_difference(PairStatistic(events, challenger, champion), each.comparison.alpha)
        if found is not None and found.low is not None and found.high is not None:
            points.append(DifferencePoint(at, 100 * found.value, 100 * found.low, 100 * found.high))
    return tuple(points)


def _counts(statistic: PairStatistic) -> tuple[int, int, int]:
    return statistic.events, statistic.only_challenger, statistic.only_champion


def _added(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
