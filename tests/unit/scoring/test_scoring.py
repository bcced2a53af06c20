"""Several models together: each gives the outcome that it gives alone, whatever its column names."""

import sys

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import (
    DecisionTreeClassifier,
    FMClassifier,
    GBTClassifier,
    LinearSVC,
    LogisticRegression,
    LogisticRegressionModel,
    MultilayerPerceptronClassifier,
    NaiveBayes,
    OneVsRest,
    OneVsRestModel,
    RandomForestClassifier,
)
from pyspark.ml.common import _py2java
from pyspark.ml.feature import (
    PCA,
    ElementwiseProduct,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialExpansion,
    RobustScaler,
    StandardScaler,
    VectorIndexer,
    VectorSlicer,
)
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from streamscore.scoring.apply import apply_models
from streamscore.scoring.served import ServedModel, classes, flattened, size

SEVERAL = {"labelCol": "several"}

PIPELINES = {
    "lr": lambda: [LogisticRegression(maxIter=5)],
    "lr_thresholds": lambda: [LogisticRegression(maxIter=5, threshold=0.3)],
    "lr_several": lambda: [LogisticRegression(maxIter=5, **SEVERAL)],
    "lr_thresholds_several": lambda: [LogisticRegression(maxIter=5, thresholds=[0.1, 0.5, 0.9], **SEVERAL)],
    "lr_no_raw": lambda: [LogisticRegression(maxIter=5, rawPredictionCol="")],
    "lr_no_probability": lambda: [LogisticRegression(maxIter=5, probabilityCol="")],
    "svm": lambda: [LinearSVC(maxIter=5)],
    "svm_calibrated": lambda: [
        LinearSVC(maxIter=5, rawPredictionCol="margin", predictionCol=""),
        LogisticRegression(featuresCol="margin", threshold=0.4),
    ],
    "tree": lambda: [DecisionTreeClassifier(maxDepth=3)],
    "tree_several": lambda: [DecisionTreeClassifier(maxDepth=3, leafCol="leaf", **SEVERAL)],
    "forest": lambda: [RandomForestClassifier(numTrees=3, maxDepth=3, seed=1)],
    "forest_several": lambda: [RandomForestClassifier(numTrees=3, maxDepth=3, seed=1, **SEVERAL)],
    "gbt": lambda: [GBTClassifier(maxIter=2, maxDepth=2, seed=1)],
    "bayes": lambda: [NaiveBayes()],
    "bayes_gaussian": lambda: [NaiveBayes(modelType="gaussian", **SEVERAL)],
    "bayes_complement": lambda: [NaiveBayes(modelType="complement", **SEVERAL)],
    "mlp": lambda: [MultilayerPerceptronClassifier(layers=[4, 3, 2], maxIter=15, seed=1)],
    "mlp_several": lambda: [MultilayerPerceptronClassifier(layers=[4, 3, 3], maxIter=15, seed=1, **SEVERAL)],
    "fm": lambda: [FMClassifier(factorSize=2, maxIter=5, seed=1)],
    "ovr": lambda: [OneVsRest(classifier=LogisticRegression(maxIter=3), **SEVERAL)],
    "ovr_svm": lambda: [OneVsRest(classifier=LinearSVC(maxIter=3), **SEVERAL)],
    "ovr_equals": lambda: [OneVsRest(classifier=DecisionTreeClassifier(maxDepth=1), **SEVERAL)],
    "ovr_two": lambda: [OneVsRest(classifier=GBTClassifier(maxIter=1, maxDepth=2, seed=1))],
    "standard": lambda: [
        StandardScaler(withMean=True, inputCol="features", outputCol="scaled"),
        LogisticRegression(maxIter=5, featuresCol="scaled"),
    ],
    "maxabs_ovr": lambda: [
        MaxAbsScaler(inputCol="features", outputCol="scaled"),
        OneVsRest(classifier=LogisticRegression(maxIter=2), featuresCol="scaled", **SEVERAL),
    ],
    "robust": lambda: [
        RobustScaler(inputCol="features", outputCol="scaled"),
        NaiveBayes(modelType="gaussian", featuresCol="scaled", **SEVERAL),
    ],
    "elementwise": lambda: [
        ElementwiseProduct(scalingVec=Vectors.dense(1.0, 2.0, 3.0, 4.0), inputCol="features", outputCol="scaled"),
        LinearSVC(maxIter=2, featuresCol="scaled"),
    ],
    "indexed": lambda: [
        VectorIndexer(maxCategories=4, handleInvalid="keep", inputCol="features", outputCol="scaled"),
        DecisionTreeClassifier(maxDepth=2, featuresCol="scaled"),
    ],
    "long": lambda: [
        Normalizer(inputCol="features", outputCol="prediction_lr"),
        MinMaxScaler(inputCol="prediction_lr", outputCol="label"),
        PCA(k=2, inputCol="label", outputCol="event_id"),
        PolynomialExpansion(inputCol="event_id", outputCol="several"),
        RandomForestClassifier(numTrees=2, seed=1, featuresCol="several", labelCol="target"),
    ],
    "inner": lambda: [
        Pipeline(stages=[MaxAbsScaler(inputCol="features", outputCol="scaled")]),
        Pipeline(
            stages=[
                VectorSlicer(indices=[0, 2, 3], inputCol="scaled", outputCol="sliced"),
                LogisticRegression(maxIter=5, featuresCol="sliced"),
            ]
        ),
    ],
    "other_name": lambda: [
        StandardScaler(inputCol="vec", outputCol="features"),
        LogisticRegression(maxIter=5, predictionCol="label ", probabilityCol="prob", labelCol="target"),
    ],
}
"""All classifiers, for two and three classes, alone and after other stages, with colliding column names."""


