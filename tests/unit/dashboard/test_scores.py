"""The curves of a model, from counted scores."""

import random
from bisect import bisect_left, bisect_right

import pytest

from streamscore.config import load
from streamscore.dashboard.scores import BINS, Bin, CalibrationPoint, ScoreEdges, bins, curves, edges, read_edges
from streamscore.quality.windows import Window

SETTINGS = load("local").elasticsearch
EVERYTHING = Window(0, 60_000, whole=True)


def test_scores_that_separate_the_classes_have_all_the_area():
    """The curve goes up, then to the right."""
    found = curves("lr", "probability", [Bin(0, 3, 0.3), Bin(2, 0, 1.8)])

    assert found.roc == ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    assert found.auc == 1.0


def test_scores_that_say_nothing_have_half_of_it():
    """Equal scores are no order."""
    assert curves("lr", "probability", [Bin(2, 3, 2.5)]).auc == 0.5


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
    ends = sorted({events[len(events) * number // BINS][0] for number in range(1, BINS)})
    counted = [[0, 0, 0.0] for _ in range(len(ends) + 1)]
    for score, label in events:
        entry = counted[bisect_right(ends, score)]
        entry[1 - label] += 1
        entry[2] += score

    found = curves("lr", "margin", [Bin(*entry) for entry in counted if entry[0] + entry[1]])

    assert found.auc == pytest.approx(below / (positive * negative), abs=1e-3)


def test_calibration_compares_the_mean_score_with_the_share_of_class_1():
    """In ten groups of equal width; a group without events is left out."""
    found = curves("lr", "probability", [Bin(1, 3, 4 * 0.22), Bin(1, 0, 0.28), Bin(0, 1, 0.31), Bin(9, 1, 10 * 1.0)])

    assert found.calibration == (
        CalibrationPoint(pytest.approx(0.232), 0.4, 5),
        CalibrationPoint(0.31, 0.0, 1),
        CalibrationPoint(1.0, 0.9, 10),
    )


@pytest.mark.parametrize(("kind", "calibrated"), [("probability", True), ("margin", False), (None, False)])
def test_only_a_probability_is_calibrated(kind, calibrated):
    """The model says what its scores are: margins may lie between 0 and 1. All have a ROC curve."""
    found = curves("svm", kind, [Bin(1, 3, 0.4), Bin(3, 1, 0.6)])

    assert bool(found.calibration) == calibrated
    assert found.auc == 0.75


def test_events_of_one_class_have_no_curve():
    """There is nothing to tell apart."""
    assert curves("lr", "probability", [Bin(0, 3, 0.4)]) is None
    assert curves("lr", "probability", []) is None


def test_bins_have_equally_many_events_and_leave_none_out():
    """From below the first edge to above the last one; edges that are equal are one."""
    values = [{"key": 25.0, "value": 0.2}, {"key": 50.0, "value": 0.2}, {"key": 75.0, "value": 0.7}]
    (found,) = read_edges(
        {"aggregations": {"models": {"buckets": [
            {"key": "lr", "edges": {"values": values}},
            {"key": "none", "edges": {"values": []}},
        ]}}}
    )  # fmt: skip

    assert found == ScoreEdges("lr", (0.2, 0.7))
    asked = bins(SETTINGS, EVERYTHING, found).body["aggs"]["scores"]["range"]
    assert asked == {"field": "score", "ranges": [{"to": 0.2}, {"from": 0.2, "to": 0.7}, {"from": 0.7}]}


@pytest.mark.parametrize("search", [edges(SETTINGS, EVERYTHING), bins(SETTINGS, EVERYTHING, ScoreEdges("lr"))])
def test_no_request_fetches_documents_or_counts_all_of_them(search):
    """The aggregations say what is to be known."""
    assert search.body["size"] == 0
    assert search.body["track_total_hits"] is False
