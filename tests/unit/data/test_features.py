"""The feature pipeline: bins, tokens, and a vector that never fails."""

import math

import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.feature import Bucketizer
from pyspark.sql import functions as F

from streamscore.data import features
from streamscore.data.criteo import CATEGORIES, INTEGERS, MISSING

COLUMNS = [*INTEGERS, *CATEGORIES]
DDL = ", ".join([*(f"{name} int" for name in INTEGERS), *(f"{name} string" for name in CATEGORIES)])


def row(integer=1, category="a"):
    """Return a row with the same value in all integer columns and in all category columns."""
    return (*[integer] * 13, *[category] * 26)


@pytest.fixture(scope="module")
def train(spark):
    """Twenty rows with a frequent category, and five with a rare one."""
    return spark.createDataFrame([row(1, "often")] * 20 + [row(2, "seldom")] * 5, DDL)


@pytest.fixture(scope="module")
def pipeline(train):
    """A pipeline for which values with ten rows are frequent."""
    return features.fit(train, hash_size=1 << 14, min_category_count=10)


def vectors(spark, pipeline, *rows):
    """Return the vectors of some rows."""
    return [found["features"] for found in pipeline.transform(spark.createDataFrame(list(rows), DDL)).collect()]


def test_bins_are_those_of_the_formula(spark):
    """The bins are floor(log(x)^2) above 2, and one per value below, with -1 and -2 separate."""
    values = [-2, -1, 0, 1, 2, 3, 4, 5, 10, 100, 2_634_953]
    bucketizer = Bucketizer(splits=features.SPLITS, inputCol="x", outputCol="bin")
    found = [
        row["bin"]
        for row in bucketizer.transform(spark.createDataFrame([(float(v),) for v in values], "x double")).collect()
    ]
    of_formula = [math.floor(math.log(value) ** 2) for value in values if value > 2]

    assert found[:5] == [1, 2, 3, 4, 5]
    assert [bin_ - found[5] for bin_ in found[5:]] == [k - of_formula[0] for k in of_formula]


def test_every_row_sets_one_place_per_column(spark, pipeline):
    """39 columns set 39 slots, except for hash collisions."""
    (vector,) = vectors(spark, pipeline, row(7, "often"))

    assert vector.size == 1 << 14
    assert vector.values.sum() == 39


def test_missing_integer_has_a_bin_of_its_own(spark, pipeline):
    """A missing integer has its own bin."""
    missing, zero, low = vectors(spark, pipeline, row(None), row(0), row(-2))

    assert missing != zero
    assert missing != low
    assert missing.values.sum() == 39


def test_rare_unseen_and_null_categories_share_one_token(spark, pipeline):
    """Rare, unseen and null categories share one token, and no row is dropped."""
    rare, unseen, null, frequent = (
        vectors(spark, pipeline, row(1, "seldom"), row(1, "never"), row(1, None), row(1, "often"))
    )  # fmt: skip

    assert rare == unseen == null
    assert rare != frequent


def test_frequent_values_are_counted_per_column(spark):
    """Frequent values are determined per column, which may have none."""
    base = spark.createDataFrame([row(1, "a")] * 10, DDL)
    data = base.withColumn("C2", F.lit("b")).withColumn("C3", F.expr("uuid()"))
    values = features.frequent_values(data, 10)

    assert values[:3] == [["a"], ["b"], [""]]


def test_saved_pipeline_gives_the_same_vectors(spark, pipeline, train, tmp_path):
    """A saved and loaded pipeline gives the same vectors."""
    pipeline.save(str(tmp_path / "features"))
    loaded = PipelineModel.load(str(tmp_path / "features"))
    sample = [row(3, "often"), row(None, MISSING)]

    assert vectors(spark, loaded, *sample) == vectors(spark, pipeline, *sample)
    assert {type(stage).__module__ for stage in loaded.stages} == {"pyspark.ml.feature"}
