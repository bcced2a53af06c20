"""The classifiers of a training: the calibrated SVM has the plain one's predictions, and probabilities."""

import math

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.classification import LinearSVC, LogisticRegression, LogisticRegressionModel
from pyspark.ml.common import _py2java
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F
from sklearn.metrics import log_loss, roc_auc_score

from streamscore.config.jobs import Classifier, Svm
from streamscore.data import classifiers
from streamscore.errors import InputError
from streamscore.scoring.apply import apply_models
from streamscore.scoring.served import ServedModel

SETTINGS = Svm(reg_param=1e-4, max_iter=20, calibrate=True)
PLAIN = SETTINGS.model_copy(update={"calibrate": False})


@pytest.fixture(scope="module")
def vectors(spark):
    """Four thousand vectors of three features, with labels from a logistic model, a quarter of them clicks."""
    x = [F.randn(seed) for seed in (1, 2, 3)]
    drawn = spark.range(0, 4_000, 1, 1).select("id", *(column.alias(f"x{at}") for at, column in enumerate(x)))
    chance = 1 / (1 + F.exp(1.5 - 1.5 * F.col("x0") + F.col("x1")))
    rows = drawn.select(
        array_to_vector(F.array("x0", "x1", "x2")).alias("features"),
        (F.rand(4) < chance).cast("double").alias("label"),
        classifiers.is_for_calibration("id").alias(classifiers.FOR_CALIBRATION),
    )
    return rows.persist()


@pytest.fixture(scope="module")
def svms(vectors):
    """The calibrated SVM and the plain one, each ready to score."""
    fitted = {"calibrated": classifiers.svm(vectors, SETTINGS), "plain": classifiers.svm(vectors, PLAIN)}
    return [ServedModel(name, "1", pipeline, 3) for name, pipeline in fitted.items()]


def test_calibrated_svm_decides_as_the_plain_one(vectors, svms):
    """Predictions follow the margin's sign, and the scores have the margins' order."""
    rows = apply_models(vectors, svms).collect()
    labels = [row["label"] for row in rows]
    margins, probabilities = ([row[f"score_{name}"] for row in rows] for name in ("plain", "calibrated"))

    assert [row["prediction_calibrated"] for row in rows] == [row["prediction_plain"] for row in rows]
    assert 0 < sum(row["prediction_plain"] for row in rows) < len(rows)
    assert any((row["score_calibrated"] > 0.5) != (row["prediction_calibrated"] == 1) for row in rows)
    assert roc_auc_score(labels, probabilities) == pytest.approx(roc_auc_score(labels, margins), abs=1e-12)
    assert np.argsort(margins).tolist() == np.argsort(probabilities).tolist()


def test_calibrated_svm_has_probabilities(vectors, svms):
    """The probabilities sum to the clicks, with the log loss of a logistic regression on the same rows."""
    lr = ServedModel("lr", "1", classifiers.logistic_regression(vectors, Classifier(reg_param=1e-4, max_iter=20)), 3)
    rows = apply_models(vectors, [*svms, lr]).collect()
    labels = [row["label"] for row in rows]
    losses = {name: log_loss(labels, [row[f"score_{name}"] for row in rows]) for name in ("calibrated", "lr")}

    assert [model.score_kind for model in svms] == ["probability", "margin"]
    assert sum(row["score_calibrated"] for row in rows) / sum(labels) == pytest.approx(1, abs=0.1)
    assert losses["lr"] < losses["calibrated"] < losses["lr"] + 0.01


def test_calibration_is_fitted_on_rows_that_its_svm_was_not_trained_on(vectors, svms):
    """The calibration uses rows outside the SVM's training rows, whose margins would be too optimistic."""
    ours, unseen = (vectors.filter(f"{part} {classifiers.FOR_CALIBRATION}") for part in ("not", ""))
    other = LinearSVC(regParam=1e-4, maxIter=20, standardization=False, rawPredictionCol="margin").fit(ours)
    expected = LogisticRegression(featuresCol="margin", predictionCol="p").fit(other.transform(unseen))
    svm, found = svms[0].stages

    assert 300 < unseen.count() < 500
    assert found.coefficients.toArray() == pytest.approx(expected.coefficients.toArray(), rel=1e-9)
    assert found.intercept == pytest.approx(expected.intercept, rel=1e-9)
    assert svm.coefficients == svms[1].stages[0].coefficients, "the served SVM has learnt from all rows"


def test_saved_and_loaded_it_decides_the_same(vectors, svms, tmp_path):
    """A saved and loaded model has the same predictions, because Spark's format keeps the threshold."""
    svms[0].pipeline.save(str(tmp_path / "svm"))
    loaded = ServedModel("loaded", "1", PipelineModel.load(str(tmp_path / "svm")), 3)
    rows = apply_models(vectors, [svms[0], loaded]).collect()

    assert [row["prediction_loaded"] for row in rows] == [row["prediction_calibrated"] for row in rows]
    assert [row["score_loaded"] for row in rows] == [row["score_calibrated"] for row in rows]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("1 - label", "the more clicks are predicted, the fewer there are"),
        ("0D", "have no click"),
        ("1D", "have nothing but clicks"),
    ],
    ids=["reversed", "no click", "clicks"],
)
def test_calibration_that_would_not_follow_the_margin_is_refused(vectors, change, reason):
    """A calibration whose probabilities would contradict the predictions is refused."""
    changed = F.expr(f"if({classifiers.FOR_CALIBRATION}, {change}, label)")

    with pytest.raises(InputError, match=f"{reason}.*train.svm.calibrate=false"):
        classifiers.svm(vectors.withColumn("label", changed), SETTINGS)


@pytest.mark.parametrize("intercept", [-30.0, -1.3, -1e-20, 0.0, 1e-20, 0.0268, 1.7, 9.5])
def test_threshold_is_the_probability_at_margin_zero(spark, vectors, intercept):
    """Margin 0 is class 0, as in the SVM; a positive margin that changes the probability is class 1."""
    calibration = fitted(spark, intercept)
    calibration.setThreshold(classifiers.threshold(intercept))
    margins = [0.0, -0.0, -1e-300, -1e-9, -math.inf, 1e-9 * max(1, math.exp(intercept)), 1.0, math.inf]
    rows = spark.createDataFrame([(margin,) for margin in margins], "m double")
    found = calibration.transform(rows.select(array_to_vector(F.array(-F.col("m"), "m")).alias("margin")))

    assert [row["prediction"] for row in found.select("prediction").collect()] == [0, 0, 0, 0, 0, 1, 1, 1]


def fitted(spark, intercept):
    """Return a calibration with slope 2 and an intercept."""
    weights = _py2java(spark.sparkContext, Vectors.dense(-1.0, 1.0))
    java = spark._jvm.org.apache.spark.ml.classification.LogisticRegressionModel("lr", weights, intercept)
    return LogisticRegressionModel(java).setFeaturesCol("margin")


def test_margin_scale_is_half_the_standard_deviation_of_the_margin(vectors, svms):
    """The scale is half the standard deviation of the margin, and None for a model with probabilities."""
    calibrated, plain = (model.pipeline.transform(vectors) for model in svms)
    margins = [row["score_plain"] for row in apply_models(vectors, svms).collect()]

    assert classifiers.margin_scale(plain) == pytest.approx(np.std(margins) / 2, rel=1e-9)
    assert classifiers.margin_scale(calibrated) is None
    same = plain.withColumn("rawPrediction", array_to_vector(F.array(F.lit(-1.0), F.lit(1.0))))
    assert classifiers.margin_scale(same) is None, "nothing can be divided by it"
