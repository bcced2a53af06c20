"""Intervals equal scipy's."""

import pytest
from scipy.stats import binomtest, norm

from streamscore.quality import estimates
from streamscore.quality.estimates import BinnedEstimate, BoundedValue, Estimate, Value


def test_z():
    """The quantile is that of a 95 % interval."""
    assert pytest.approx(norm.ppf(0.975), rel=1e-15) == estimates.Z


@pytest.mark.parametrize(("part", "whole"), [(0, 1), (1, 1), (0, 35), (28, 35), (35, 35), (970, 1000), (1, 10**7)])
def test_wilson(part, whole):
    """The Wilson interval equals scipy's, and is exact at the ends."""
    expected = binomtest(part, whole).proportion_ci(method="wilson")

    assert estimates.wilson(part, whole) == Estimate(
        part / whole, pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12)
    )
    assert estimates.wilson(0, 0) is None


def test_normal_interval_ends_at_the_limits():
    """The interval of a share stays within [0, 1]."""
    found = estimates.normal(0.01, 0.1, (0, 1))

    assert (found.low, found.high) == (0, pytest.approx(0.205996, abs=1e-6))
    assert estimates.normal(0.01, 0.1).low == pytest.approx(-0.185996, abs=1e-6)


def test_mean_of_independent_estimates():
    """The interval of the mean is narrower by the square root of the number of estimates."""
    found = estimates.mean([Estimate(0.5, 0.4, 0.7)] * 4)

    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.45, 0.6))


@pytest.mark.parametrize(
    ("figure", "reference", "expected"),
    [
        (Estimate(0.8, 0.7, 0.9), 0.69, "above"),
        (Estimate(0.8, 0.7, 0.9), 0.7, "unclear"),
        (Estimate(0.8, 0.7, 0.9), 0.9, "unclear"),
        (Estimate(0.8, 0.7, 0.9), 0.91, "below"),
        (BinnedEstimate(0.8, 0.7, 0.9, 0.02), 0.69, "unclear"),
        (BinnedEstimate(0.8, 0.7, 0.9, 0.02), 0.67, "above"),
        (BinnedEstimate(0.8, 0.7, 0.9, 0.02), 0.93, "below"),
        (Estimate(0.8, None, None), 0.1, "unclear"),
        (Value(0.8), 0.1, "unclear"),
        (BoundedValue(0.8, 0.7, 0.9), 0.1, "unclear"),
        (None, 0.1, "unclear"),
        (Estimate(0.8, 0.7, 0.9), None, "unclear"),
    ],
)
def test_comparison_needs_the_whole_interval(figure, reference, expected):
    """A comparison needs the whole interval, including the bound of the bins, on one side."""
    assert estimates.compare(figure, reference) == expected


def test_json():
    """The JSON has the fields of each kind of figure."""
    assert Value(1).to_json() == {"value": 1}
    assert Estimate(1, 0, None).to_json() == {"value": 1, "low": 0, "high": None}
    assert BinnedEstimate(1, 0, 2, 0.5).to_json() == {"value": 1, "low": 0, "high": 2, "bound": 0.5}
    assert BoundedValue(1, 0, 2).to_json() == {"value": 1, "lower": 0, "upper": 2}


def test_ends_of_an_interval_are_floats_at_its_limits_too():
    """Spark takes no int for a column of doubles."""
    found = estimates.normal(0.5, 10.0, (0, 1))

    assert (found.low, found.high) == (0, 1)
    assert {type(found.low), type(found.high)} == {float}
