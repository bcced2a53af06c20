"""The curves of a model, from counted scores."""

import random

import pytest

from streamscore.dashboard.scores import BINS, Bin, Group, Span, curves

PROBABILITY = Span("lr", 0.0, 1.0)


def test_scores_that_separate_the_classes_have_all_the_area():
    """The curve goes up, then to the right."""
    found = curves(PROBABILITY, [Bin(0, 3, 0.3), Bin(2, 0, 1.8)])

    assert found.roc == ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    assert found.auc == 1.0


def test_scores_that_say_nothing_have_half_of_it():
    """Equal scores are no order."""
    assert curves(PROBABILITY, [Bin(2, 3, 2.5)]).auc == 0.5


def test_area_is_that_of_the_single_scores():
    """Counted by hand over all pairs of a positive and a negative event, to three digits."""
    generator = random.Random(7)
    events = [(generator.betavariate(3, 2), 1) for _ in range(300)]
    events += [(generator.betavariate(2, 3), 0) for _ in range(400)]
    positive, negative = ([score for score, label in events if label == wanted] for wanted in (1, 0))
    pairs = sum((one > other) + 0.5 * (one == other) for one in positive for other in negative)
    counted = {}
    for score, label in events:
        place = int(score * BINS)
        old = counted.get(place, Bin(0, 0, 0.0))
        counted[place] = Bin(old.positive + label, old.negative + 1 - label, old.total + score)

    found = curves(PROBABILITY, [counted[place] for place in sorted(counted)])

    assert found.auc == pytest.approx(pairs / (300 * 400), abs=1e-3)


def test_calibration_compares_the_mean_score_with_the_share_of_class_1():
    """In ten groups of equal width; a group without events is left out."""
    found = curves(PROBABILITY, [Bin(1, 3, 4 * 0.22), Bin(1, 0, 0.28), Bin(0, 1, 0.31), Bin(9, 1, 10 * 1.0)])

    assert found.calibration == (Group(pytest.approx(0.232), 0.4, 5), Group(0.31, 0.0, 1), Group(1.0, 0.9, 10))


@pytest.mark.parametrize(("low", "high", "probability"), [(0.0, 1.0, True), (-0.1, 0.9, False), (0.2, 1.1, False)])
def test_margin_is_no_probability(low, high, probability):
    """It has a ROC curve, but cannot be calibrated."""
    span = Span("svm", low, high)
    found = curves(span, [Bin(1, 3, 0.4), Bin(3, 1, 0.6)])

    assert span.probability == probability
    assert bool(found.calibration) == probability
    assert found.auc == 0.75


def test_events_of_one_class_have_no_curve():
    """There is nothing to tell apart."""
    assert curves(PROBABILITY, [Bin(0, 3, 0.4)]) is None
    assert curves(PROBABILITY, []) is None


def test_bins_span_the_scores():
    """A thousandth of a probability, or of the range of a margin; equal scores need some width."""
    assert PROBABILITY.interval == 1 / BINS
    assert Span("svm", -2.0, 3.0).interval == 5.0 / BINS
    assert Span("svm", 2.0, 2.0).interval > 0
