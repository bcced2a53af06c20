"""Models: found, checked, and applied side by side to the same result as each alone."""

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import (
    DecisionTreeClassifier,
    GBTClassifier,
    LinearSVC,
    LogisticRegression,
    NaiveBayes,
    RandomForestClassifier,
)
from pyspark.ml.feature import StandardScaler
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from streamscore import models
from streamscore.errors import ModelError

CLASSIFIERS = {
    "lr": lambda: LogisticRegression(maxIter=5),
    "svm": lambda: LinearSVC(maxIter=5),
    "tree": lambda: DecisionTreeClassifier(maxDepth=3),
    "forest": lambda: RandomForestClassifier(numTrees=3, seed=1),
    "gbt": lambda: GBTClassifier(maxIter=2, seed=1),
    "bayes": NaiveBayes,
}


@pytest.fixture(scope="module")
def data(spark):
    """Two hundred labelled vectors of four features."""
    rows = [(float(i % 3 == 0), Vectors.dense([i % 7, i % 5, i % 3, abs(i - 100) / 9])) for i in range(200)]
    return spark.createDataFrame(rows, ["label", "features"]).persist()


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A folder with one saved PipelineModel per kind of classifier."""
    folder = tmp_path_factory.mktemp("models")
    for name, classifier in CLASSIFIERS.items():
        Pipeline(stages=[classifier()]).fit(data).save(str(folder / name))
    return folder


def load(spark, make_config, *models_, extra=()):
    """Load models given as (name, folder)."""
    listed = ", ".join(f"{{name: {name}, uri: {uri}}}" for name, uri in models_)
    return models.load(spark, make_config(f"models=[{listed}]", *extra))


def test_side_by_side_each_predicts_as_alone(spark, make_config, data, folder):
    """One pass over all models gives, bit for bit, what PipelineModel.transform gives for each."""
    served = load(spark, make_config, *((name, folder / name) for name in CLASSIFIERS))
    together = models.apply(data, served).collect()
    for name in CLASSIFIERS:
        alone = PipelineModel.load(str(folder / name)).transform(data).collect()
        scores = [row["rawPrediction" if name == "svm" else "probability"][1] for row in alone]

        assert [row[f"prediction_{name}"] for row in together] == [row["prediction"] for row in alone]
        assert [row[f"score_{name}"] for row in together] == scores


def test_no_other_column_is_added(spark, make_config, data, folder):
    """Default column names of two models would collide; vectors per class are not kept."""
    served = load(spark, make_config, ("a", folder / "lr"), ("b", folder / "svm"))

    assert models.apply(data, served).columns == [
        "label", "features", "prediction_a", "score_a", "prediction_b", "score_b",
    ]  # fmt: skip


def test_version_of_a_plain_folder_changes_with_its_content(spark, make_config, data, folder, tmp_path):
    """And not with its place."""
    import shutil

    shutil.copytree(folder / "lr", tmp_path / "copy")
    Pipeline(stages=[LogisticRegression(maxIter=2)]).fit(data).save(str(tmp_path / "other"))
    served = load(spark, make_config, ("a", folder / "lr"), ("b", tmp_path / "copy"), ("c", tmp_path / "other"))

    assert served[0].version == served[1].version
    assert served[0].version != served[2].version


def test_absent_folder_is_named(spark, make_config):
    """The message says what to give instead."""
    with pytest.raises(ModelError, match="the model 'lr': no folder at /nowhere"):
        load(spark, make_config, ("lr", "/nowhere"))


def test_folder_that_is_no_model_is_named(spark, make_config, tmp_path):
    """Spark's reason is in the message, without its stack trace."""
    with pytest.raises(ModelError, match="cannot be loaded as a PipelineModel") as caught:
        load(spark, make_config, ("lr", tmp_path))

    assert "\n" not in str(caught.value)


def test_pipeline_that_ends_in_no_classifier_is_refused(spark, make_config, data, tmp_path):
    """A scaler predicts nothing."""
    scaler = StandardScaler(inputCol="features", outputCol="scaled")
    Pipeline(stages=[scaler]).fit(data).save(str(tmp_path / "scaler"))

    with pytest.raises(ModelError, match="ends in StandardScalerModel, which is not a classifier"):
        load(spark, make_config, ("scaler", tmp_path / "scaler"))


def test_models_of_different_sizes_are_refused(spark, make_config, data, folder, tmp_path):
    """No message can suit both."""
    shorter = (
        data.select("label", F.expr("features"))
        .limit(0)
        .union(spark.createDataFrame([(float(i % 2), Vectors.dense([i, 1])) for i in range(9)], ["label", "features"]))
    )
    Pipeline(stages=[LogisticRegression()]).fit(shorter).save(str(tmp_path / "short"))

    with pytest.raises(ModelError, match=r"'b' .* was trained with 2 features, but the model 'a' has 4"):
        load(spark, make_config, ("a", folder / "lr"), ("b", tmp_path / "short"))


def test_model_of_another_size_than_the_messages_is_refused(spark, make_config, folder):
    """message.size is the contract with the producers."""
    with pytest.raises(ModelError, match="was trained with 4 features, but message.size says 110"):
        load(spark, make_config, ("a", folder / "lr"), extra=["message.size=110"])


@pytest.mark.parametrize("uri", ["models:/absent@champion", "models:/absent/1"])
def test_absent_registered_model_is_named(spark, make_config, uri):
    """With the registry's address and how to fill it."""
    with pytest.raises(ModelError, match=rf"{uri}: no such model in the registry at sqlite:.*streamscore train"):
        load(spark, make_config, ("lr", uri))


def test_malformed_registry_address_is_refused(spark, make_config):
    """Neither an alias nor a version."""
    with pytest.raises(ModelError, match="expected models:/name@alias or models:/name/version"):
        load(spark, make_config, ("lr", "models:/name"))
