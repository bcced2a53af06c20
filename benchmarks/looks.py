"""Simulate streams of two models, and print how often and how soon each test finds a difference."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.stats import binom

from streamscore.quality import paired
from streamscore.quality.pairs import PairStatistic

STREAMS: Final = 1_000
DISCORDANT: Final = 0.1
"""Share of the events on which the models disagree."""
STEP: Final = 100
"""Events between two looks."""
ALPHA: Final = 0.05

_evidence = np.vectorize(lambda won, lost: paired.log_evidence(PairStatistic(won + lost, won, lost)))


def simulated(difference: float, events: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at each look how many events only the challenger, and only the champion had right; shape (streams, looks).

    Args:
        difference: the challenger's accuracy minus the champion's.
        events: number of events of a stream.
    """
    random = np.random.default_rng(7)
    disagreements = random.binomial(STEP, DISCORDANT, (STREAMS, events // STEP))
    won = random.binomial(disagreements, (1 + difference / DISCORDANT) / 2)
    return won.cumsum(axis=1), (disagreements - won).cumsum(axis=1)


def main() -> None:
    """Print the numbers of docs/compare.md."""
    won, lost = simulated(0.0, 20_000)
    p_values = np.minimum(1.0, 2 * binom.cdf(np.minimum(won, lost), won + lost, 0.5))
    tests = {"McNemar, p < 0.05": p_values < ALPHA, "this one, alpha 0.05": _evidence(won, lost) >= -math.log(ALPHA)}
    print("| test | verdict in one of 200 looks | in the last look alone |")
    print("| --- | --- | --- |")
    for name, found in tests.items():
        print(f"| {name} | {found.any(axis=1).mean():.1%} | {found[:, -1].mean():.1%} |".replace("%", " %"))
    for difference, events in ((0.01, 20_000), (0.002, 200_000)):
        found = _evidence(*simulated(difference, events)) >= -math.log(ALPHA)
        has_verdict = found.any(axis=1)
        median = np.median(np.where(has_verdict, (found.argmax(axis=1) + 1) * STEP, np.inf))
        print(
            f"a difference of {100 * difference:g} points: a verdict in {has_verdict.mean():.1%} of streams of "
            f"{events:,} events; half of all streams have it after {median:,.0f}"
        )


if __name__ == "__main__":
    main()
