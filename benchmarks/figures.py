"""The arithmetic of the benchmark: medians, ratios with their spread, percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict


@dataclass(frozen=True)
class Run:
    """One measured run of one side."""

    events: float
    """Events, or whatever the rate counts, of the steady state that was timed."""
    seconds: float
    """Wall time of these."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """CPU microseconds per event, by process."""
    done: int = 0
    """Events of the whole run, those that were not timed too."""

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


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    title: str
    value: float
    """The median over the rounds."""
    least: float
    largest: float
    floor: float | None = None
    at_most: bool = False
    """Whether the floor is the most that is allowed, rather than the least."""
    unit: str = ""
    """What the value is, if it is no ratio."""
    rates: Sequence[float] = ()
    """Median events (or rows, or documents) per second of the two sides."""
    cpu: Sequence[Mapping[str, float]] = ()
    """Median CPU microseconds per event, by process, of the two sides."""

    @property
    def holds(self) -> bool | None:
        """Whether the floor is reached; None if there is none."""
        if self.floor is None:
            return None
        return self.value <= self.floor if self.at_most else self.value >= self.floor


def compared(title: str, these: Sequence[Run], those: Sequence[Run], floor: float | None = None) -> Row:
    """Return the row of a ratio of rates."""
    found = ratio([run.rate for run in these], [run.rate for run in those])
    rates = [statistics.median(run.rate for run in side) for side in (these, those)]
    cpu = [median_cpu(side) for side in (these, those)]
    return Row(title, found.median, found.least, found.largest, floor, rates=rates, cpu=cpu)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as JSON takes them."""
    return [asdict(row) | {"holds": row.holds} for row in rows]


class Growth(TypedDict):
    """What an event costs as something grows."""

    process: str
    """Whose CPU time it is."""
    cost: dict[str, float]
    """CPU microseconds per event, by size."""
