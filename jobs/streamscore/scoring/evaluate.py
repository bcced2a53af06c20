"""Compare predictions with labels, and count events: DataFrame in, DataFrame out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from streamscore.schema import FEATURES, LABEL, REASON

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from streamscore.scoring.served import ServedModel


def with_correct(scored: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Replace the features by ``correct_<name>`` for each model: 1 or 0, null without a label."""
    judged = [
        F.when(F.col(LABEL).isNotNull(), (F.col(model.prediction) == F.col(LABEL)).cast("byte")).alias(model.correct)
        for model in models
    ]
    return scored.select(*(name for name in scored.columns if name != FEATURES), *judged)


def counts() -> list[Column]:
    """Return the counts to observe on evaluated rows: all events, and the rejected ones."""
    return [F.count("*").alias("events"), F.count(REASON).alias("rejected")]
