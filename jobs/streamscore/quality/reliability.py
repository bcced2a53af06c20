"""The reliability diagram: what was predicted beside what was observed, in groups of equally many events; from bins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from streamscore.quality import bins
from streamscore.quality.estimates import Estimate, wilson
from streamscore.quality.statistic import Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

ECE: Final = "expected calibration error"

GROUPS: Final = 10
"""Groups of the reliability diagram, of about equally many events."""


@dataclass(frozen=True)
class Group:
    """A point of the reliability diagram: labelled events with probabilities near each other."""

    predicted: float
    """Mean probability, as if each event had that of the middle of its bin."""
    predicted_error: float
    """How far the mean probability may be off for that: half the mean width of the bins."""
    observed: Estimate
    """Share of class 1, with Wilson's interval."""
    events: int


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error, and what a model of perfectly calibrated probabilities would show."""

    value: float
    bound: float
    """The error with the single events' probabilities, in the same groups, lies within ``value`` ± ``bound``."""
    by_chance: float
    """Mean of what a perfectly calibrated model would show in these groups, by chance."""
    by_chance_high: float
    """What a perfectly calibrated model exceeds by chance in 5 % of cases."""


@dataclass(frozen=True)
class ScoreBin:
    """Labelled events of class 1 and class 0 with a score between two edges: a probability, or a scaled margin."""

    low: float
    high: float
    positive: int
    negative: int


def groups(statistic: Statistic) -> list[Group] | None:
    """Return the points of the reliability diagram, from the lowest probability up.

    Bins are joined to at most ``GROUPS`` groups; a bin goes to the group in which the middle one of its events lies.
    None if scores are no probabilities, or nothing is labelled.
    """
    positive, negative = bins.by_label(statistic.labels)
    events = positive + negative
    total = int(events.sum())
    if statistic.score_kind != "probability" or not total:
        return None
    rank = GROUPS * (np.cumsum(events) - events / 2) / total
    of_bin = np.minimum(GROUPS - 1, rank.astype(int))
    used = np.flatnonzero(events).tolist()
    low, high = _probability_edges()
    found = []
    for _, members in groupby(used, key=lambda at: int(of_bin[at])):
        at = list(members)
        size = int(events[at].sum())
        observed = wilson(int(positive[at].sum()), size)
        predicted = float(events[at] @ (low[at] + high[at])) / (2 * size)
        error = float(events[at] @ (high[at] - low[at])) / (2 * size)
        if observed is not None:
            found.append(Group(predicted, error, observed, size))
    return found


def expected_calibration_error(statistic: Statistic) -> CalibrationError | None:
    """Return the expected calibration error Σ_j |Σp_j - Σy_j| / n over the groups of the diagram, in [0, 1].

    It is never 0, by chance alone: beside it stands what a perfectly calibrated model of that size would show, the sum
    of the mean absolute deviations of binomial variables, 2 m (1 - p) P(X = m) with m = floor(n p) + 1 (A. de Moivre,
    see P. Diaconis and S. Zabell, Closed form summation for classical distributions, Statistical Science 6, 1991), and
    1.645 standard deviations above it. Source of the figure: M. P. Naeini, G. F. Cooper and M. Hauskrecht, Obtaining
    well calibrated probabilities using Bayesian binning, AAAI 2015. None where ``groups`` is None.
    """
    points = groups(statistic)
    if not points:
        return None
    total = sum(point.events for point in points)
    differences = (point.events * abs(point.predicted - point.observed.value) for point in points)
    deviations = [_mean_absolute_deviation(point.events, point.predicted) for point in points]
    variance = math.fsum(
        max(0.0, point.events * point.predicted * (1 - point.predicted) - deviation**2)
        for point, deviation in zip(points, deviations, strict=True)
    )
    by_chance = math.fsum(deviations) / total
    return CalibrationError(
        value=math.fsum(differences) / total,
        bound=math.fsum(point.events * point.predicted_error for point in points) / total,
        by_chance=by_chance,
        by_chance_high=by_chance + 1.6448536269514722 * math.sqrt(variance) / total,
    )


def score_distribution(statistic: Statistic) -> list[ScoreBin]:
    """Return the labelled events by score and label, from the lowest score up; only bins that are used."""
    positive, negative = bins.by_label(statistic.labels)
    if statistic.score_kind == "probability":
        low, high = _probability_edges()
    else:
        low = bins.lower_edges()
        high = low + 1 / bins.PER_LOGIT
    return [
        ScoreBin(float(low[at]), float(high[at]), int(positive[at]), int(negative[at]))
        for at in np.flatnonzero(positive + negative).tolist()
    ]


def _probability_edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest probability of each bin; those at the ends reach to 0 and 1."""
    edges = 1 / (1 + np.exp(-bins.lower_edges()))
    return np.concatenate(([0.0], edges[1:])), np.concatenate((edges[1:], [1.0]))


def _mean_absolute_deviation(events: int, probability: float) -> float:
    """Return the mean absolute deviation of a binomial variable from its mean."""
    m = math.floor(events * probability) + 1
    if m > events:  # a probability of 1 never deviates
        return 0.0
    log_choose = math.lgamma(events + 1) - math.lgamma(m + 1) - math.lgamma(events - m + 1)
    return 2 * m * math.exp(log_choose + m * math.log(probability) + (events - m + 1) * math.log1p(-probability))
