"""The figures of quality, each a function of additive counts; None where a figure is undefined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ACCURACY: Final = "accuracy"
"""Name of the figure, as the page, the report, Kibana and the notebooks show it."""
BASELINE: Final = "majority-class baseline"
"""Name of the figure that an accuracy is compared with."""
BASELINE_SHORT: Final = "baseline"
"""The same where there is little room: a heading of a table on a terminal."""


def share(part: float, whole: float) -> float | None:
    """Return a part of a whole, in [0, 1]; None if the whole is empty."""
    return part / whole if whole else None


def accuracy(correct: float, labelled: float) -> float | None:
    """Return the share of labelled events that a model predicted right, in [0, 1]; None without labelled events.

    Args:
        correct: labelled events whose prediction equals the label.
        labelled: events with a label.
    """
    return share(correct, labelled)


def baseline(counts: Iterable[float], labelled: float | None = None) -> float | None:
    """Return the accuracy of always predicting the most frequent label, the majority-class baseline, in [0, 1].

    It is what an accuracy has to be compared with: 97 % right says nothing where 97 % of the labels are 0. None
    without labelled events, or if no label was counted, for instance because there are too many classes.

    Args:
        counts: events of each label.
        labelled: events with a label, if ``counts`` may lack some of them; None: their sum.
    """
    counted = list(counts)
    total = sum(counted) if labelled is None else labelled
    return share(max(counted), total) if counted else None


def above_baseline(accuracy: float | None, baseline: float | None) -> float | None:
    """Return how far an accuracy lies above the baseline, in percentage points; None if either is undefined.

    Args:
        accuracy: the model's accuracy, in [0, 1].
        baseline: the majority-class baseline of the same events, in [0, 1].
    """
    return None if accuracy is None or baseline is None else 100 * (accuracy - baseline)
