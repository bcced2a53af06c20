"""The figures of predicted probabilities: are they right on average, and how much do they tell? Exact, from sums.

n labelled events, Σl their log loss, b = Σy / n the observed rate of class 1. Undefined (None) for margins, and without
events; but for the log loss, also with more than two classes.
"""

from __future__ import annotations

import math
from typing import Final

from streamscore.quality.estimates import Estimate, Value, normal
from streamscore.quality.statistic import Statistic

LOG_LOSS: Final = "log loss"
NORMALISED_ENTROPY: Final = "normalised entropy"
RIG: Final = "relative information gain"
RIG_SHORT: Final = "RIG"
BRIER: Final = "Brier score"
CALIBRATION_RATIO: Final = "calibration ratio"


def log_loss(statistic: Statistic) -> Value | None:
    """Return the mean log loss Σl / n, in nats, from 0 (certain and right) to 36 (certain and wrong).

    l = -ln of the probability that the model gave to the label, kept 2^-52 away from 0 and 1, as scikit-learn does.
    """
    return Value(statistic.loss / statistic.loss_events) if statistic.loss_events else None


def normalised_entropy(statistic: Statistic) -> Estimate | None:
    """Return the log loss divided by that of always predicting the observed rate: NE = L / H(b), 0 or more.

    H(b) = -(b ln b + (1 - b) ln(1 - b)). Below 1 the model knows more than the rate. Source: X. He et al., Practical
    lessons from predicting clicks on ads at Facebook, ADKDD 2014. Interval: normal, by the influence of an event,
    (l - L) / H - g (y - b) with g = NE ln((1 - b) / b) / H, for both L and b are estimated from the same events.
    Undefined (None) if all labels are of one class.
    """
    n = _events(statistic)
    b = statistic.positives / n if n else 0.0
    if b in {0, 1}:
        return None
    entropy = -(b * math.log(b) + (1 - b) * math.log(1 - b))
    loss = statistic.loss / n
    value = loss / entropy
    slope = value * math.log((1 - b) / b) / entropy
    variance = (
        (statistic.loss_squared / n - loss**2) / entropy**2
        - 2 * slope / entropy * (statistic.loss_times_label / n - loss * b)
        + slope**2 * b * (1 - b)
    )
    return normal(value, math.sqrt(max(0.0, variance) / n), (0, math.inf))


def relative_information_gain(statistic: Statistic) -> Estimate | None:
    """Return RIG = 1 - NE, at most 1: the share of the labels' entropy that the model takes away; 0 is the bare rate.

    It is scikit-learn's ``d2_log_loss_score``. Interval and cases without a value: those of ``normalised_entropy``.
    """
    entropy = normalised_entropy(statistic)
    if entropy is None or entropy.low is None or entropy.high is None:
        return None
    return Estimate(1 - entropy.value, 1 - entropy.high, 1 - entropy.low)


def brier_score(statistic: Statistic) -> Value | None:
    """Return the mean squared error of the probabilities, (Σp² - 2 Σpy + Σy) / n, in [0, 1]; 0 is best.

    Source: G. W. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78 (1950).
    """
    n = _events(statistic)
    if not n:
        return None
    squares = math.fsum((statistic.labelled_p_squared, -2 * statistic.p_times_label, statistic.positives))
    return Value(max(0.0, squares / n))


def calibration_ratio(statistic: Statistic) -> Estimate | None:
    """Return predicted ÷ observed events of class 1, r = Σp / Σy, 0 or more; 1 is right on average.

    Interval: normal, with the standard error of a ratio of means, sqrt((Σp² - 2 r Σpy + r² Σy) / n) / (b sqrt(n)).
    Undefined (None) if no label is of class 1.
    """
    n, positives = _events(statistic), statistic.positives
    if not n or not positives:
        return None
    ratio = statistic.labelled_p / positives
    squares = math.fsum((statistic.labelled_p_squared, -2 * ratio * statistic.p_times_label, ratio**2 * positives))
    return normal(ratio, math.sqrt(max(0.0, squares)) / positives, (0, math.inf))


def _events(statistic: Statistic) -> int:
    """Return the number of events that the sums over p are of."""
    return statistic.loss_events if statistic.score_kind == "probability" else 0
