"""The reliability diagram and its error, against the single events and simulations."""

import numpy as np
import pytest
from scipy.stats import binom

from streamscore.quality import bins, reliability, statistic
from streamscore.quality.estimates import wilson
from streamscore.quality.statistic import of_rows


def test_groups_are_of_equal_mass_and_hold_the_true_mean(clicks):
    """The groups' means are exact up to the width of the bins."""
    points = reliability.groups(clicks.statistic)
    at = bins.of_probabilities(clicks.scores)
    order = np.argsort(at, kind="stable")
    ends = np.cumsum([point.events for point in points])

    assert len(points) == reliability.GROUPS
    assert ends[-1] == len(clicks.y)
    assert max(point.events for point in points) < 0.13 * len(clicks.y)
    for point, rows in zip(points, np.split(order, ends[:-1]), strict=True):
        assert abs(point.predicted - clicks.scores[rows].mean()) <= point.predicted_error < 0.004
        assert point.observed == wilson(clicks.y[rows].sum(), len(rows))


def test_error_is_that_of_the_events_within_its_bound(clicks):
    """The error equals that of the events in the same groups, within its bound."""
    points = reliability.groups(clicks.statistic)
    order = np.argsort(bins.of_probabilities(clicks.scores), kind="stable")
    ends = np.cumsum([point.events for point in points])
    parts = np.split(order, ends[:-1])
    exact = sum(abs(clicks.scores[rows].sum() - clicks.y[rows].sum()) for rows in parts) / len(order)
    found = reliability.expected_calibration_error(clicks.statistic)

    assert abs(found.value - exact) <= found.bound < 0.002


def test_perfectly_calibrated_model_shows_what_chance_says():
    """The error is that of chance on average, and above the 95 % mark in 5 % of 2,000 samples of 1,000 events."""
    chance = np.random.default_rng(13)
    edges = bins.lower_edges()
    middles = (1 / (1 + np.exp(-edges)) + 1 / (1 + np.exp(-edges - 1 / 16))) / 2
    p = middles[chance.integers(160, 300, 1_000)]  # centres of bins, so that binning loses nothing
    found = [
        reliability.expected_calibration_error(of_rows(chance.random(1_000) < p, p > 0.5, p, "probability"))
        for _ in range(2_000)
    ]

    assert np.mean([error.value for error in found]) == pytest.approx(found[0].by_chance, rel=0.03)
    assert 0.03 < np.mean([error.value > error.by_chance_high for error in found]) < 0.07


def test_wrong_probabilities_are_beyond_chance():
    """With twice as many clicks as predicted the error exceeds chance."""
    chance = np.random.default_rng(17)
    p = chance.beta(1, 20, 20_000)
    found = reliability.expected_calibration_error(of_rows(chance.random(20_000) < 2 * p, p > 0.5, p, "probability"))

    assert found.value > found.by_chance_high
    assert found.value == pytest.approx(p.mean(), rel=0.1)


@pytest.mark.parametrize(("events", "probability"), [(1, 0.3), (10, 0.05), (1_000, 0.03), (7, 1.0), (7, 0.0)])
def test_mean_absolute_deviation(events, probability):
    """The deviation equals that of scipy's binomial distribution."""
    expected = binom(events, probability).expect(lambda x: abs(x - events * probability))
    found = reliability._mean_absolute_deviation(events, probability or 1e-300)

    assert found == pytest.approx(expected, abs=1e-9)


def test_distribution_of_scores(of_bins):
    """The distribution has the events by score and label between the edges."""
    first, middle, last = reliability.score_distribution(of_bins({256: 2, 511: 1}, {0: 4, 256: 3}))

    assert (first.low, first.positive, first.negative) == (0, 0, 4)
    assert (middle.low, middle.high) == (0.5, pytest.approx(1 / (1 + np.exp(-1 / 16))))
    assert (middle.positive, middle.negative) == (2, 3)
    assert (last.high, last.positive, last.negative) == (1, 1, 0)
    (margin,) = reliability.score_distribution(of_rows([1], [1], [3.0], "margin", 2.0))
    assert (margin.low, margin.high) == (1.5, 1.5625)


def test_margins_have_no_diagram():
    """Margins, a stream without labels and a stream without events have no diagram."""
    for found in (of_rows([1, 0], [1, 0], [0.5, 0.25], "margin"), of_rows([np.nan], [0], [0.2], "probability")):
        assert reliability.groups(found) is None
        assert reliability.expected_calibration_error(found) is None
    assert reliability.groups(statistic.EMPTY) is None
    assert reliability.score_distribution(statistic.EMPTY) == []
