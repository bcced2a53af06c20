"""The figures of probabilities equal scikit-learn's, and their intervals cover in simulations."""

import numpy as np
import pytest
from sklearn import metrics

from streamscore.quality import probabilistic, statistic
from streamscore.quality.statistic import of_rows, total

FIGURES = {
    probabilistic.log_loss: metrics.log_loss,
    probabilistic.relative_information_gain: metrics.d2_log_loss_score,
    probabilistic.normalised_entropy: lambda y, p: 1 - metrics.d2_log_loss_score(y, p),
    probabilistic.brier_score: metrics.brier_score_loss,
    probabilistic.calibration_ratio: lambda y, p: p.sum() / y.sum(),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figure_is_that_of_scikit_learn(clicks, figure):
    """Each figure equals scikit-learn's on the single events, with exact 0 and 1, in any order of summation."""
    parts = [of_rows(*(column[start::50] for column in clicks.columns), "probability") for start in range(50)]
    expected = FIGURES[figure](clicks.y, clicks.scores)

    assert figure(clicks.statistic).value == pytest.approx(expected, abs=1e-9)
    assert figure(total(parts)).value == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def samples():
    """Statistics of 1,000 samples of 1,000 events of a model that is wrong on average."""
    chance = np.random.default_rng(11)
    p = chance.beta(1, 4, (1_000, 1_000))
    y = chance.random(p.shape) < p**1.2
    return [of_rows(labels, scores > 0.5, scores, "probability") for labels, scores in zip(y, p, strict=True)]


@pytest.mark.parametrize("figure", list(FIGURES)[1:3] + list(FIGURES)[4:])
def test_interval_covers_the_true_figure(samples, figure):
    """The interval covers the true figure in about 95 % of the samples, whose mean is close to it."""
    true = figure(total(samples)).value
    found = [figure(sample) for sample in samples]

    assert 0.93 < np.mean([estimate.low <= true <= estimate.high for estimate in found]) < 0.97


def test_sums_say_nothing_of_margins(stream):
    """Margins have no sums of probabilities, even if they lie in [0, 1]."""
    if stream.kind == "margin":
        assert [figure(stream.statistic) for figure in FIGURES] == [None] * 5


def test_undefined_figures():
    """Figures are undefined without events; figures relative to the rate also if all labels are of one class."""
    zeros, ones = (of_rows([label, label], [0, 0], [0.25, 0.5], "probability") for label in (0, 1))

    assert [figure(statistic.EMPTY) for figure in FIGURES] == [None] * 5
    assert [figure(zeros) is None for figure in FIGURES] == [False, True, True, False, True]
    assert [figure(ones) is None for figure in FIGURES] == [False, True, True, False, False]
    assert probabilistic.brier_score(zeros).value == 0.15625
    assert probabilistic.calibration_ratio(ones).value == 0.375


def test_log_loss_of_many_classes():
    """The log loss is the only figure of a model with many classes."""
    chance = np.random.default_rng(2)
    probabilities = chance.dirichlet([1, 1, 1], 500)
    labels = chance.integers(0, 3, 500)
    found = of_rows(labels, probabilities.argmax(1), probabilities[range(500), labels], "class_probability")

    assert probabilistic.log_loss(found).value == pytest.approx(metrics.log_loss(labels, probabilities), abs=1e-9)
    assert [figure(found) for figure in list(FIGURES)[1:]] == [None] * 4
