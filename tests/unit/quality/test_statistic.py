"""The additive statistic: its bins and sums, its addition and subtraction, and its JSON form."""

import json
import math

import numpy as np
import pytest

from streamscore import schema
from streamscore.quality import bins, statistic
from streamscore.quality.statistic import EMPTY, Statistic, combined, of_rows, total


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.0, 0),
        (1e-300, 0),
        (0.5, 256),
        (math.nextafter(0.5, 0), 255),
        (1 / (1 + math.exp(-1.01)), 256 + 16),
        (1 / (1 + math.exp(15.99)), 0),
        (1 / (1 + math.exp(15.9)), 1),
        (math.nextafter(1, 0), 511),
        (1.0, 511),
        (math.nan, bins.UNBINNED),
        (math.inf, bins.UNBINNED),
        (-0.001, bins.UNBINNED),
        (1.001, bins.UNBINNED),
    ],
)
def test_bin_of_a_probability(probability, expected):
    """Bins are 1/16 of a logit wide; 0 and 1 are in the outermost bins."""
    assert bins.of_probabilities(probability) == expected


@pytest.mark.parametrize(
    ("margin", "scale", "expected"),
    [
        (0.0, 1, 256),
        (-0.0, 1, 256),
        (-1e-300, 1, 255),
        (1.0, 1, 272),
        (1.0, 2, 264),
        (1e300, 1, 511),
        (-1e300, 1, 0),
        (math.nan, 1, bins.UNBINNED),
        (math.inf, 1, bins.UNBINNED),
        (-math.inf, 1, bins.UNBINNED),
    ],
)
def test_bin_of_a_margin(margin, scale, expected):
    """A margin is binned like a logit after division by its scale."""
    assert bins.of_margins(margin, scale) == expected


def test_edges_are_those_of_the_bins():
    """The lower edge of a bin belongs to the bin."""
    assert bins.of_margins(bins.lower_edges()).tolist() == list(range(bins.BINS))


def test_sums_of_rows_by_hand():
    """The sums are correct, also for a missing label, a score that is not finite and a label that is not a class."""
    nan = math.nan
    found = of_rows([1, 0, 1, nan, 1, 2], [1, 0, 0, 1, 0, 1], [0.75, 0.25, 0.0, 0.5, nan, 0.5], "probability")
    losses = [-math.log(0.75), -math.log(0.75), 52 * math.log(2)]

    assert found.scored == 6
    assert (found.labelled, found.correct, found.incorrect, found.positives) == (5, 2, 3, 2)
    assert found.confusion == {(1.0, 1.0): 1, (0.0, 0.0): 1, (1.0, 0.0): 2, (2.0, 1.0): 1}
    assert found.predictions == {(273, 1.0): 1, (238, 0.0): 1, (0, 0.0): 1, (256, 1.0): 2, (bins.UNBINNED, 0.0): 1}
    assert found.labels == {(273, 1.0): 1, (238, 0.0): 1, (0, 1.0): 1, (bins.UNBINNED, 1.0): 1, (256, 2.0): 1}
    assert found.sum_p == 2
    assert found.sum_p_squared == 0.75**2 + 0.25**2 + 0.5
    assert found.sum_miss == pytest.approx(-math.log(0.25 * 0.75 * 0.5 * 0.5), rel=1e-12)
    assert found.loss_events == 3
    assert (found.labelled_p, found.labelled_p_squared, found.p_times_label) == (1, 0.625, 0.75)
    assert found.loss == pytest.approx(sum(losses), rel=1e-12)
    assert found.loss_squared == pytest.approx(sum(loss**2 for loss in losses), rel=1e-12)
    assert found.loss_times_label == pytest.approx(losses[0] + losses[2], rel=1e-12)


def test_margins_have_bins_and_no_sums():
    """Margins have no sums of probabilities, even if they lie in [0, 1]."""
    found = of_rows([1, 0], [1, 0], [0.5, 0.25], "margin", 0.5)

    assert found.labels == {(272, 1.0): 1, (264, 0.0): 1}
    assert found.loss_events == 0
    assert [getattr(found, name) for name in statistic.SUMS] == [0] * len(statistic.SUMS)


def test_many_classes_have_the_log_loss_of_the_labelled_one_and_no_bins():
    """A label that is not a class of the model has no probability, and no log loss."""
    found = of_rows([2, 0, 7, math.nan], [2, 1, 0, 0], [0.5, 0.25, math.nan, math.nan], "class_probability")

    assert found.labels == {(bins.UNBINNED, 2.0): 1, (bins.UNBINNED, 0.0): 1, (bins.UNBINNED, 7.0): 1}
    assert (found.scored, found.labelled, found.loss_events, found.positives) == (4, 3, 2, 0)
    assert found.loss == pytest.approx(math.log(8))
    assert found.sum_p == found.labelled_p == 0


