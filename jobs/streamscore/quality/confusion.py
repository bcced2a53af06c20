"""Confusion counts: the labelled events by label and prediction, and the counts that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

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


def class_counts(confusion: Confusion) -> Counter[float]:
    """Return the number of events of each label, without those that are counted together as ``OTHER``."""
    return Counter({label: events for label, events in label_counts(confusion).items() if label != OTHER})


MAX_CLASSES: Final = 20
"""Most classes that a table of them names: numbers that are no classes would make millions of cells."""

OTHER: Final = math.inf
"""In condensed counts: any of the classes that are not named."""


def condensed(confusion: Confusion) -> Confusion:
    """Return confusion counts of at most ``MAX_CLASSES`` classes: the rarer ones are counted together as ``OTHER``.

    An event whose label and prediction are both ``OTHER`` may have two different ones.
    """
    events_by_class = label_counts(confusion)
    for (_, prediction), events in confusion.items():
        events_by_class[prediction] += events
    if len(events_by_class) <= MAX_CLASSES:
        return confusion
    named = {value for value, _ in events_by_class.most_common(MAX_CLASSES - 1)}
    counts: Counter[tuple[float, float]] = Counter()
    for pair, events in confusion.items():
        label, prediction = (value if value in named else OTHER for value in pair)
        counts[label, prediction] += events
    return dict(counts)


def classes(confusion: Confusion) -> list[float]:
    """Return the labels and predictions that occur, in ascending order."""
    return sorted({value for pair in confusion for value in pair})
