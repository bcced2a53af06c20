"""The comparisons of the models, and how their differences came about over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamscore.clients.comparison_reader import Compared
from streamscore.quality import paired
from streamscore.quality.pairs import PairStatistic, total
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
    whole, inside = each.comparison.sums, total(statistic for _, statistic in buckets)
    before = PairStatistic(
        max(0, whole.events - inside.events),
        max(0, whole.only_challenger - inside.only_challenger),
        max(0, whole.only_champion - inside.only_champion),
    )
    points, so_far = [], before
    for at, statistic in buckets:
        so_far += statistic
        found = paired.accuracy_difference(so_far, each.comparison.alpha)
        if found is not None and found.low is not None and found.high is not None:
            points.append(DifferencePoint(at, 100 * found.value, 100 * found.low, 100 * found.high))
    return tuple(points)
