"""A model declines the events that its pipeline cannot take; all others have the pipeline's own outcome."""

import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression, NaiveBayes, RandomForestClassifier
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import (
    IDF,
    Bucketizer,
    FeatureHasher,
    HashingTF,
    IndexToString,
    Interaction,
    OneHotEncoder,
    QuantileDiscretizer,
    RegexTokenizer,
    StopWordsRemover,
    StringIndexer,
    Tokenizer,
    VectorAssembler,
    VectorIndexer,
)
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import functions as F

from streamscore import models
from streamscore.config.fields import parse
from streamscore.errors import ModelError
from streamscore.models import checks
from streamscore.scoring.apply import apply_models
from streamscore.scoring.served import ServedModel

FIELDS = "hours INT, job STRING, age DOUBLE, text STRING, code BIGINT"
COLUMNS = "hours int, job string, age double, text string, code bigint"
GOOD = [
    (20 + i % 40, ("private", "state", "own")[i % 3], 20.0 + i % 57, ("good deal", "bad one", "a person")[i % 3], i % 4)
    for i in range(60)
]
NULL = {name: (*[None if at == name else GOOD[0][at] for at in range(5)],) for name in range(5)}
STRANGE = [
    *NULL.values(),
    (30, "alien", 30.0, "x", 1),
    (30, "own", 130.0, "x", 1),
    (30, "own", -1e300, "", 9),
    (-5, "own", 30.0, "x", -1),
    (None, None, None, None, None),
]


@pytest.fixture(scope="module")
def data(spark):
    """Sixty rows with a label as text and as a number."""
    rows = [(*row, "yes" if row[0] + row[2] > 70 else "no", float(row[0] + row[2] > 70)) for row in GOOD]
    return spark.createDataFrame(rows, f"{COLUMNS}, income string, label double").coalesce(1).persist()


def on_label():
    """Return the indexer of the label."""
    return StringIndexer(inputCol="income", outputCol="target")


def features():
    """Return the feature stages of nearly every tutorial, with Spark's defaults."""
    return [
        StringIndexer(inputCol="job", outputCol="job_index"),
        OneHotEncoder(inputCols=["job_index"], outputCols=["job_vector"]),
        VectorAssembler(inputCols=["job_vector", "hours", "age"], outputCol="features"),
    ]


def logistic(**params):
    """Return a quick classifier."""
    return LogisticRegression(maxIter=3, **params)


def cross_validated():
    """Return a tuner over a whole pipeline."""
    learner = logistic()
    return CrossValidator(
        estimator=Pipeline(stages=[*features(), learner]),
        estimatorParamMaps=ParamGridBuilder().addGrid(learner.regParam, [0.01, 0.1]).build(),
        evaluator=BinaryClassificationEvaluator(),
        numFolds=2,
        seed=1,
    )


def assembled(*names, **how):
    """Return an assembler and a classifier."""
    return [VectorAssembler(inputCols=list(names), outputCol="features", **how), logistic()]


def bucketed(**how):
    """Return a pipeline with bins of the age."""
    bins = Bucketizer(splits=[0.0, 30.0, 50.0, 120.0], inputCol="age", outputCol="ages", **how)
    return [bins, *assembled("ages", "hours")]


