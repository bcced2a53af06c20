"""The figures of quality, each a function of additive counts; None where a figure is undefined."""

from __future__ import annotations

from collections.abc import Iterable


def accuracy(correct: float, labelled: float) -> float | None:
    """Return the share of labelled events that a model predicted right, in [0, 1]; None without labelled events.

    Args:
        correct: labelled events whose prediction equals the label.
        labelled: events with a label.
    """
    return correct / labelled if labelled else None


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
    return max(counted) / total if total and counted else None
