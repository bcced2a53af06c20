"""Bins of scores: a fixed grid on the logit, so that the bins of any two windows, streams or jobs can be added.

A grid on the logit is fine where the probabilities of rare events lie: at a base rate of 0.3 % it bounds the ROC AUC to
some 0.005, while bins of equal width on [0, 1] leave it open by 0.2. Quantiles would be as fine, but those of one
window cannot be added to another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bins = NDArray[np.int64]

BINS: Final = 512
"""Number of bins: 0 is the lowest. Bin ``b`` holds the scores with a logit in [(b - 256) / 16, (b - 255) / 16)."""

PER_LOGIT: Final = 16
"""Bins per unit of the logit."""

UNBINNED: Final = -1
"""Bin of all scores that have none: not finite, outside [0, 1] where scores are probabilities, or of more than two
classes."""


def of_probabilities(probabilities: ArrayLike) -> Bins:
    """Return the bin of each probability: floor(16 ln(p / (1 - p))) + 256; 0 is in the lowest bin, 1 in the highest.

    Args:
        probabilities: any shape; a number outside [0, 1], or NaN, is ``UNBINNED``.
    """
    raw = np.asarray(probabilities, dtype=float)
    valid = is_probability(raw)
    p = np.where(valid, raw, 0.5)
    with np.errstate(divide="ignore"):
        return _of_logits(np.log(p / (1 - p)), valid)


def of_margins(margins: ArrayLike, scale: float = 1.0) -> Bins:
    """Return the bin of each margin: floor(16 margin / scale) + 256, between the lowest and the highest bin.

    Args:
        margins: any shape; a number that is not finite is ``UNBINNED``.
        scale: what one unit of the logit stands for: half the standard deviation of the model's margins on its test
            set, so that the bins are fine and reach 8 standard deviations to either side.
    """
    raw = np.asarray(margins, dtype=float)
    valid = np.isfinite(raw)
    return _of_logits(np.where(valid, raw, 0.0) / scale, valid)


def is_probability(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each number whether it lies in [0, 1]; NaN does not."""
    return (numbers >= 0) & (numbers <= 1)


def lower_edges() -> NDArray[np.float64]:
    """Return the logit at which each bin begins; the lowest bin also holds all that is below. Shape (BINS,)."""
    return (np.arange(BINS) - BINS // 2) / PER_LOGIT


def by_label(labels: Mapping[tuple[int, float], int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the events of class 1 and those of class 0 in each bin, two arrays of shape (BINS,).

    Args:
        labels: labelled events by bin and label; events without a bin, or of another class, are left out.
    """
    counts = np.zeros((2, BINS), dtype=np.int64)
    for (at, label), events in labels.items():
        if at != UNBINNED and label in {0, 1}:
            counts[int(label), at] += events
    return counts[1], counts[0]


def _of_logits(logits: NDArray[Any], valid: NDArray[np.bool_]) -> Bins:
    bins = np.clip(np.floor(logits * PER_LOGIT) + BINS // 2, 0, BINS - 1)
    return np.where(valid, bins, UNBINNED).astype(np.int64)