@pytest.fixture(scope="module")
def rows():
    """Labels, predictions and probabilities of 5,000 events, some of them without a label."""
    chance = np.random.default_rng(5)
    p = chance.beta(0.3, 2, 5000)
    labels = np.where(chance.random(5000) < 0.9, chance.random(5000) < p, np.nan)
    return labels, (p > 0.5).astype(float), p


def assert_close(one, other):
    """Check that counts are equal, and sums up to rounding."""
    for name in ("score_kind", "scored", "declined", "predictions", "confusion", "labels", "loss_events"):
        assert getattr(one, name) == getattr(other, name)
    for name in statistic.SUMS:
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12, abs=1e-12)


def test_parts_add_up_and_can_be_taken_out_again(rows):
    """Addition and subtraction of parts are exact, in any order."""
    whole = of_rows(*rows, "probability")
    parts = [of_rows(*(column[start::7] for column in rows), "probability") for start in range(7)]

    assert_close(total(parts), whole)
    assert total(parts) == total(reversed(parts))
    assert_close(whole - parts[3], total(parts[:3] + parts[4:]))
    assert whole + EMPTY == EMPTY + whole == whole
    assert total([]) == EMPTY == of_rows([], [], [], "margin")
    nothing = whole - whole
    assert (nothing.scored, nothing.labels, nothing.predictions, nothing.confusion) == (0, {}, {}, {})


def test_corrected_label_is_a_subtraction_and_an_addition(rows):
    """After a correction the statistic is as if the right label had come first."""
    labels, predictions, scores = rows
    corrected = labels.copy()
    corrected[17] = 1 - corrected[17]
    one = [of_rows(column[17:18], predictions[17:18], scores[17:18], "probability") for column in (labels, corrected)]

    assert_close(
        of_rows(*rows, "probability") - one[0] + one[1], of_rows(corrected, predictions, scores, "probability")
    )


def test_kinds_of_scores_are_not_mixed(rows):
    """Statistics of margins and of probabilities cannot be added."""
    with pytest.raises(ValueError, match=r"different score kinds \(margin, probability\)"):
        _ = of_rows(*rows, "probability") + of_rows(*rows, "margin")


def test_several_kinds_of_scores_leave_the_counts_that_no_score_is_needed_for(rows):
    """Combining different kinds of scores keeps scored events and confusion counts, in any order."""
    one, other = of_rows(*rows, "probability"), of_rows(*rows, "margin")
    expected = Statistic(scored=3 * one.scored, confusion={key: 3 * events for key, events in one.confusion.items()})

    assert combined([one, other, other]) == combined([combined([one, other]), other]) == expected
    assert combined([EMPTY, other, combined([])]) == other
    assert combined([one, one]) == one + one


def test_declined_events_are_counted_apart():
    """An event without a prediction was declined: it is not scored, and its label counts nowhere."""
    one = of_rows([1, 0, 1], [math.nan, math.nan, 1], [math.nan, math.nan, 0.5], "probability")
    document = json.loads(json.dumps((one + one).to_document(), allow_nan=False))
    again = Statistic.from_document(document)

    assert (one.scored, one.declined, one.labelled) == (1, 2, 1)
    assert again == one + one
    assert (again - one).declined == 2
    assert combined([one, of_rows([1], [math.nan], [math.nan], "margin")]).declined == 3
    del document["declined"]  # as an earlier version wrote it
    assert Statistic.from_document(document).declined == 0


def test_predictions_that_are_no_number_are_one_class():
    """NaN keys are counted together."""
    several = {(0, float(text)): events for text, events in (("nan", 2), ("NaN", 3))}
    assert Statistic(predictions=several).to_document()["counts"]["predictions"] == {"nan": {"0": 5}}


@pytest.mark.parametrize("kind", ["probability", "margin", "class_probability"])
def test_document_is_exact(rows, kind):
    """A statistic survives JSON to the last bit; other fields of the document are ignored."""
    labels, predictions, scores = rows
    found = of_rows(np.append(labels, [0.5, math.inf]), np.append(predictions, [1e300, 3]), [*scores, 0.3, 0.4], kind)
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))

    assert Statistic.from_document({**document, "model": "lr"}) == found
    assert set(document) == set(schema.STATISTIC_PROPERTIES)
    assert Statistic.from_document(EMPTY.to_document()) == EMPTY


def test_document_is_compact(rows):
    """A document has only used bins, and numbers that Kibana can sum."""
    found = of_rows(*rows, "probability")
    document = found.to_document()
    counts = document.pop("counts")

    assert sum(counts["labels"]["1"].values()) == np.nansum(rows[0])
    assert 0 not in {events for nested in counts.values() for inner in nested.values() for events in inner.values()}
    assert len(json.dumps(counts)) < 10_000
    assert document["correct"] + document["incorrect"] == document["labelled"] == found.labelled
    assert all(isinstance(value, int | float) for name, value in document.items() if name != "score_kind")
