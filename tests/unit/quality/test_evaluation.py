"""The evaluation of all figures, as the page, the command line and the notebooks show it."""

import json

import numpy as np
import pytest
from sklearn import metrics

from streamscore.quality import figures
from streamscore.quality.evaluation import FIGURES, evaluate
from streamscore.quality.statistic import EMPTY, Statistic, of_rows

FIELDS = {
    "accuracy": {"value", "low", "high"},
    "auc": {"value", "bound", "low", "high"},
    "average_precision": {"value", "lower", "upper"},
    "log_loss": {"value"},
    "rig": {"value", "low", "high"},
    "brier": {"value"},
    "calibration_ratio": {"value", "low", "high"},
    "precision": {"value", "low", "high"},
    "recall": {"value", "low", "high"},
    "f1": {"value", "low", "high"},
    "mcc": {"value", "low", "high"},
    "balanced_accuracy": {"value", "low", "high"},
    "baseline": {"value"},
}


def test_json(clicks):
    """The JSON has the stable names of all figures."""
    found = json.loads(json.dumps(evaluate(clicks.statistic).to_json("lr", "3"), allow_nan=False))

    assert set(found) == {"name", "version", "score_kind", "scored", "declined", "labelled", "figures"}
    assert (found["name"], found["version"], found["score_kind"]) == ("lr", "3", "probability")
    assert (found["scored"], found["labelled"]) == (100_000, len(clicks.labels))
    assert {name: set(figure) for name, figure in found["figures"].items()} == FIELDS
    assert found["figures"]["accuracy"]["value"] == metrics.accuracy_score(clicks.labels, clicks.predictions)
    assert found["figures"]["baseline"]["value"] == 1 - clicks.labels.mean()


def test_figures_of_a_stored_statistic_are_the_same(stream):
    """The figures of a statistic are the same after its storage as a document."""
    stored = Statistic.from_document(json.loads(json.dumps(stream.statistic.to_document())))

    assert evaluate(stored) == evaluate(stream.statistic)


@pytest.mark.parametrize("kind", ["margin", "class_probability"])
def test_undefined_figures_are_null(kind):
    """Undefined figures are null: a model of three classes has no AUC, a margin no log loss."""
    labels, predictions, scores = [0, 1, 1, 0], [0, 1, 0, 0], [0.25, 0.75, 0.5, 0.25]
    if kind == "class_probability":
        labels, predictions = [0, 1, 2, 0], [0, 1, 2, 1]
    found = evaluate(of_rows(labels, predictions, scores, kind)).to_json("m", "1")["figures"]
    undefined = {name for name, figure in found.items() if figure is None}

    assert undefined == (
        {"log_loss", "rig", "brier", "calibration_ratio"}
        if kind == "margin"
        else {"auc", "average_precision", "rig", "brier", "calibration_ratio", "precision", "recall", "f1"}
    )


def test_too_few_labelled_events_have_no_figures():
    """With fewer than the minimum of labelled events all figures are None."""
    few = of_rows([1, 0] * 5, [1, 0] * 5, [0.75, 0.25] * 5, "probability")

    assert set(evaluate(few, 11).figures.values()) == set(evaluate(EMPTY).figures.values()) == {None}
    assert evaluate(few, 10).figures["accuracy"].value == 1
    assert evaluate(EMPTY).to_json("m", "1")["score_kind"] is None


def model(size, share_right):
    """Return a statistic of balanced labels with a share of right predictions, and matching probabilities."""
    labels = np.arange(size) % 2
    right = np.arange(size) // 2 % 10 < 10 * share_right
    predictions = np.where(right, labels, 1 - labels)
    return of_rows(labels, predictions, np.where(predictions == 1, share_right, 1 - share_right), "probability")


@pytest.mark.parametrize(
    ("size", "share_right", "expected"),
    [(20, 0.6, "unclear"), (2_000, 0.6, "above"), (20_000, 0.5, "unclear"), (2_000, 0.4, "below")],
)
def test_accuracy_is_compared_with_the_baseline(size, share_right, expected):
    """The accuracy is better only if its whole interval lies above the baseline."""
    assert evaluate(model(size, share_right)).compare("accuracy") == expected


def test_figures_are_compared_with_what_knows_nothing():
    """Each figure is compared with its own reference; a figure without a reference is neither good nor bad."""
    found = evaluate(model(2_000, 0.7))

    assert [found.compare(name) for name in ("auc", "rig", "mcc")] == ["unclear", "above", "above"]  # two bins: bound
    assert found.compare("calibration_ratio") == "unclear"  # right on average
    assert found.compare("log_loss") == found.compare("baseline") == "unclear"
    assert evaluate(EMPTY).compare("accuracy") == "unclear"


def test_wide_intervals_are_uncertain():
    """Figures with wide intervals, or without one for lack of events, are uncertain."""
    few, many = evaluate(model(40, 0.7)), evaluate(model(20_000, 0.7))

    assert few.is_uncertain("accuracy")
    assert few.is_uncertain("rig")
    assert not many.is_uncertain("accuracy")
    assert many.is_uncertain("auc")  # two bins hide the order
    assert not many.is_uncertain("log_loss")
    assert evaluate(of_rows([1, 0], [1, 0], [0.9, 0.1], "probability")).is_uncertain("mcc")


def test_documented_figures_are_all_there_are(root):
    """docs/quality.md has a row for each figure, and no other."""
    page = (root / "docs" / "quality.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")} - {"figure", "---"}

    assert rows == {definition.name for definition in FIGURES.values()}


def test_names_are_those_that_people_read():
    """The display names on the page are those of the figures' definitions."""
    assert FIGURES["accuracy"].name == figures.ACCURACY
    assert len({definition.name for definition in FIGURES.values()}) == len(FIGURES)
