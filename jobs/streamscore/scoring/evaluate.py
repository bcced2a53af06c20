"""Compare predictions with labels, and count what comes of it: DataFrame in, DataFrame out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyspark.sql import functions as F

from streamscore.schema import FEATURES, LABEL, REASON

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from streamscore.scoring.served import ServedModel


MAX_LABELS: Final = 100
"""Most labels that are counted one by one."""


def with_correct(scored: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Drop the features and say for each model whether it was right: ``correct_<name>`` is 1, 0 or null (no label)."""
    judged = [
        F.when(F.col(LABEL).isNotNull(), (F.col(model.prediction) == F.col(LABEL)).cast("byte")).alias(model.correct)
        for model in models
    ]
    return scored.select(*(name for name in scored.columns if name != FEATURES), *judged)


def counts(models: Sequence[ServedModel]) -> list[Column]:
    """Return the counts to observe on judged rows: events, rejected, labelled, each label, and right answers per model.

    Labels are counted up to the largest class of any model; with more than ``MAX_LABELS`` classes none is.
    """
    good = F.col(REASON).isNull()
    return [
        F.count("*").alias("events"),
        F.count(REASON).alias("rejected"),
        F.count(LABEL).alias("labelled"),
        *(F.count_if(good & (F.col(LABEL) == float(label))).alias(f"label_{label}") for label in _labels(models)),
        *(F.count_if(good & (F.col(model.correct) == 1)).alias(model.correct) for model in models),
    ]


def _labels(models: Sequence[ServedModel]) -> range:
    classes = max(model.classes for model in models)
    return range(classes if classes <= MAX_LABELS else 0)