JOB = {1: ("null_value", "job"), 5: ("unknown_category", "job"), 9: ("null_value", "job")}
TUTORIAL = {0: ("null_value", "hours"), 2: ("null_value", "age"), **JOB}
ASSEMBLED = {0: ("null_value", "hours"), 2: ("null_value", "age"), 9: ("null_value", "hours")}
TEXT = {3: ("null_value", "text"), 9: ("null_value", "text")}
BINS = {
    0: ("null_value", "hours"),
    2: ("null_value", "age"),
    6: ("out_of_range", "age"),
    7: ("out_of_range", "age"),
    9: ("null_value", "age"),
}
CASES = {
    "tutorial": (
        lambda: [on_label(), *features(), RandomForestClassifier(labelCol="target", numTrees=3, seed=1)],
        TUTORIAL,
    ),
    "tutorial_back_to_text": (
        lambda: [
            *(on_label(), *features(), logistic(labelCol="target")),
            IndexToString(inputCol="prediction", outputCol="said", labels=["no", "yes"]),
        ],
        TUTORIAL,
    ),
    "indexer_of_label_and_feature": (
        lambda: [
            StringIndexer(inputCols=["income", "job"], outputCols=["target", "job_index"]),
            VectorAssembler(inputCols=["job_index", "hours", "age"], outputCol="features"),
            logistic(labelCol="target"),
        ],
        TUTORIAL,
    ),
    "cross_validator": (cross_validated, TUTORIAL),
    "skipping": (
        lambda: [
            StringIndexer(inputCol="job", outputCol="job_index", handleInvalid="skip"),
            *assembled("job_index", "hours", "age", handleInvalid="skip"),
        ],
        TUTORIAL,
    ),
    "assembler_only": (lambda: assembled("hours", "age"), ASSEMBLED),
    "text": (
        lambda: [
            Tokenizer(inputCol="text", outputCol="words"),
            StopWordsRemover(inputCol="words", outputCol="kept"),
            HashingTF(inputCol="kept", outputCol="counts", numFeatures=64),
            IDF(inputCol="counts", outputCol="features"),
            logistic(),
        ],
        TEXT,
    ),
    "regular_text": (
        lambda: [
            RegexTokenizer(inputCol="text", outputCol="words"),
            HashingTF(inputCol="words", outputCol="features", numFeatures=64),
            NaiveBayes(),
        ],
        TEXT,
    ),
    "bucketizer": (bucketed, BINS),
    "bucketizer_that_skips": (lambda: bucketed(handleInvalid="skip"), BINS),
    "quantiles": (
        lambda: [
            QuantileDiscretizer(numBuckets=3, inputCol="age", outputCol="ages"),
            *assembled("ages", "hours"),
        ],
        {**ASSEMBLED, 9: ("null_value", "age")},
    ),
    "whole_numbers_in_bins": (
        lambda: [
            Bucketizer(splits=[0.5, 30.0, 60.5], inputCol="hours", outputCol="bin", handleInvalid="keep"),
            FeatureHasher(inputCols=["bin", "age"], outputCol="features", numFeatures=16),
            logistic(),
        ],
        {8: ("out_of_range", "hours")},
    ),
    "codes": (
        lambda: [
            OneHotEncoder(inputCols=["code"], outputCols=["code_vector"]),
            *assembled("code_vector", "hours"),
        ],
        {
            0: ("null_value", "hours"),
            4: ("null_value", "code"),
            7: ("out_of_range", "code"),
            8: ("out_of_range", "code"),
            9: ("null_value", "code"),
        },
    ),
    "interaction": (
        lambda: [Interaction(inputCols=["hours", "age"], outputCol="features"), logistic()],
        ASSEMBLED,
    ),
    "vector_indexer": (
        lambda: [
            VectorAssembler(inputCols=["code", "age"], outputCol="both", handleInvalid="keep"),
            VectorIndexer(inputCol="both", outputCol="features", maxCategories=4),
            RandomForestClassifier(numTrees=3, seed=1),
        ],
        dict.fromkeys((4, 7, 8, 9), ("unknown_category", "both")),
    ),
}


def load(spark, make_config, model, folder, fields=FIELDS):
    """Save and load a model."""
    model.write().overwrite().save(str(folder))
    listed = f"models=[{{name: lr, uri: '{folder}', trust: unsigned}}]"
    return models.load(spark, make_config(listed, *([f"message.fields='{fields}'"] if fields else [])))


