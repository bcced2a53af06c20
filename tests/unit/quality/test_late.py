"""What late labels add to the statistic makes it that of labels which came with their events."""

import math
from dataclasses import fields

import numpy as np
import pytest

from streamscore.quality import pairs
from streamscore.quality.confusion import OTHER
from streamscore.quality.late import Relabelled, ScoredByBoth, change, paired_change
from streamscore.quality.statistic import SUMS, of_rows


def rows(seed, count=2_000):
    """Random labels before (NaN: none), labels after, predictions and scores; a tenth of the scores is not finite."""
    chance = np.random.default_rng(seed)
    before = chance.choice([math.nan, 0.0, 1.0], count)
    after = chance.choice([0.0, 1.0], count)
    scores = np.where(chance.random(count) < 0.1, math.nan, chance.random(count))
    return before, after, (scores > 0.5).astype(float), scores


@pytest.mark.parametrize(("kind", "scale"), [("probability", 1.0), ("margin", 0.7)])
def test_statistic_with_late_labels_is_that_of_labels_in_time(kind, scale):
    """Counts are the same exactly, sums to the last bits."""
    before, after, predictions, scores = rows(1)
    events = [
        Relabelled(prediction, score, None if math.isnan(first) else first, last)
        for first, last, prediction, score in zip(before, after, predictions, scores, strict=True)
    ]

    restated = of_rows(before, predictions, scores, kind, scale) + change(events, kind, scale)
    expected = of_rows(after, predictions, scores, kind, scale)

    for each in fields(expected):
        found, wanted = getattr(restated, each.name), getattr(expected, each.name)
        assert found == (pytest.approx(wanted, abs=1e-9) if each.name in SUMS else wanted), each.name


def test_label_that_is_no_class_counts_as_other():
    """A label 7 of a model with two classes is counted as the statistics of the stream count it."""
    added = change([Relabelled(1.0, 0.7, None, 7.0)], "probability", None)

    assert added.confusion == {(OTHER, 1.0): 1}
    assert (added.scored, added.labelled, added.loss_events) == (0, 1, 0)


def test_margin_of_unknown_scale_gets_no_bin():
    """Better none than a wrong one; the confusion counts it."""
    added = change([Relabelled(1.0, 2.5, None, 1.0)], "margin", None)

    assert (added.labels, added.correct) == ({(-1, 1.0): 1}, 1)


def scored_by_both(seed, before, after):
    """Events of two models, with the labels before and after."""
    first, second = rows(seed)[2:], rows(seed + 1)[2:]
    return [
        ScoredByBoth(*each, None if math.isnan(old) else old, new)
        for *each, old, new in zip(first[0], second[0], first[1], second[1], before, after, strict=True)
    ]


@pytest.mark.parametrize("have_probabilities", [True, False])
def test_paired_statistic_with_late_labels_is_that_of_labels_in_time(have_probabilities):
    """Counts are the same exactly, sums to the last bits; whichever labels there were before."""
    before, after, first, first_scores = rows(1)
    second, second_scores = rows(2)[2:]
    events = scored_by_both(1, before, after)
    scores = (first_scores, second_scores) if have_probabilities else (None, None)

    restated = pairs.of_rows(before, first, second, *scores) + paired_change(
        events, have_probabilities=have_probabilities
    )
    expected = pairs.of_rows(after, first, second, *scores)

    assert expected.discordant > 100
    assert (expected.probability_events > 0) == have_probabilities
    for each in fields(expected):
        found, wanted = getattr(restated, each.name), getattr(expected, each.name)
        assert found == (pytest.approx(wanted, abs=1e-9) if each.name in pairs.SUMS else wanted), each.name


def test_pair_counts_an_event_once_both_outcomes_have_the_label():
    """Until then it counts none; a label that is no class counts as other."""
    waits = ScoredByBoth(1.0, 0.0, 0.7, 0.2, None, None)
    other = ScoredByBoth(1.0, 0.0, 0.7, 0.2, None, 7.5)

    assert paired_change([waits], have_probabilities=True) == pairs.PairStatistic()
    assert paired_change([other], have_probabilities=True).labels == {OTHER: 1}


def test_events_that_are_taken_out_leave_nothing():
    """Nor a label with no events, by which two paired statistics of the same events would differ."""
    _, after, first, _ = rows(1)
    whole = pairs.of_rows(after, first, rows(2)[2])

    assert whole.labels
    assert whole - whole == pairs.PairStatistic()
