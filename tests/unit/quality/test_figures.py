"""The figures of quality equal scikit-learn's, and are correct at the edges of their definition."""

import random
import re

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, confusion_matrix

from streamscore.quality import confusion, figures


@pytest.fixture(scope="module")
def events():
    """Labels and predictions of three classes."""
    chance = random.Random(3)
    labels = chance.choices([0.0, 1.0, 2.0], [6, 3, 1], k=500)
    return labels, [label if chance.random() < 0.7 else chance.choice([0.0, 1.0, 2.0]) for label in labels]


@pytest.fixture(scope="module")
def counts(events):
    """The confusion counts of the events."""
    return confusion.total({pair: 1} for pair in zip(*events, strict=True))


def test_figures_of_counts_are_those_of_the_single_events(events, counts):
    """Figures from counts equal scikit-learn's from the single events."""
    labels, predictions = events
    matrix = confusion_matrix(labels, predictions)
    guess = DummyClassifier(strategy="most_frequent").fit([[0]] * len(labels), labels)
    exact, guessed = accuracy_score(labels, predictions), guess.score([[0]] * len(labels), labels)

    assert [[counts.get((row, column), 0) for column in (0, 1, 2)] for row in (0, 1, 2)] == matrix.tolist()
    assert figures.accuracy(confusion.correct(counts), confusion.labelled(counts)) == exact
    assert figures.baseline(confusion.label_counts(counts).values()) == guessed
    assert figures.above_baseline(exact, guessed) == pytest.approx(100 * (exact - guessed))
    assert confusion.correct(counts) + confusion.incorrect(counts) == len(labels)
    assert confusion.classes(counts) == [0.0, 1.0, 2.0]


def test_counts_of_parts_add_up(events, counts):
    """The sum of the counts of two halves equals the counts of the whole."""
    pairs = list(zip(*events, strict=True))
    halves = [confusion.total({pair: 1} for pair in part) for part in (pairs[:200], pairs[200:])]

    assert confusion.total(halves) == counts


def test_figure_without_labels_is_undefined():
    """Without labels a figure is None."""
    assert figures.accuracy(0, 0) is None
    assert figures.baseline([]) is None
    assert figures.baseline([0, 0]) is None
    assert figures.baseline([], 10) is None
    assert figures.above_baseline(None, 0.5) is figures.above_baseline(0.5, None) is None
    assert confusion.classes({}) == []


def test_baseline_counts_labels_that_no_model_knows():
    """An unknown label counts as labelled, and against the most frequent class."""
    assert figures.baseline([2, 3, 4], 10) == 0.4


def test_figures_are_defined_in_this_room_alone(root):
    """No other room defines a figure: page, report, terminal, training and Kibana's objects use these."""
    package = root / "jobs" / "streamscore"
    own_definition = re.compile(r"correct / |/ \w*labelled|majority(?!_rate|-class)", re.IGNORECASE)
    others = [path for path in package.rglob("*.py") if path.parent.name != "quality"]

    assert [path.name for path in others if own_definition.search(path.read_text(encoding="utf-8"))] == []