@pytest.mark.parametrize("name", CASES)
def test_model_declines_what_its_pipeline_cannot_take(spark, make_config, data, tmp_path, name):
    """A declined event has a reason and a column; any other the outcome of the pipeline, to the last bit."""
    make, expected = CASES[name]
    stages = make()
    model = (stages if isinstance(stages, CrossValidator) else Pipeline(stages=stages)).fit(data)
    (served,) = load(spark, make_config, model, tmp_path / "model")
    numbered = [(at, *row) for at, row in enumerate([*GOOD[:9], *STRANGE])]
    given = spark.createDataFrame(numbered, f"id int, {COLUMNS}").coalesce(1)
    rows = given.select("id", F.lit(1.0).alias("label"), F.struct(*given.columns[1:]).alias("features"))
    found = {row["id"]: row for row in apply_models(rows, [served]).collect()}
    declined = {at - 9: tuple(row["declined_lr"]) for at, row in found.items() if row["declined_lr"] is not None}
    taken = given.filter(~F.col("id").isin([at + 9 for at in declined]))
    alone = {
        row["id"]: (row["prediction"], row["probability"][1]) for row in served.pipeline.transform(taken).collect()
    }

    assert declined == expected
    assert len(found) == 9 + len(STRANGE) == len(alone) + len(declined)
    assert alone == {at: (row["prediction_lr"], row["score_lr"]) for at, row in found.items() if at in alone}
    assert all(row["prediction_lr"] is row["score_lr"] is None for at, row in found.items() if at not in alone)


def test_value_of_a_vector_that_its_indexer_does_not_know_is_declined(spark, make_config, tmp_path):
    """A vector's categories are looked up before the trees are."""
    rows = [(float(i % 2), Vectors.dense([i % 3, i / 7])) for i in range(40)]
    data = spark.createDataFrame(rows, ["label", "features"])
    indexer = VectorIndexer(maxCategories=4, inputCol="features", outputCol="indexed", handleInvalid="skip")
    model = Pipeline(stages=[indexer, RandomForestClassifier(featuresCol="indexed", numTrees=2, seed=1)]).fit(data)
    (served,) = load(spark, make_config, model, tmp_path / "model", fields="")
    given = spark.createDataFrame([(Vectors.dense([2.0, 1.0]),), (Vectors.dense([7.0, 1.0]),)], ["features"])
    one, other = apply_models(given, [served]).collect()

    assert one["declined_lr"] is None
    assert one["score_lr"] == model.transform(given.limit(1)).first()["probability"][1]
    assert tuple(other["declined_lr"]) == ("unknown_category", "features")


def test_stage_that_still_fails_is_named_with_its_input(spark, make_config, data, tmp_path):
    """The gate names the stage, its column and the input, in words of its own."""
    stages = [VectorAssembler(inputCols=["age"], outputCol="raw"), NaiveBayes(featuresCol="raw")]
    with pytest.raises(ModelError) as caught:
        load(spark, make_config, Pipeline(stages=stages).fit(data), tmp_path / "bayes")

    assert "with the lowest numbers" in str(caught.value)
    assert '"age": -1.79' in str(caught.value)
    assert "the stage NaiveBayesModel fails on it at the column raw" in str(caught.value)
    assert "xception" not in str(caught.value)


def test_manifest_has_no_golden_row_that_the_model_declines(spark, data, tmp_path):
    """Rows that have no outcome cannot be reproduced; a model that declines all of them has no manifest."""
    model = Pipeline(stages=assembled("hours", "age")).fit(data)
    model.save(str(tmp_path / "model"))
    fields = parse("hours INT, age DOUBLE")
    path = models.sign(spark, tmp_path / "model", [{"hours": 3, "age": 2.0}, {"hours": 3}], {}, {}, fields)

    assert path.read_text().count('"prediction"') == 1
    with pytest.raises(ModelError, match="declines all of the 1 examples"):
        models.sign(spark, tmp_path / "model", [{"hours": 3}], {}, {}, fields)


def test_tried_values_are_those_that_the_stages_know(data):
    """The gate tries a message that the model does not decline."""
    model = Pipeline(stages=[features()[0], *bucketed()]).fit(data)
    served = ServedModel("lr", "1", model, 2, fields=parse("job STRING, age DOUBLE"))

    assert checks._tried(served)["known values"] == {"job": "own", "age": 0.0}
