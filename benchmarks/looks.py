"""Simulate streams of two equally good models, and print how often each test finds a difference at any of its looks."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import binom

from streamscore.quality import paired
from streamscore.quality.pairs import PairStatistic

STREAMS, EVENTS, LOOKS, DISCORDANT, ALPHA = 1_000, 20_000, 200, 0.1, 0.05


def main() -> None:
    """Simulate and print the table of docs/compare.md."""
    random = np.random.default_rng(7)
    step = EVENTS // LOOKS
    # Without a difference each event of disagreement is a fair coin.
    disagreements = random.binomial(step, DISCORDANT, (STREAMS, LOOKS)).cumsum(axis=1)
    won = np.zeros((STREAMS, LOOKS), dtype=int)
    before = np.zeros(STREAMS, dtype=int)
    for look in range(LOOKS):
        new = disagreements[:, look] - (disagreements[:, look - 1] if look else 0)
        before = before + random.binomial(new, 0.5)
        won[:, look] = before
    lost = disagreements - won

    p_values = np.minimum(1.0, 2 * binom.cdf(np.minimum(won, lost), disagreements, 0.5))
    evidence = np.vectorize(lambda won, lost: paired.log_evidence(PairStatistic(EVENTS, won, lost)))(won, lost)
    tests = {"McNemar, p < 0.05": p_values < ALPHA, "this one, alpha 0.05": evidence >= -math.log(ALPHA)}

    print("| test | verdict in one of 200 looks | in the last look alone |")
    print("| --- | --- | --- |")
    for name, found in tests.items():
        print(f"| {name} | {found.any(axis=1).mean():.1%} | {found[:, -1].mean():.1%} |".replace("%", " %"))


if __name__ == "__main__":
    main()
