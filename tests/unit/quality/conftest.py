"""Events for figures: rare clicks with all edge cases."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import logit

from streamscore.quality import bins, statistic


def events(seed, size, kind="probability"):
    """Return events of one model: 3 % clicks, 1 % without a label, ties, exact 0 and 1, some scores not finite."""
    chance = np.random.default_rng(seed)
    p = chance.beta(0.6, 20, size)
    labels = (chance.random(size) < p).astype(float)
    labels[size // 2 : size // 2 + size // 20] = 0  # one part with a single class
    p[chance.random(size) < 0.01] = 0.05
    p[chance.random(size) < 0.001] = 0.0
    p[chance.random(size) < 0.0005] = 1.0
    labels[chance.random(size) < 0.01] = np.nan
    if kind == "probability":
        scores, scale = p, 1.0
    else:
        with np.errstate(divide="ignore"):
            scores = 3 * logit(p)
        scale = np.std(scores[np.isfinite(scores)]) / 2
        scores[chance.random(size) < 0.001] = np.nan
    predictions = (p > 0.1).astype(float)
    sums = statistic.of_rows(labels, predictions, scores, kind, scale)
    usable = ~np.isnan(labels) & np.isfinite(scores)
    return SimpleNamespace(
        labels=labels[~np.isnan(labels)],
        predictions=predictions[~np.isnan(labels)],
        y=labels[usable],
        scores=scores[usable],
        columns=(labels, predictions, scores),
        kind=kind,
        scale=scale,
        statistic=sums,
    )


@pytest.fixture(scope="session", params=["lr", "nb", "svm"])
def stream(request):
    """100,000 events of two models with probabilities and a third with margins."""
    seed = {"lr": 1, "nb": 2, "svm": 3}[request.param]
    return events(seed, 100_000, "margin" if request.param == "svm" else "probability")


@pytest.fixture(scope="session")
def clicks():
    """100,000 events of a model with probabilities."""
    return events(1, 100_000)


@pytest.fixture
def of_bins():
    """Return a function that makes a statistic of probabilities from the numbers of class 1 and 0 per bin."""

    def make(positive, negative):
        counts = {(at, 1.0): events for at, events in positive.items()}
        counts |= {(at, 0.0): events for at, events in negative.items()}
        assert all(0 <= at < bins.BINS for at, _ in counts)
        return statistic.Statistic("probability", sum(counts.values()), labels=counts)

    return make
