"""The arithmetic of the benchmark: medians, ratios with their spread, percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Run:
    """One measured run of one side."""

    events: float
    """Events, or whatever the rate counts, of the steady state that was timed."""
    seconds: float
    """Wall time of these."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """CPU microseconds per event, by process."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


@dataclass(frozen=True)
class Ratio:
    """How two sides that were run in turn compare: the median over the rounds, and the least and the largest."""

    median: float
    least: float
    largest: float


def ratio(these: Sequence[float], those: Sequence[float]) -> Ratio:
    """Divide round by round, since what else the machine does falls on both sides of a round alike.

    Args:
        these: a number per round, of the side above the line.
        those: the same of the side below it.
    """
    rounds = [this / that for this, that in zip(these, those, strict=True)]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds))


def median_cpu(runs: Sequence[Run]) -> dict[str, float]:
    """Return the median CPU microseconds per event of each process."""
    names = dict.fromkeys(name for run in runs for name in run.cpu)
    return {name: statistics.median(run.cpu.get(name, 0.0) for run in runs) for name in names}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
