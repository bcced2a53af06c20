"""The classifiers of a training, fitted on the vectors of ``features.fit``, which need no scaling.

A linear SVM has margins but no probabilities. Platt's calibration adds them: a logistic regression on the margin alone,
fitted on rows outside the SVM's training rows (J. Platt, "Probabilistic outputs for support vector machines", 1999).
The served SVM still learns from all rows: the calibration's margins are those of a second SVM, which is trained without
a tenth of the rows and scores that tenth. So neither predictions nor AUC change.
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

    from streamscore.config.jobs import Classifier, Svm

FOR_CALIBRATION: Final = "for_calibration"
"""Column: whether the SVM's calibration is fitted on the row."""

_ONE_IN: Final = 10
"""One row in so many is for the calibration, which has two coefficients to learn."""

_MARGIN: Final = "margin"
"""Column of the SVM's raw prediction in the calibrated pipeline: a vector with the margin of each class."""

_WAY_OUT: Final = "bring more rows, or train the SVM without probabilities: train.svm.calibrate=false"


def is_for_calibration(*columns: str) -> Column:
    """Return whether a row is for the calibration: one in ten, the same rows in every training.

    Args:
        columns: columns that together distinguish the rows.
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
    """Fit a linear SVM, followed by a calibration unless ``settings.calibrate`` is false.

    The calibrated pipeline ends in a logistic regression with the SVM's own predictions: class 1 at every positive
    margin, except margins too small (some 1e-15) to change the probability.

    Args:
        vectors: rows with ``label``, ``features`` and ``for_calibration``.
        settings: regularisation, iterations, and whether to calibrate.

    Raises:
        InputError: the rows for the calibration have only one label, or the share of clicks does not grow with the
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

    Spark compares logits: class 1 is a logit above ln(p/(1-p)). Rounding could put that bound below the intercept, so
    that margin 0 would be class 1. So p is the next number whose logit is above the intercept by more than the
    logarithms of two machines differ.

    Args:
        intercept: the logit at margin 0.
    """
    probability = 1 / (1 + math.exp(-intercept))
    while 0 < probability < 1 and math.log(probability / (1 - probability)) < intercept + 2 * math.ulp(intercept):
        probability = math.nextafter(probability, 1)
    return probability


def margin_scale(scored: DataFrame) -> float | None:
    """Return half the standard deviation of class 1's margin, the margin that the bins treat as one unit of logit.

    With this scale the AUC from the bins is exact to some 0.005, also for skewed margins. Runs a Spark job.

    Args:
        scored: rows scored by a model.

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
    """Fit the logistic regression on the margins, without regularisation, which would bias the probabilities."""
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
    """Check that the rows have both labels: with one label every probability would be 0 or 1."""
    labels = {row[LABEL] for row in unseen.select(LABEL).distinct().collect()}
    if len(labels) < 2:  # noqa: PLR2004 (a click and none)
        lacking = "nothing but clicks" if 1.0 in labels else "no click"
        raise InputError(f"the rows to calibrate the SVM on, one in {_ONE_IN}, have {lacking}: {_WAY_OUT}")
