"""The two classifiers of a training, fitted on the vectors of ``features.fit``; none needs to scale anything first.

A linear SVM has margins but no probabilities. Platt's calibration adds them: a logistic regression on the margin alone,
fitted on rows that the SVM of these margins was not trained on (J. Platt, "Probabilistic outputs for support vector
machines", 1999). The SVM that is served learns from all rows nevertheless: the margins are those of a second one, which
is trained without a tenth of the rows and scores that tenth. So neither predictions nor AUC change.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from streamscore.errors import InputError
from streamscore.schema import FEATURES, LABEL

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.ml.classification import LogisticRegressionModel
    from pyspark.sql import Column, DataFrame

    from streamscore.config.keys import Classifier, Svm

FOR_CALIBRATION: Final = "for_calibration"
"""Column that says of a row whether the SVM's probabilities are fitted on it."""

_ONE_IN: Final = 10
"""Of how many rows one is for the calibration, which has two coefficients to learn."""

_MARGIN: Final = "margin"
"""Column of the SVM's raw prediction in the calibrated pipeline: a vector, the margin of each class."""

_WAY_OUT: Final = "bring more rows, or train the SVM without probabilities: train.svm.calibrate=false"


def is_for_calibration(*columns: str) -> Column:
    """Return whether a row is for the calibration: one in ten, the same ones in every training on the same rows.

    Args:
        columns: columns that together differ from row to row.
    """
    from pyspark.sql import functions as F

    return F.pmod(F.xxhash64(*columns), F.lit(_ONE_IN)) == 0


def logistic_regression(vectors: DataFrame, settings: Classifier) -> PipelineModel:
    """Fit a logistic regression.

    Args:
        vectors: rows with ``label`` and ``features``.
        settings: regularisation and iterations.
    """
    from pyspark.ml import PipelineModel
    from pyspark.ml.classification import LogisticRegression

    learner = LogisticRegression(regParam=settings.reg_param, maxIter=settings.max_iter, standardization=False)
    return PipelineModel([learner.fit(vectors)])


def svm(vectors: DataFrame, settings: Svm) -> PipelineModel:
    """Fit a linear SVM, with a calibration behind it unless ``settings.calibrate`` is false.

    The calibrated pipeline ends in a logistic regression, which predicts what the SVM alone would predict: class 1 at
    every positive margin, but one so small (some 1e-15) that it does not show in the probability.

    Args:
        vectors: rows with ``label``, ``features`` and ``for_calibration``.
        settings: regularisation, iterations, and whether to calibrate.

    Raises:
        InputError: the rows for the calibration have one label only, or clicks do not become more frequent with the
            margin.
    """
    from pyspark.ml import PipelineModel
    from pyspark.ml.classification import LinearSVC

    learner = LinearSVC(regParam=settings.reg_param, maxIter=settings.max_iter, standardization=False)
    if not settings.calibrate:
        return PipelineModel([learner.fit(vectors)])
    learner.setRawPredictionCol(_MARGIN)
    learner.setPredictionCol("")
    unseen = vectors.filter(FOR_CALIBRATION).select(LABEL, FEATURES)
    _require_both_labels(unseen)
    other = learner.fit(vectors.filter(~vectors[FOR_CALIBRATION]))
    calibration = _calibration(other.transform(unseen))
    return PipelineModel([learner.fit(vectors), calibration])


def threshold(intercept: float) -> float:
    """Return the probability at margin 0, as the threshold of a logistic regression with this intercept.

    Spark compares logits: class 1 is what exceeds ln(p/(1-p)). Rounded, that could fall below the intercept, and margin
    0 would be class 1. So p is the next number whose logit is above it, by more than the logarithms of two machines
    differ.

    Args:
        intercept: the logit at margin 0.
    """
    probability = 1 / (1 + math.exp(-intercept))
    while 0 < probability < 1 and math.log(probability / (1 - probability)) < intercept + 2 * math.ulp(intercept):
        probability = math.nextafter(probability, 1)
    return probability


def margin_scale(scored: DataFrame) -> float | None:
    """Return half the standard deviation of the margin of class 1: what one unit of the logit stands for in its bins.

    With half of it, the AUC that follows from the bins is known to some 0.005, also where the margins are skewed.
    Runs a Spark job.

    Args:
        scored: rows that a model has scored.

    Returns:
        None for a model with probabilities, or if all rows have the same margin.
    """
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    if "probability" in scored.columns:
        return None
    row: Any = scored.agg(F.stddev_pop(vector_to_array(F.col("rawPrediction"))[1])).first()
    return row[0] / 2 or None


def _calibration(scored: DataFrame) -> LogisticRegressionModel:
    """Fit the logistic regression on the margins, without regularisation, which would flatten the probabilities."""
    from pyspark.ml.classification import LogisticRegression

    # The vector is (-margin, margin), so the two weights have the same effect, and the slope is their difference.
    model: LogisticRegressionModel = LogisticRegression(featuresCol=_MARGIN).fit(scored.select(LABEL, _MARGIN))
    against, towards = model.coefficients.toArray()
    if not towards - against > 0:
        raise InputError(
            f"the SVM's margins have no use as probabilities: the more clicks are predicted, the fewer there are: "
            f"{_WAY_OUT}"
        )
    model.setThreshold(threshold(model.intercept))
    return model


def _require_both_labels(unseen: DataFrame) -> None:
    """Check that a calibration can be fitted: of one label every probability would be 0 or 1."""
    labels = {row[LABEL] for row in unseen.select(LABEL).distinct().collect()}
    if len(labels) < 2:  # noqa: PLR2004 (a click and none)
        lacking = "nothing but clicks" if 1.0 in labels else "no click"
        raise InputError(f"the rows to calibrate the SVM on, one in {_ONE_IN}, have {lacking}: {_WAY_OUT}")
