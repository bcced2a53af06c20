"""ROC AUC and average precision from bins, against scikit-learn on the events and brute force."""

import itertools
import math

import numpy as np
import pytest
from sklearn import metrics

from streamscore.quality import ranking, statistic
from streamscore.quality.estimates import Z
from streamscore.quality.statistic import of_rows


def test_auc_of_the_events_lies_within_the_bound(stream):
    """The events' AUC lies within the bound, which is small even if most scores are near 0."""
    found = ranking.auc(stream.statistic)

    assert abs(found.value - metrics.roc_auc_score(stream.y, stream.scores)) <= found.bound
    assert found.bound <= 0.007


def test_average_precision_of_the_events_lies_within_the_bounds(stream):
    """The events' average precision lies within the bounds, also with ties."""
    found = ranking.average_precision(stream.statistic)

    assert found.lower <= metrics.average_precision_score(stream.y, stream.scores) <= found.upper
    assert found.lower <= found.value <= found.upper
    assert found.upper - found.lower < 0.05


def test_figures_are_exact_for_scores_that_are_the_middle_of_their_bins(clicks):
    """Figures are exact if all scores of a bin are equal."""
    at = np.array([key for key, events in clicks.statistic.labels.items() for _ in range(events)])
    expected = metrics.roc_auc_score(at[:, 1], at[:, 0])

    assert ranking.auc(clicks.statistic).value == pytest.approx(expected, abs=1e-9)
    assert ranking.average_precision(clicks.statistic).value == pytest.approx(
        metrics.average_precision_score(at[:, 1], at[:, 0]), abs=1e-9
    )


def test_roc_curve_is_that_of_scikit_learn(clicks):
    """The curve has a point for each bin and equals scikit-learn's."""
    at = np.array([key for key, events in clicks.statistic.labels.items() for _ in range(events)])
    false, true, _ = metrics.roc_curve(at[:, 1], at[:, 0], drop_intermediate=False)

    np.testing.assert_allclose(ranking.roc_curve(clicks.statistic), np.transpose([false, true]), atol=1e-12)


def test_variance_is_delongs(of_bins):
    """The variance equals DeLong's, computed by brute force from all pairs of events."""
    positive, negative = {100: 2, 130: 3, 140: 1}, {90: 4, 100: 3, 130: 2, 200: 1}
    ones = [at for at, events in positive.items() for _ in range(events)]
    zeros = [at for at, events in negative.items() for _ in range(events)]
    wins = np.array([[(one > zero) + (one == zero) / 2 for zero in zeros] for one in ones])
    variance = wins.mean(1).var(ddof=1) / len(ones) + wins.mean(0).var(ddof=1) / len(zeros)
    found = ranking.auc(of_bins(positive, negative))

    assert found.value == pytest.approx(wins.mean())
    assert found.low == pytest.approx(wins.mean() - Z * math.sqrt(variance))
    assert found.high == pytest.approx(wins.mean() + Z * math.sqrt(variance))
    assert found.bound == pytest.approx((wins == 0.5).mean() / 2)


def test_interval_covers_the_true_area():
    """The interval covers the true AUC in about 95 % of 1,000 samples of 500 events."""
    chance = np.random.default_rng(3)

    def sample(size):
        y = chance.random(size) < 0.2
        return of_rows(y, y, chance.normal(y, 1), "margin", 0.1)

    true = 0.7602499389065233  # two normal distributions at a distance of one: Φ(1 / √2)
    found = [ranking.auc(sample(500)) for _ in range(1_000)]

    assert 0.93 < np.mean([estimate.low <= true <= estimate.high for estimate in found]) < 0.97


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_for_every_order_in_the_bins(of_bins, seed):
    """The bounds hold for every ranking inside the bins, ties included, and are tight."""
    chance = np.random.default_rng(seed)
    positive = {10: 1, 11: int(chance.integers(1, 4))}
    negative = {10: int(chance.integers(0, 3)), 11: int(chance.integers(0, 3)), 12: 1}
    found = of_bins(positive, negative)
    auc, precision = ranking.auc(found), ranking.average_precision(found)
    rows = [(at, 1) for at, n in positive.items() for _ in range(n)]
    rows += [(at, 0) for at, n in negative.items() for _ in range(n)]
    areas, precisions = [], []
    for places in itertools.product(range(3), repeat=len(rows)):
        scores = [at + place / 10 for (at, _), place in zip(rows, places, strict=True)]
        labels = [label for _, label in rows]
        areas.append(brute_auc(labels, scores))
        precisions.append(brute_average_precision(labels, scores))

    assert min(areas) == pytest.approx(auc.value - auc.bound)
    assert max(areas) == pytest.approx(auc.value + auc.bound)
    assert max(precisions) == pytest.approx(precision.upper)
    assert min(precisions) == pytest.approx(precision.lower)


def brute_auc(labels, scores):
    """Return the share of correctly ordered pairs."""
    ones = [score for label, score in zip(labels, scores, strict=True) if label]
    zeros = [score for label, score in zip(labels, scores, strict=True) if not label]
    return sum((one > zero) + (one == zero) / 2 for one in ones for zero in zeros) / (len(ones) * len(zeros))


def brute_average_precision(labels, scores):
    """Return the mean precision at the scores of the events of class 1."""
    at = [score for label, score in zip(labels, scores, strict=True) if label]
    found = [[label for label, score in zip(labels, scores, strict=True) if score >= cut] for cut in at]
    return sum(sum(above) / len(above) for above in found) / len(at)


def test_undefined_figures(of_bins):
    """Figures need events of both classes, and intervals more than one event of each."""
    one, zero = of_bins({300: 2}, {}), of_bins({}, {300: 2})

    assert [ranking.auc(part) for part in (one, zero, statistic.EMPTY)] == [None] * 3
    assert [ranking.roc_curve(part) for part in (one, zero, statistic.EMPTY)] == [None] * 3
    assert [ranking.average_precision(part) for part in (zero, statistic.EMPTY)] == [None] * 2
    assert ranking.average_precision(one).value == 1
    assert ranking.auc(of_bins({300: 1}, {200: 5})).low is None
    assert ranking.auc(of_bins({300: 1}, {200: 5})).value == 1


def test_score_that_is_not_finite_has_no_rank():
    """A score that is not finite is excluded from the ranking, but its event counts for the accuracy."""
    found = of_rows([1, 0, 1, 0], [1, 0, 0, 0], [2.0, 1.0, math.nan, math.inf], "margin")

    assert ranking.auc(found).value == 1
    assert found.labelled == 4


def test_many_events_do_not_overflow(of_bins):
    """The figures of 10^10 events do not overflow."""
    found = of_bins({300: 10**9, 200: 10**9}, {300: 10**9, 200: 9 * 10**9})

    assert ranking.auc(found).value == pytest.approx(0.7)
    assert ranking.average_precision(found).lower == pytest.approx(ranking.average_precision(found).value, abs=0.3)