SOURCES = {"other_name": "vec"}
"""The vector's column in pipelines with another name for it."""


@pytest.fixture(scope="module")
def data(spark):
    """Two hundred vectors of four features, with a label of two classes and one of three."""
    rows = []
    for i in range(200):
        values = [i % 7, i % 5, i % 3, abs(i - 100) / 9]
        places = [place for place, value in enumerate(values) if value]
        vector = Vectors.dense(values) if i % 2 else Vectors.sparse(4, places, [values[place] for place in places])
        rows.append((f"ml-0-{i}", float(i % 3 == 0), float(i % 3), vector))
    return spark.createDataFrame(rows, ["event_id", "label", "several", "features"]).coalesce(1).persist()


def as_trained(name, data):
    """Return the data under a pipeline's column names."""
    if name == "long":
        return data.select("features", F.col("label").alias("target"))
    if name == "other_name":
        return data.select(F.col("features").alias("vec"), F.col("label").alias("target"))
    return data.select("features", "label", "several")


def serve(name, pipeline, source="features"):
    """Return a pipeline as a model that is ready to score."""
    stages = list(flattened(pipeline))
    return ServedModel(name, "1", pipeline, size(stages, source), classes=classes(stages[-1]), source=source)


@pytest.fixture(scope="module")
def served(data):
    """All pipelines, trained."""
    return {
        name: serve(name, Pipeline(stages=stages()).fit(as_trained(name, data)), SOURCES.get(name, "features"))
        for name, stages in PIPELINES.items()
    }


@pytest.fixture(scope="module")
def together(data, served):
    """The rows, scored by all pipelines in one pass."""
    return apply_models(data, list(served.values())).collect()


@pytest.fixture
def python_workers(spark, monkeypatch):
    """Use this Python for Spark's workers, because PySpark's OneVsRest, the reference, needs numpy."""
    monkeypatch.setattr(spark.sparkContext, "pythonExec", sys.executable)


@pytest.mark.parametrize("name", PIPELINES)
def test_side_by_side_each_predicts_as_alone(data, served, together, python_workers, name):
    """One pass over all models equals each PipelineModel.transform to the last bit."""
    model, classifier = served[name], served[name].stages[-1]
    alone = model.pipeline.transform(as_trained(name, data)).collect()
    column = "prob" if name == "other_name" else "probability"
    if name == "lr_no_probability" or not classifier.hasParam("probabilityCol"):
        column = "rawPrediction"
    predictions = [row[classifier.getPredictionCol()] for row in alone]
    classes = [1 if model.classes == 2 else int(prediction) for prediction in predictions]

    assert model.classes == (3 if classifier.getOrDefault("labelCol") == "several" else 2)
    assert model.size == 4
    kind = "margin" if column == "rawPrediction" else "probability"
    assert model.score_kind == (kind if model.classes == 2 else f"class_{kind}")
    assert [row[f"prediction_{name}"] for row in together] == predictions
    assert [row[f"score_{name}"] for row in together] == [
        row[column][of] for row, of in zip(alone, classes, strict=True)
    ]
    assert len(set(predictions)) > 1, "a model that always says the same shows nothing"


