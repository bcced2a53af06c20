"""Which stretches of time count while labels are awaited."""

import math

from streamscore.quality.attribution import AT_ONCE, Attribution
from streamscore.quality.statistic import of_rows

HOUR = 3_600_000


def part(labelled, absent):
    """The statistic of events of which some have the label 1 and the others none."""
    events = labelled + absent
    return of_rows([1.0] * labelled + [math.nan] * absent, [1.0] * events, [0.7] * events, "probability")


def test_all_labels_count_at_once_unless_they_are_awaited():
    """Without a window, coverage does not matter."""
    assert AT_ONCE.counted({"lr": part(1, 99)}, 0, 0) == {"lr": part(1, 99)}


def test_stretch_counts_once_enough_labels_are_there_or_the_window_has_passed():
    """Coverage is that of all models of the stretch together."""
    rules = Attribution(HOUR, 0.9)
    covered, half = {"lr": part(95, 5), "svm": part(85, 15)}, {"lr": part(95, 5), "svm": part(84, 16)}

    assert rules.counted(covered, 0, HOUR - 1) == covered
    assert rules.counted(half, 0, HOUR - 1) is None
    assert rules.counted(half, 0, HOUR) == half
    assert rules.counted({}, 0, 0) is None


def test_absent_labels_are_negatives_once_the_window_has_passed():
    """Before it they are awaited."""
    rules = Attribution(HOUR, 0.0, absent_is_negative=True)

    assert rules.counted({"lr": part(10, 90)}, 0, HOUR - 1)["lr"].labelled == 10
    counted = rules.counted({"lr": part(10, 90)}, 0, HOUR)["lr"]
    assert (counted.labelled, counted.correct, counted.incorrect) == (100, 10, 90)
