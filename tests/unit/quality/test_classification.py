"""The figures of confusion counts equal scikit-learn's, and their intervals cover in simulations."""

import numpy as np
import pytest
from sklearn import metrics

from streamscore.quality import figures
from streamscore.quality.estimates import Estimate

SCIKIT_LEARN = {
    figures.precision: metrics.precision_score,
    figures.recall: metrics.recall_score,
    figures.f1: metrics.f1_score,
    figures.balanced_accuracy: metrics.balanced_accuracy_score,
    figures.matthews_correlation: metrics.matthews_corrcoef,
    figures.predicted_positive_rate: lambda _, predictions: np.mean(predictions),
    figures.observed_positive_rate: lambda labels, _: np.mean(labels),
}


@pytest.mark.parametrize("figure", SCIKIT_LEARN)
def test_figure_is_that_of_scikit_learn(stream, figure):
    """Each figure equals scikit-learn's on the single events."""
    found = figure(stream.statistic.confusion)

    assert found.value == pytest.approx(SCIKIT_LEARN[figure](stream.labels, stream.predictions), abs=1e-12)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("figure", [figures.balanced_accuracy, figures.matthews_correlation])
def test_figure_of_three_classes_is_that_of_scikit_learn(figure):
    """The figures equal scikit-learn's, also if a class is never predicted."""
    confusion = {(0.0, 0.0): 50, (0.0, 1.0): 7, (1.0, 1.0): 20, (2.0, 0.0): 5, (1.0, 0.0): 2}
    rows = [pair for pair, events in confusion.items() for _ in range(events)]
    expected = SCIKIT_LEARN[figure](*zip(*rows, strict=True))

    assert figure(confusion).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("figure", SCIKIT_LEARN)
def test_interval_covers_the_true_figure(figure):
    """The interval covers the true figure in about 95 % of 2,000 samples of 400 events."""
    cells = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    shares = [0.6, 0.05, 0.15, 0.2]
    true = figure({cell: round(share * 10**6) for cell, share in zip(cells, shares, strict=True)}).value
    samples = np.random.default_rng(7).multinomial(400, shares, 2_000)
    found = [figure(dict(zip(cells, sample.tolist(), strict=True))) for sample in samples]
    covered = np.mean([estimate.low <= true <= estimate.high for estimate in found])

    assert 0.93 < covered < 0.97


def test_undefined_figures():
    """0 / 0 is undefined; figures of class 1 need a model of two classes."""
    only_zeros = {(0.0, 0.0): 5}

    assert [figure(only_zeros) for figure in list(SCIKIT_LEARN)[:5]] == [None] * 5
    assert [figure({}) for figure in SCIKIT_LEARN] == [None] * 7
    assert [figure({(1.0, 1.0): 3, (0.0, 2.0): 1}) for figure in list(SCIKIT_LEARN)[:3]] == [None] * 3
    assert figures.balanced_accuracy({(0.0, 0.0): 5, (0.0, 1.0): 5}) is None
    assert figures.matthews_correlation({(0.0, 0.0): 5, (1.0, 0.0): 5}) is None


def test_label_that_the_model_does_not_know_is_not_class_1():
    """An unknown label counts against the precision."""
    assert figures.precision({(1.0, 1.0): 3, (2.0, 1.0): 1}).value == 0.75


def test_perfect_correlation_has_no_interval():
    """There is no interval, because the delta method would give one of zero width."""
    assert figures.matthews_correlation({(0.0, 0.0): 5, (1.0, 1.0): 3}) == Estimate(1, None, None)
    assert figures.matthews_correlation({(0.0, 1.0): 5, (1.0, 0.0): 3}) == Estimate(-1, None, None)
