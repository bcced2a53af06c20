"""Which of two models is better: a paired test that holds however often people look.

A test for one look, such as McNemar's, raises a false alarm in half of the streams if it is asked a thousand times
while events come in. These hold at every look at once. Events are taken to be independent; those of one user are not,
and a verdict over few users comes too early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from streamscore.quality.estimates import Estimate
from streamscore.quality.pairs import PairStatistic

Verdict = Literal["better", "worse"]
"""What the challenger is, compared with the champion."""

ALPHA: Final = 0.05
"""Share of streams without a difference in which there may ever be a verdict."""

TUNED_FOR: Final = 500
"""Discordant events at which the test and its intervals are sharpest; they hold at any number."""

ASYMPTOTIC_TUNED_FOR: Final = 5_000
"""Events at which the asymptotic interval is sharpest."""

MIN_DISCORDANT: Final = 25
"""Fewest discordant events for an asymptotic interval: before, it would be wrong in up to a third of streams."""


def log_evidence(pair: PairStatistic, prior: float | None = None) -> float:
    """Return ln E, the evidence for a difference in accuracy: E = 2^m B(a + n10, a + n01) / B(a, a).

    m discordant events, of which n10 only the challenger and n01 only the champion had right. Without a difference a
    discordant event is a fair coin, and E, the likelihood ratio of a beta mixture of unfair coins, exceeds 1 / α at any
    time with a probability of at most α. Exact. Source: H. Robbins, Statistical methods related to the law of the
    iterated logarithm, Annals of Mathematical Statistics 41 (1970).

    Args:
        pair: the sums over the events.
        prior: a, the two parameters of the beta distribution; None: sharpest at ``TUNED_FOR`` discordant events.
    """
    from scipy.special import betaln

    a = (_rho(ALPHA) - 1) / 2 if prior is None else prior
    ratio = betaln(a + pair.only_challenger, a + pair.only_champion) - betaln(a, a)
    return float(pair.discordant * math.log(2) + ratio)


@dataclass(frozen=True)
class Evidence:
    """What all looks so far have shown about a pair of versions; a new version begins a new one."""

    log_maximum: float = 0.0
    """The largest ln E so far, 0 or more."""
    verdict: Verdict | None = None
    """The verdict; once given, it is kept."""
    verdict_events: int | None = None
    """Number of events with which the verdict was given; None without a verdict."""

    @property
    def p_value(self) -> float:
        """The p-value that holds at every look: min(1, 1 / max E)."""
        return math.exp(-self.log_maximum)

    def after(self, pair: PairStatistic, alpha: float = ALPHA) -> Evidence:
        """Return the evidence after one more look.

        There is a verdict once E reaches 1 / α, never while all labels are of one class.

        Args:
            pair: the sums over all events of the pair so far.
            alpha: share of streams without a difference in which there may ever be a verdict.
        """
        if sum(events > 0 for events in pair.labels.values()) <= 1:
            return self
        found = log_evidence(pair)
        log_maximum = max(self.log_maximum, found)
        if self.verdict is not None or found < -math.log(alpha):
            return Evidence(log_maximum, self.verdict, self.verdict_events)
        return Evidence(log_maximum, "better" if pair.only_challenger > pair.only_champion else "worse", pair.events)


def accuracy_difference(pair: PairStatistic, alpha: float = ALPHA) -> Estimate | None:
    """Return the challenger's accuracy minus the champion's, in [-1, 1], with an interval that holds at every look.

    (S ± u) / n, S = n10 - n01, with u from ``_half_width`` at V = m. Exact. Undefined (None) without events.
    """
    difference = pair.only_challenger - pair.only_champion
    return _exact(difference, pair.discordant, pair.events, alpha)


def brier_difference(pair: PairStatistic, alpha: float = ALPHA) -> Estimate | None:
    """Return the champion's Brier score minus the challenger's, in [-1, 1], with an interval that holds at every look.

    (Σd ± u) / n with u from ``_half_width`` at V = Σd². Exact. Undefined (None) unless both give probabilities.
    """
    return _exact(pair.brier_difference, pair.brier_difference_squared, pair.probability_events, alpha)


def log_loss_difference(pair: PairStatistic, alpha: float = ALPHA) -> Estimate | None:
    """Return the champion's log loss minus the challenger's, in nats, with an interval that holds at every look.

    Asymptotic, for a log loss has no bound; none before ``MIN_DISCORDANT`` discordant events. Undefined (None) unless
    both give probabilities.
    """
    n = pair.probability_events
    if not n:
        return None
    mean = pair.loss_difference / n
    if pair.discordant < MIN_DISCORDANT:
        return Estimate(mean, None, None)
    half = asymptotic_half_width(n, pair.loss_difference_squared / n - mean**2, alpha)
    return Estimate(mean, mean - half, mean + half)


def asymptotic_half_width(events: int, variance: float, alpha: float = ALPHA) -> float:
    """Return half the width of an asymptotic confidence sequence for a mean.

    σ sqrt(2 (nρ² + 1) / (n²ρ²) ln(sqrt(nρ² + 1) / α)), ρ² = (-2 ln α + ln(1 - 2 ln α)) / ``ASYMPTOTIC_TUNED_FOR``.
    Source: I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas, Time-uniform central limit theory and
    asymptotic confidence sequences, Annals of Statistics 52 (2024).

    Args:
        events: n, the number of events.
        variance: σ², the variance of an event.
        alpha: share of streams in which the interval may ever miss the mean.
    """
    spread = events * (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / ASYMPTOTIC_TUNED_FOR
    growth = 2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha)
    return math.sqrt(max(0.0, variance) * growth / events)


def is_within(difference: Estimate | None, margin: float) -> bool:
    """Return whether the whole interval of a difference lies inside ± margin: equally good for practical purposes.

    Args:
        difference: the difference; an undefined one is not within.
        margin: the largest difference that does not matter, in its unit.
    """
    if difference is None or difference.low is None or difference.high is None:
        return False
    return -margin < difference.low and difference.high < margin


def typical_events(difference: float, discordant: float, alpha: float = ALPHA) -> int | None:
    """Return after how many events a stream usually has a verdict: the number by which most streams have one.

    It is where E reaches 1 / α if the counts are what is expected, some 15 % above the median; None if beyond 10^12.

    Args:
        difference: true difference in accuracy, in [0, 1].
        discordant: share of events that are discordant, at least the difference.
        alpha: as for the verdict.
    """
    challenger, champion = (discordant + difference) / 2, (discordant - difference) / 2

    def has_verdict(events: int) -> bool:
        counts = PairStatistic(events, round(events * challenger), round(events * champion))
        return log_evidence(counts) >= -math.log(alpha)

    high = 1
    while not has_verdict(high):
        high *= 2
        if high > 10**12:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_verdict(middle) else (middle, high)
    return high


def _exact(total: float, squares: float, events: int, alpha: float) -> Estimate | None:
    if not events:
        return None
    half = _half_width(squares, alpha)
    return Estimate(total / events, max(-1.0, (total - half) / events), min(1.0, (total + half) / events))


@lru_cache(maxsize=4_096)  # the page draws the same points again and again
def _half_width(squares: float, alpha: float) -> float:
    """Return u with ln e(u, V) = ln(2 / α): the sum of n differences is within ± u of its mean, at every n.

    ln e(s, V) = ρ ln ρ - lnΓ(ρ) - ln P(ρ, ρ) + lnΓ(V + ρ) + ln P(V + ρ, s + V + ρ) - (V + ρ) ln(s + V + ρ) + s + V,
    with P the regularised lower gamma function: the gamma-exponential mixture for differences in [-1, 1]. Source: S. R.
    Howard, A. Ramdas, J. McAuliffe and J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences,
    Annals of Statistics 49 (2021), proposition 9.

    Args:
        squares: V, the sum of the squared differences.
        alpha: share of streams in which the interval may ever miss the mean.
    """
    from scipy.optimize import brentq
    from scipy.special import gammainc, gammaln

    rho = _rho(alpha)
    shape = squares + rho
    constant = rho * math.log(rho) - gammaln(rho) - math.log(gammainc(rho, rho)) + gammaln(shape) - math.log(2 / alpha)

    def excess(s: float) -> float:
        within = math.log(gammainc(shape, s + shape))
        return float(constant + within - shape * math.log(s + shape) + s + squares)

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-12))


def _rho(alpha: float) -> float:
    """Return the mixture's parameter that is sharpest at ``TUNED_FOR``: v / (2 ln(1 / α) + ln(1 + 2 ln(1 / α)))."""
    twice = -2 * math.log(alpha)
    return TUNED_FOR / (twice + math.log1p(twice))
