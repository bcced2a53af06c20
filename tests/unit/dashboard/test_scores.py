"""The curves of a model, from counted scores."""

import random
from bisect import bisect_left, bisect_right

import pytest

from streamscore.config import load
from streamscore.dashboard.scores import BINS, Bin, Group, Span, bins, curves, read_spans, spans
from streamscore.dashboard.windows import Window

PROBABILITY = Span("lr", 0.0, 1.0)
SETTINGS = load("local").elasticsearch
EVERYTHING = Window(0, 60_000, whole=True)


def test_scores_that_separate_the_classes_have_all_the_area():
    """The curve goes up, then to the right."""
    found = curves(PROBABILITY, [Bin(0, 3, 0.3), Bin(2, 0, 1.8)])

    assert found.roc == ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    assert found.auc == 1.0


def test_scores_that_say_nothing_have_half_of_it():
    """Equal scores are no order."""
    assert curves(PROBABILITY, [Bin(2, 3, 2.5)]).auc == 0.5


@pytest.mark.parametrize(
    ("positive", "negative", "spread"),
    [
        (300, 400, lambda chance, a, b: chance.betavariate(a, b)),
        (60, 60_000, lambda chance, a, b: chance.betavariate(a, 100 * b)),  # one click in a thousand
        (300, 4_000, lambda chance, a, b: chance.gauss(a - b, 1) ** 7),  # margins with a few very far out
    ],
)
def test_area_is_that_of_the_single_scores(positive, negative, spread):
    """Counted by hand over all pairs of a positive and a negative event, to three digits, however the scores lie."""
    chance = random.Random(7)
    scores = {1: [spread(chance, 3, 2) for _ in range(positive)], 0: [spread(chance, 2, 3) for _ in range(negative)]}
    ordered = sorted(scores[0])
    below = sum(bisect_left(ordered, one) for one in scores[1])
    events = sorted((score, label) for label, group in scores.items() for score in group)
    edges = sorted({events[len(events) * number // BINS][0] for number in range(1, BINS)})
    counted = [[0, 0, 0.0] for _ in range(len(edges) + 1)]
    for score, label in events:
        entry = counted[bisect_right(edges, score)]
        entry[1 - label] += 1
        entry[2] += score

    found = curves(Span("lr", events[0][0], events[-1][0]), [Bin(*entry) for entry in counted if entry[0] + entry[1]])

    assert found.auc == pytest.approx(below / (positive * negative), abs=1e-3)


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


def test_bins_have_equally_many_events_and_leave_none_out():
    """From below the first edge to above the last one; edges that are equal are one."""
    values = [{"key": 25.0, "value": 0.2}, {"key": 50.0, "value": 0.2}, {"key": 75.0, "value": 0.7}]
    (span,) = read_spans(
        {"aggregations": {"models": {"buckets": [
            {"key": "lr", "low": {"value": 0.1}, "high": {"value": 0.9}, "edges": {"values": values}},
            {"key": "none", "low": {"value": None}, "high": {"value": None}, "edges": {"values": []}},
        ]}}}
    )  # fmt: skip

    assert span == Span("lr", 0.1, 0.9, (0.2, 0.7))
    asked = bins(SETTINGS, EVERYTHING, span).body["aggs"]["scores"]["range"]
    assert asked == {"field": "score", "ranges": [{"to": 0.2}, {"from": 0.2, "to": 0.7}, {"from": 0.7}]}


@pytest.mark.parametrize("search", [spans(SETTINGS, EVERYTHING), bins(SETTINGS, EVERYTHING, PROBABILITY)])
def test_no_request_fetches_documents_or_counts_all_of_them(search):
    """The aggregations say what is to be known."""
    assert search.body["size"] == 0
    assert search.body["track_total_hits"] is False
