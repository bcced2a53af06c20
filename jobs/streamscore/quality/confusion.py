"""Confusion counts: the labelled events by label and prediction, and the counts that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Confusion = Mapping[tuple[float, float], int]
"""Labelled events by label and prediction."""


def total(parts: Iterable[Confusion]) -> Confusion:
    """Return the sum of confusion counts: of several windows, versions or streams."""
    counts: Counter[tuple[float, float]] = Counter()
    for part in parts:
        counts.update(part)
    return dict(counts)


def labelled(confusion: Confusion) -> int:
    """Return the number of events with a label."""
    return sum(confusion.values())


def correct(confusion: Confusion) -> int:
    """Return the number of events whose prediction equals their label."""
    return sum(events for (label, prediction), events in confusion.items() if label == prediction)


def incorrect(confusion: Confusion) -> int:
    """Return the number of events whose prediction differs from their label."""
    return labelled(confusion) - correct(confusion)


def label_counts(confusion: Confusion) -> Counter[float]:
    """Return the number of events of each label."""
    counts: Counter[float] = Counter()
    for (label, _), events in confusion.items():
        counts[label] += events
    return counts


def classes(confusion: Confusion) -> list[float]:
    """Return the labels and predictions that occur, in ascending order."""
    return sorted({value for pair in confusion for value in pair})
