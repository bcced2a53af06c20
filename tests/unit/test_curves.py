"""ROC and calibration points against curves that are known by hand."""

import math
from itertools import pairwise

import pytest

from streamscore import curves
from streamscore.errors import InputError


@pytest.fixture
def scored(spark):
    """Return a function that makes rows of a label and a score."""
    return lambda pairs: spark.createDataFrame(
        [(float(label), float(score)) for label, score in pairs], "y double, s double"
    )


def test_roc_of_a_few_rows_is_the_one_drawn_by_hand(scored):
    """Each positive is a step up, each negative a step to the right, from the highest score down."""
    rows = scored([(1, 0.9), (0, 0.8), (1, 0.7), (0, 0.1)])

    assert curves.roc(rows, "y", "s") == [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]


def test_rows_of_equal_score_are_one_step(scored):
    """No order among them can be told, so none may be invented."""
    rows = scored([(1, 0.5), (0, 0.5), (1, 0.5), (0, -3.0)])

    assert curves.roc(rows, "y", "s") == [(0.0, 0.0), (0.5, 1.0), (1.0, 1.0)]


def test_score_that_says_nothing_gives_the_diagonal(scored):
    """One threshold, all or none."""
    assert curves.roc(scored([(1, 0.0), (0, 0.0)]), "y", "s") == [(0.0, 0.0), (1.0, 1.0)]


def test_few_points_lie_on_the_exact_curve(scored):
    """Of 10,000 rows with margins below and above 0, 20 points: the area is Spark's, less what chords cut off."""
    from pyspark.ml.evaluation import BinaryClassificationEvaluator

    rows = scored([(int(math.sin(number) > 0.3), math.sin(number) + math.cos(7 * number)) for number in range(10_000)])
    points = curves.roc(rows, "y", "s", points=20)
    area = sum(
        (after.false_positives - before.false_positives) * (after.true_positives + before.true_positives) / 2
        for before, after in pairwise(points)
    )
    exact = BinaryClassificationEvaluator(labelCol="y", rawPredictionCol="s", numBins=0).evaluate(rows)

    assert 15 <= len(points) <= 22
    assert points == sorted(points)
    assert exact - 0.01 < area < exact


def test_labels_of_one_class_have_no_curve(scored):
    """Said, not drawn."""
    with pytest.raises(InputError, match="the column 'y' holds one class only"):
        curves.roc(scored([(1, 0.2), (1, 0.3)]), "y", "s")


def test_calibration_compares_the_mean_prediction_with_the_share(scored):
    """Intervals without rows are left out; 1.0 belongs to the last one."""
    rows = scored([(0, 0.0), (1, 0.2), (1, 0.95), (0, 1.0), (1, 1.0), (1, 1.0)])

    assert curves.calibration(rows, "y", "s", bins=4) == [
        (pytest.approx(0.1), 0.5, 2),
        (pytest.approx(0.9875), 0.75, 4),
    ]
