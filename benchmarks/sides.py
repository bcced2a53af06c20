"""The two sides of a ratio, and the others that are measured with them: warmed up, then run in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from figures import Run

SETTLED = 0.05
"""Two rates in a row that differ by less than this share are those of a process that is warm."""


@dataclass(frozen=True)
class Side:
    """One of the things that are compared."""

    run: Callable[[], Run]
    stays: bool = True
    """Whether all its runs are in one process, which gets faster; otherwise each has a new one."""


def compare(sides: Mapping[str, Side], rounds: int, warm_ups: int) -> dict[str, list[Run]]:
    """Run all sides in turn, round after round, once they are warm, and return the runs of each.

    Args:
        sides: by name.
        rounds: how many runs of each side count.
        warm_ups: how many runs of a side whose process stays may precede those.
    """
    warm_up(sides, warm_ups)
    found = [{name: side.run() for name, side in sides.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in found] for name in sides}


def warm_up(sides: Mapping[str, Side], most: int) -> None:
    """Run each side once; those whose process stays in turn until they are settled, ``most`` times at the most."""
    rates = {name: side.run().rate for name, side in sides.items()}
    cold = [name for name, side in sides.items() if side.stays]
    for _ in range(most - 1):
        before = dict(rates)
        rates |= {name: sides[name].run().rate for name in cold}
        cold = [name for name in cold if abs(rates[name] / before[name] - 1) >= SETTLED]
