"""An absent label counts as class 0: the sums equal those of the events with that label."""

from dataclasses import replace

import numpy as np
import pytest

from streamscore.quality.absent import as_negatives
from streamscore.quality.evaluation import evaluate
from streamscore.quality.statistic import SUMS, of_rows, total

EXACT = sorted(set(SUMS) - {"loss_squared"})


def events(kind, seed=5, size=4_000):
    """Return labels (a third of class 1), predictions and scores of events, a few of which have no score."""
    random = np.random.default_rng(seed)
    scores = random.beta(1, 3, size) if kind == "probability" else random.normal(0, 2, size)
    scores[:4] = [0.0, 1.0, np.nan, np.inf]
    labels = (random.random(size) < 0.3).astype(float)
    return labels, (scores > (0.5 if kind == "probability" else 0)).astype(float), scores


def positives_only(labels):
    """Return the labels of class 1 and none for the other events."""
    return np.where(labels == 1, labels, np.nan)


@pytest.mark.parametrize("kind", ["probability", "margin"])
def test_absent_label_is_of_class_0(kind):
    """Counts and sums are those of the same events with all labels."""
    labels, predictions, scores = events(kind)
    whole = of_rows(labels, predictions, scores, kind)

    counted = as_negatives(of_rows(positives_only(labels), predictions, scores, kind))

    assert (counted.confusion, counted.labels) == (whole.confusion, whole.labels)
    assert (counted.scored, counted.loss_events) == (whole.scored, whole.loss_events)
    for name in EXACT:
        assert getattr(counted, name) == pytest.approx(getattr(whole, name), rel=1e-12), name
    assert counted.loss_squared == pytest.approx(whole.loss_squared, rel=0.01)


def test_figures_are_those_of_all_labels():
    """The log loss is exact, and the interval of RIG is off by less than a hundredth of its width."""
    labels, predictions, scores = events("probability")
    found = evaluate(as_negatives(of_rows(positives_only(labels), predictions, scores, "probability")))
    expected = evaluate(of_rows(labels, predictions, scores, "probability"))

    for name in ("accuracy", "auc", "log_loss", "brier", "calibration_ratio"):
        assert found.figures[name].value == pytest.approx(expected.figures[name].value, rel=1e-9), name
    ours, theirs = found.figures["rig"], expected.figures["rig"]
    assert ours.value == pytest.approx(theirs.value, rel=1e-9)
    assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.01)


def test_windows_may_be_added_before_or_after():
    """The absent labels of two windows are those of their sum."""
    parts = []
    for seed in (1, 2):
        labels, predictions, scores = events("probability", seed)
        parts.append(of_rows(positives_only(labels), predictions, scores, "probability"))

    after, before = as_negatives(total(parts)), total(map(as_negatives, parts))

    assert (after.confusion, after.labels, after.loss_events) == (before.confusion, before.labels, before.loss_events)
    assert after.loss == pytest.approx(before.loss, rel=1e-12)


def test_label_that_is_no_class_is_not_absent():
    """Its event stays as it is, and out of the log loss, by the middle of its bin."""
    labels, predictions, scores = events("probability")
    labels[100:110] = 7.0
    whole = of_rows(labels, predictions, scores, "probability")
    given = np.where(labels == 0, np.nan, labels)

    counted = as_negatives(of_rows(given, predictions, scores, "probability"))

    assert (counted.confusion, counted.labels, counted.loss_events) == (
        whole.confusion,
        whole.labels,
        whole.loss_events,
    )
    assert counted.loss == pytest.approx(whole.loss, abs=10 / 32)
    assert counted.labelled_p == pytest.approx(whole.labelled_p, abs=10 / 128)


def test_labels_of_events_that_are_not_counted_yet_change_nothing():
    """While events are scored again from the beginning, more of a minute's events may have a label than are counted."""
    labels, predictions, scores = events("margin")
    few = of_rows(labels[:10], predictions[:10], scores[:10], "margin")
    many = of_rows(labels, predictions, scores, "margin")
    ahead = replace(many, scored=few.scored, predictions=few.predictions)

    assert as_negatives(ahead).labels == many.labels


def test_more_than_two_classes_stay_as_they_are():
    """An absent label stands for no class there."""
    statistic = of_rows([2.0, np.nan], [2.0, 1.0], [0.7, 0.2], "class_probability")

    assert as_negatives(statistic) is statistic
