"""How good a binary classifier's scores are, as points to plot: the ROC curve and the calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pyspark.ml.feature import Bucketizer
from pyspark.sql import functions as F

from streamscore.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class RocPoint(NamedTuple):
    """What calling every row with a score from some threshold on positive would get."""

    false_positives: float
    """Share of the negative rows that would be called positive."""
    true_positives: float
    """Share of the positive rows that would be called positive."""


class CalibrationBin(NamedTuple):
    """Rows of about the same predicted probability."""

    predicted: float
    """Mean of their predicted probabilities."""
    observed: float
    """Share of them that is positive."""
    rows: int


def roc(scored: DataFrame, label: str, score: str, points: int = 200) -> list[RocPoint]:
    """Return points of the ROC curve from (0, 0) to (1, 1); each lies on the curve, however few they are.

    Args:
        scored: the rows.
        label: column with 0 or 1.
        score: column with a number that is the higher the more likely a row is positive: a probability or a margin.
        points: about how many points.

    Raises:
        InputError: the labels are all alike, so there is no curve.
    """
    shares = [number / points for number in range(1, points)]
    thresholds = sorted(set(scored.approxQuantile(score, shares, 0.25 / points)))
    buckets = Bucketizer(splits=[-math.inf, *thresholds, math.inf], inputCol=score, outputCol="bucket")
    counted = buckets.transform(scored.select(label, score)).groupBy("bucket")
    rows = counted.agg(F.sum(label).alias("positive"), F.sum(1 - F.col(label)).alias("negative")).collect()
    positive, negative = sum(row["positive"] for row in rows), sum(row["negative"] for row in rows)
    if not positive or not negative:
        raise InputError(f"the column {label!r} holds one class only: there is no ROC curve")
    curve = [RocPoint(0.0, 0.0)]
    called_positive = called_negative = 0.0
    for row in sorted(rows, key=lambda row: -row["bucket"]):
        called_positive += row["positive"]
        called_negative += row["negative"]
        curve.append(RocPoint(called_negative / negative, called_positive / positive))
    return curve


def calibration(scored: DataFrame, label: str, probability: str, bins: int = 10) -> list[CalibrationBin]:
    """Return, per interval of equal width with rows in it, what was predicted and what was the case.

    Args:
        scored: the rows.
        label: column with 0 or 1.
        probability: column with the predicted probability of 1.
        bins: number of intervals between 0 and 1.
    """
    interval = F.least(F.floor(F.col(probability) * bins), F.lit(bins - 1)).alias("interval")
    rows = (
        scored.groupBy(interval)
        .agg(F.avg(probability).alias("predicted"), F.avg(label).alias("observed"), F.count("*").alias("rows"))
        .orderBy("interval")
        .collect()
    )
    return [CalibrationBin(row["predicted"], row["observed"], row["rows"]) for row in rows]
