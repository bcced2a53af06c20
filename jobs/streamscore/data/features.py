"""The feature pipeline from Criteo's columns to a vector for linear models.

It has native Spark ML stages only, so that the fitted pipeline loads anywhere, without this package.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pyspark.ml import PipelineModel
from pyspark.ml.feature import Bucketizer, FeatureHasher, Imputer, StringIndexerModel
from pyspark.sql import functions as F

from streamscore.data.criteo import CATEGORIES, INTEGERS
from streamscore.schema import FEATURES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_MISSING: Final = -9.0
"""Replaces a missing integer between two stages; far below any value, so that it falls into its own bin."""

# The bins of the Kaggle winners, floor(log(x)^2) above 2 and one bin per smaller value (ycjuan/kaggle-2014-criteo,
# converters/common.py), as edges: x falls in bin k of the formula from exp(sqrt(k)) on.
_LARGEST_BIN: Final = 250
SPLITS: Final = [
    *(-math.inf, -5.0, -1.0, 0.0, 1.0, 2.0, 3.0),
    *(math.exp(math.sqrt(k)) for k in range(2, _LARGEST_BIN)),
    math.inf,
]


def fit(train: DataFrame, hash_size: int, min_category_count: int) -> PipelineModel:
    """Fit the feature pipeline.

    Integers become bins, with one bin for a missing value. Categories become the indices of their frequent values, with
    one index per column for all rare and unseen values. Both are hashed into one sparse vector of counts, nearly always
    0 or 1, so that no model needs a scaler.

    Args:
        train: rows with ``I1`` to ``I13`` and ``C1`` to ``C26``.
        hash_size: length of the vector.
        min_category_count: a value with fewer rows is rare.

    Returns:
        A pipeline whose ``transform`` adds the column ``features``; it never drops a row and never fails on an unseen
        or missing value.
    """
    filled = [f"{name}_filled" for name in INTEGERS]
    bins = [f"{name}_bin" for name in INTEGERS]
    tokens = [f"{name}_token" for name in CATEGORIES]
    # A bucketizer keeps nulls, and the hasher would drop them. An imputer has no strategy "constant", but the mode of a
    # single value is that value.
    constant = train.sparkSession.createDataFrame([[_MISSING] * len(INTEGERS)], list(INTEGERS))
    imputer = Imputer(inputCols=list(INTEGERS), outputCols=filled, strategy="mode").fit(constant)
    # No value is outside the bins, but only "keep" states so in the stage's metadata, which the gate reads.
    bucketizer = Bucketizer(
        inputCols=filled, outputCols=bins, splitsArray=[SPLITS] * len(INTEGERS), handleInvalid="keep"
    )
    indexer = StringIndexerModel.from_arrays_of_labels(
        frequent_values(train, min_category_count), list(CATEGORIES), tokens, handleInvalid="keep"
    )
    hasher = FeatureHasher(
        inputCols=[*bins, *tokens], categoricalCols=[*bins, *tokens], numFeatures=hash_size, outputCol=FEATURES
    )
    return PipelineModel([imputer, bucketizer, indexer, hasher])


def frequent_values(data: DataFrame, min_count: int) -> list[list[str]]:
    """Return, for each category column in order, the sorted values with at least ``min_count`` rows."""
    pairs = F.explode(
        F.array(*(F.struct(F.lit(name).alias("column"), F.col(name).alias("value")) for name in CATEGORIES))
    )
    counts = data.select(pairs.alias("pair")).groupBy("pair").count().filter(F.col("count") >= min_count)
    values: dict[str, list[str]] = {name: [] for name in CATEGORIES}
    for row in counts.select("pair.column", "pair.value").toLocalIterator():
        values[row["column"]].append(row["value"])
    # StringIndexerModel refuses a column without labels; the empty text is never a real value.
    return [sorted(values[name]) or [""] for name in CATEGORIES]
