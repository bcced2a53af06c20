"""The figures of order: do events of class 1 have higher scores? From bins, each with the bound of what bins hide.

Only the order matters: a margin is as good as a probability. Undefined (None) unless labels of both classes occur.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from streamscore.quality import bins
from streamscore.quality.estimates import BinnedEstimate, BoundedValue, normal
from streamscore.quality.statistic import Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

AUC: Final = "ROC AUC"
AVERAGE_PRECISION: Final = "average precision"


def auc(statistic: Statistic) -> BinnedEstimate | None:
    """Return the area under the ROC curve, in [0, 1]: how often an event of class 1 scores above one of class 0.

    With p_j and n_j the events of class 1 and 0 in bin j, P and N their sums, N_<j those of lower bins: events of a bin
    count as ties, Σ p_j (N_<j + n_j / 2) / (P N). The area of the single events is within ± Σ p_j n_j / (2 P N).
    Interval: normal, with the variance of E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Comparing the areas
    under two or more correlated receiver operating characteristic curves, Biometrics 44 (1988); none with a single
    event of either class.
    """
    positive, negative = bins.by_label(statistic.labels)
    all_positive, all_negative = int(positive.sum()), int(negative.sum())
    if not all_positive or not all_negative:
        return None
    below_positive = (_before(negative) + negative / 2) / all_negative
    above_negative = 1 - (_before(positive) + positive / 2) / all_positive
    value = float(positive @ below_positive) / all_positive
    bound = float(positive @ (negative / all_negative)) / (2 * all_positive)
    if min(all_positive, all_negative) == 1:
        return BinnedEstimate(value, None, None, bound)
    variance = float(positive @ (below_positive - value) ** 2) / ((all_positive - 1) * all_positive)
    variance += float(negative @ (above_negative - value) ** 2) / ((all_negative - 1) * all_negative)
    interval = normal(value, math.sqrt(variance), (0, 1))
    return BinnedEstimate(value, interval.low, interval.high, bound)


def average_precision(statistic: Statistic) -> BoundedValue | None:
    """Return the average precision, in [0, 1]: the precision at the rank of each event of class 1, averaged.

    From the highest bin down, with A events of class 1 and B events of all before bin j: events of a bin count as ties,
    Σ p_j / P · (A + p_j) / (B + p_j + n_j). Undefined (None) without events of class 1.

    Bounds of the average precision of the single events, as scikit-learn computes it, ties of any extent included:

    - upper: all p_j come before the n_j and are ties, Σ p_j / P · (A + p_j) / (B + p_j);
    - lower: all n_j come first, then the p_j one by one, so that B' = B + n_j are before them: Σ_j Σ_i (A + i) / (B' +
      i) / P over i = 1 … p_j; the inner sum is p_j - (B' - A) (ψ(B' + p_j + 1) - ψ(B' + 1)), ψ the digamma function.
    """
    from scipy.special import digamma

    positive, negative = (counts[::-1] for counts in bins.by_label(statistic.labels))
    used = positive > 0
    if not used.any():
        return None
    right = _before(positive)[used]
    wrong = _before(negative)[used]
    p, n = positive[used], negative[used]
    first = right + wrong + n
    shares = p / p.sum()
    value = shares @ ((right + p) / (first + p))
    upper = shares @ ((right + p) / (right + wrong + p))
    lower = (p - (wrong + n) * (digamma(first + p + 1.0) - digamma(first + 1.0))).sum() / p.sum()
    return BoundedValue(float(value), float(min(lower, value)), float(upper))


def roc_curve(statistic: Statistic) -> list[tuple[float, float]] | None:
    """Return the ROC curve: false and true positive rate at the lower edge of each used bin, from (0, 0) to (1, 1)."""
    positive, negative = bins.by_label(statistic.labels)
    if not positive.any() or not negative.any():
        return None
    used = (positive + negative)[::-1] > 0
    true = np.cumsum(positive[::-1])[used] / positive.sum()
    false = np.cumsum(negative[::-1])[used] / negative.sum()
    return [(0.0, 0.0), *zip(false.tolist(), true.tolist(), strict=True)]


def _before(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each bin the events of the bins before it."""
    return np.cumsum(counts) - counts