def test_no_other_column_is_added(together, data, served):
    """The stages' own columns, such as vectors per class, are dropped."""
    added = [
        column
        for model in served.values()
        for column in (model.prediction, model.score, model.label_score, model.declined)
        if column
    ]

    assert together[0].__fields__ == [*data.columns, *added]
    assert served["lr_several"].label_score in added
    assert {served[name].label_score for name in ("lr", "svm", "ovr", "ovr_two")} == {None}
    assert [(row["event_id"], row["label"]) for row in together] == [
        (row["event_id"], row["label"]) for row in data.collect()
    ]


@pytest.mark.parametrize("name", ["lr_several", "forest_several", "bayes_gaussian", "mlp_several"])
def test_probability_of_the_labelled_class_is_kept_of_more_than_two(data, served, name):
    """Models of more than two classes keep the labelled class's probability; it is null for an unknown label."""
    labels = F.expr("element_at(array(0.0D, 1.0D, 2.0D, 3.0D, -1.0D, 0.5D, null), int(substring(event_id, 6)) % 7 + 1)")
    rows = data.withColumn("label", labels)
    found = apply_models(rows, [served[name]]).collect()
    alone = served[name].pipeline.transform(data.select("features")).collect()

    assert {row["label"] for row in found} == {0.0, 1.0, 2.0, 3.0, -1.0, 0.5, None}
    for row, expected in zip(found, alone, strict=True):
        label = row["label"]
        known = label in {0.0, 1.0, 2.0}
        assert row[f"label_score_{name}"] == (expected["probability"][int(label)] if known else None)


def test_margin_too_small_to_show_in_the_probability_decides_all_the_same(spark, data):
    """As in transform, a margin of 1e-17 is class 1, although its probability is 0.5."""
    ml = spark._jvm.org.apache.spark.ml
    made = ml.classification.LogisticRegressionModel("lr", ml.linalg.Vectors.zeros(4), 1e-17)
    row = apply_models(data, [serve("lr", PipelineModel([LogisticRegressionModel(made)]))]).first()

    assert (row["prediction_lr"], row["score_lr"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("order", "prediction"), [([0, 1, 2], 2.0), ([1, 0, 2], 0.0), ([1, 1, 0], 0.0), ([0, 2, 1], 1.0)]
)
def test_margin_that_is_no_number_is_never_the_greatest(spark, python_workers, order, prediction):
    """NaN compares as in Spark's one-vs-rest: never greater, and no value is greater than a leading NaN."""
    java = spark._jvm.org.apache.spark.ml.classification.LogisticRegressionModel
    weights = [Vectors.zeros(4), Vectors.dense(2.0, -2.0, 2.0, -2.0), Vectors.zeros(4)]
    made = [
        java(f"lr{number}", _py2java(spark.sparkContext, weights[number]), intercept)
        for number, intercept in enumerate((5.0, 0.0, 7.0))
    ]
    stage = OneVsRestModel([LogisticRegressionModel(made[number]) for number in order])
    event = spark.createDataFrame([(Vectors.dense([1.7e308] * 4),)], ["features"])  # infinity minus infinity
    row = apply_models(event, [serve("ovr", PipelineModel([stage]))]).first()

    assert stage.transform(event).first()["prediction"] == row["prediction_ovr"] == prediction


def test_stream_is_scored_by_models_with_feature_stages(spark, data, served, tmp_path):
    """Models with feature stages work on a streaming DataFrame."""
    data.write.parquet(str(tmp_path / "source"))
    chosen = [served[name] for name in ("long", "indexed", "maxabs_ovr", "inner")]
    stream = apply_models(spark.readStream.schema(data.schema).parquet(str(tmp_path / "source")), chosen)
    query = stream.writeStream.format("memory").queryName("scored").trigger(availableNow=True).start()
    query.awaitTermination(60)

    assert spark.table("scored").count() == 200


def test_size_is_unknown_where_no_stage_tells_it(data, served):
    """A slice does not reveal the vector's size; a stage that keeps the length is followed to the next one."""
    slicer = VectorSlicer(indices=[0, 2, 3], inputCol="features", outputCol="sliced")
    normalizer = Normalizer(inputCol="features", outputCol="sliced")
    classifier = LogisticRegression(featuresCol="sliced", maxIter=1).fit(slicer.transform(data))

    assert size([slicer, classifier], "features") is None
    assert size([normalizer, classifier], "features") == 3
