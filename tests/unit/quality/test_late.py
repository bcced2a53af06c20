"""What late labels add to the statistic makes it that of labels which came with their events."""

import math
from dataclasses import fields

import numpy as np
import pytest

from streamscore.quality.confusion import OTHER
from streamscore.quality.late import Relabelled, change
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
