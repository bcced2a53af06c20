"""What a figure says: its value, and how far the true one may be from it. Intervals are of 95 %."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Z: Final = 1.959963984540054
"""Quantile of the normal distribution between whose negative and itself 95 % of it lie."""

Comparison = Literal["above", "below", "unclear"]
"""Where a figure lies beside a reference: ``unclear`` if its interval holds the reference."""


@dataclass(frozen=True)
class Value:
    """A figure without an interval."""

    value: float

    def to_json(self) -> dict[str, float | None]:
        """Return the fields of the figure for JSON: ``value``, and those of the class."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Estimate(Value):
    """A figure with its interval, of 95 %: from ``low`` to ``high``; None if there are too few events for one."""

    low: float | None
    high: float | None

    @property
    def width(self) -> float | None:
        """Width of the interval, in the figure's unit."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def error(self) -> float:
        """How far the value itself may be off that of the single events: 0, for it is exact."""
        return 0.0


@dataclass(frozen=True)
class BinnedEstimate(Estimate):
    """A figure from bins: that of the single events lies within ``value`` ± ``bound``, whatever their order in a bin.

    The interval is that of the value; both uncertainties add.
    """

    bound: float

    @property
    def error(self) -> float:
        """How far the value itself may be off that of the single events."""
        return self.bound


@dataclass(frozen=True)
class BoundedValue(Value):
    """A figure from bins: that of the single events lies between ``lower`` and ``upper``, whatever their order."""

    lower: float
    upper: float


Figure = Value | Estimate | BinnedEstimate | BoundedValue


def normal(value: float, standard_error: float, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return a value with the interval of a normal distribution, value ± 1.96 standard errors.

    Args:
        value: the figure.
        standard_error: its standard error.
        limits: lowest and highest value that the figure can have; the interval ends there.
    """
    low, high = value - Z * standard_error, value + Z * standard_error
    return Estimate(value, max(float(limits[0]), low), min(float(limits[1]), high))


def wilson(part: float, whole: float) -> Estimate | None:
    """Return a share with Wilson's score interval; None if the whole is empty.

    It stays inside [0, 1] and is right for few events and for shares near 0 and 1, where the normal interval is not.
    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).

    Args:
        part: events that count.
        whole: all events.
    """
    if not whole:
        return None
    share = part / whole
    spread = Z * math.sqrt(share * (1 - share) / whole + (Z / (2 * whole)) ** 2)
    middle, shrink = share + Z**2 / (2 * whole), 1 + Z**2 / whole
    low = 0.0 if part == 0 else (middle - spread) / shrink
    high = 1.0 if part == whole else (middle + spread) / shrink
    return Estimate(share, low, high)


def mean(estimates: Iterable[Estimate]) -> Estimate:
    """Return the mean of independent estimates with its interval (MOVER).

    low = m - sqrt(Σ(value - low)²) / k, and high likewise. Source: G. Y. Zou and A. Donner, Construction of confidence
    limits about effect measures, Statistics in Medicine 27 (2008).

    Args:
        estimates: at least one, each with an interval.
    """
    parts = list(estimates)
    middle = math.fsum(part.value for part in parts) / len(parts)
    below = math.hypot(*(part.value - (part.value if part.low is None else part.low) for part in parts))
    above = math.hypot(*((part.value if part.high is None else part.high) - part.value for part in parts))
    return Estimate(middle, middle - below / len(parts), middle + above / len(parts))


def compare(figure: Figure | None, reference: float | None) -> Comparison:
    """Return on which side of a reference a figure lies; ``unclear`` unless its whole interval lies there.

    The bound of a figure from bins widens its interval. A figure without an interval, or undefined, is ``unclear``.

    Args:
        figure: the figure.
        reference: what it is compared with, for instance the majority-class baseline; None if it is undefined.
    """
    if not isinstance(figure, Estimate) or reference is None or figure.low is None or figure.high is None:
        return "unclear"
    if figure.low - figure.error > reference:
        return "above"
    return "below" if figure.high + figure.error < reference else "unclear"
