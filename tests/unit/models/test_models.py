"""Models are found, checked by the gate, loaded, and checked against each other and the messages."""

import math
import random
import re
import runpy
import shutil
import sys
import time
from pathlib import Path

import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import (
    DecisionTreeClassifier,
    LinearSVC,
    LogisticRegression,
    NaiveBayes,
    OneVsRest,
)
from pyspark.ml.feature import (
    Binarizer,
    ElementwiseProduct,
    IndexToString,
    MaxAbsScaler,
    MinMaxScaler,
    StandardScaler,
    StringIndexer,
    VectorAssembler,
    VectorSizeHint,
    VectorSlicer,
)
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from streamscore import models
from streamscore.config import Model
from streamscore.errors import ModelError, ServerError
from streamscore.models import checks, mlflow_connection, registry
from streamscore.scoring.apply import apply_models


@pytest.fixture(scope="module")
def data(spark):
    """A hundred labelled vectors of four features."""
    rows = [(float(i % 3 == 0), float(i % 3), Vectors.dense([i % 7, i % 5, i % 3, i / 9])) for i in range(100)]
    return spark.createDataFrame(rows, ["label", "several", "features"]).coalesce(1).persist()


def save(data, folder, *stages):
    """Train and save a pipeline; return its folder."""
    Pipeline(stages=list(stages)).fit(data).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A folder with saved PipelineModels."""
    folder = tmp_path_factory.mktemp("models")
    save(data, folder / "lr", LogisticRegression(maxIter=5))
    save(data, folder / "svm", LinearSVC(maxIter=5))
    scaler = Pipeline(stages=[MaxAbsScaler(inputCol="features", outputCol="scaled")])
    learner = DecisionTreeClassifier(maxDepth=2)
    save(data, folder / "ovr", scaler, OneVsRest(classifier=learner, featuresCol="scaled", labelCol="several"))
    return folder


def load(spark, make_config, *models_, extra=(), trust="unsigned"):
    """Load models given as (name, folder)."""
    listed = ", ".join(f"{{name: {name}, uri: '{uri}', trust: {trust}}}" for name, uri in models_)
    return models.load(spark, make_config(f"models=[{listed}]", *extra))


def test_loaded_models_predict_as_they_did_when_they_were_saved(spark, make_config, data, folder):
    """A saved and loaded model gives the same predictions."""
    names = ("lr", "svm", "ovr")
    served = load(spark, make_config, *((name, folder / name) for name in names))
    together = apply_models(data, served).collect()
    for model in served[:2]:
        alone = PipelineModel.load(str(folder / model.name)).transform(data).collect()
        column = "probability" if model.name == "lr" else "rawPrediction"

        assert [row[model.prediction] for row in together] == [row["prediction"] for row in alone]
        assert [row[model.score] for row in together] == [row[column][1] for row in alone]
    assert [(model.size, model.classes) for model in served] == [(4, 2), (4, 2), (4, 3)]
    assert all(row["prediction_ovr"] == row["several"] for row in together)


def test_version_of_a_plain_folder_changes_with_its_content(spark, make_config, data, folder, tmp_path):
    """The version depends on the content alone, not on the location or on Hadoop's checksums."""
    shutil.copytree(folder / "lr", tmp_path / "copy", ignore=shutil.ignore_patterns(".*.crc", "_SUCCESS"))
    save(data, tmp_path / "other", LogisticRegression(maxIter=2))
    served = load(spark, make_config, ("a", folder / "lr"), ("b", tmp_path / "copy"), ("c", tmp_path / "other"))

    assert served[0].version == served[1].version
    assert served[0].version != served[2].version
    assert served[0].identity() == {
        "name": "a", "uri": str(folder / "lr"), "version": served[0].version, "trust": "unsigned",
    }  # fmt: skip


def test_address_with_the_scheme_of_local_files_is_a_local_folder(spark, make_config, folder):
    """A ``file:`` address is a local folder, also through links."""
    plain, addressed = load(spark, make_config, ("a", folder / "lr"), ("b", f"file://{folder / 'lr'}"))

    assert (addressed.origin, addressed.version) == (plain.origin, plain.version)


def test_linked_folder_is_the_folder_that_it_points_to(spark, make_config, folder, tmp_path):
    """A model's folder may itself be a link; only links inside it are refused."""
    (tmp_path / "current").symlink_to(folder / "lr")

    assert load(spark, make_config, ("lr", tmp_path / "current"))[0].origin == str(folder / "lr")


def test_absent_folder_is_named(spark, make_config):
    """The message names the folder and the remedy."""
    with pytest.raises(ModelError, match="the model 'lr': no folder at /nowhere"):
        load(spark, make_config, ("lr", "/nowhere"))


def test_folder_that_is_no_model_is_named(spark, make_config, tmp_path):
    """The message says what the folder lacks."""
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ModelError, match="metadata: expected one file part-00000 in there, found 0: not a PipelineMo"):
        load(spark, make_config, ("lr", tmp_path))


def test_folder_that_spark_cannot_load_is_named(spark, make_config, folder, tmp_path):
    """The message has Spark's reason without its stack trace."""
    shutil.copytree(folder / "lr", tmp_path / "lr")
    for part in (tmp_path / "lr").rglob("*.parquet"):
        pq.write_table(pa.table({"of": ["another model"]}), part)
        part.with_name(f".{part.name}.crc").unlink()
    with pytest.raises(ModelError, match="the model 'lr' at .* cannot be loaded and applied: ") as caught:
        load(spark, make_config, ("lr", tmp_path / "lr"))

    assert "\n" not in str(caught.value)


def test_unknown_file_system_is_named(spark, make_config):
    """The message is one line, without Hadoop's stack trace."""
    with pytest.raises(ModelError, match='cannot be loaded and applied: .*No FileSystem for scheme "nofs"'):
        load(spark, make_config, ("lr", "nofs://host/lr"))


def test_pipeline_that_ends_in_no_classifier_is_refused(spark, make_config, data, tmp_path):
    """A pipeline that ends in a scaler has no prediction."""
    save(data, tmp_path / "scaler", StandardScaler(inputCol="features", outputCol="scaled"))
    with pytest.raises(ModelError, match="ends in StandardScalerModel, which is not a classifier on a vector$"):
        load(spark, make_config, ("scaler", tmp_path / "scaler"))


def test_empty_pipeline_is_refused(spark, make_config, tmp_path):
    """An empty pipeline has no prediction."""
    PipelineModel([]).save(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="ends in no stage"):
        load(spark, make_config, ("empty", tmp_path / "empty"))


def test_classifier_that_does_not_say_what_it_predicts_is_refused(spark, make_config, data, tmp_path):
    """A classifier without a prediction column is refused."""
    save(data, tmp_path / "mute", LogisticRegression(maxIter=2, predictionCol=""))
    with pytest.raises(ModelError, match="ends in LogisticRegressionModel, which is not a classifier on a vector"):
        load(spark, make_config, ("mute", tmp_path / "mute"))


def test_pipeline_that_reads_the_label_is_refused(spark, make_config, data, tmp_path):
    """A pipeline must not use the label."""
    seen = data.select("features", "label")
    assembler = VectorAssembler(inputCols=["features", "label"], outputCol="both")
    save(seen, tmp_path / "cheat", assembler, LogisticRegression(maxIter=2, featuresCol="both"))
    with pytest.raises(
        ModelError, match="reads the columns features, label, but .* vector.* the prediction must not depend on it"
    ):
        load(spark, make_config, ("cheat", tmp_path / "cheat"))


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        (
            lambda: [
                ElementwiseProduct(scalingVec=Vectors.zeros(4), inputCol="features", outputCol="zeros"),
                NaiveBayes(modelType="bernoulli", featuresCol="zeros"),
            ],
            "NaiveBayesModel of the type bernoulli would stop the stream at a value other than 0 and 1",
        ),
        (
            lambda: [
                ElementwiseProduct(scalingVec=Vectors.zeros(4), inputCol="features", outputCol="zeros"),
                OneVsRest(classifier=NaiveBayes(modelType="bernoulli"), featuresCol="zeros"),
            ],
            "model_0/metadata/part-00000: NaiveBayesModel of the type bernoulli",
        ),
        (
            lambda: [
                MinMaxScaler(inputCol="features", outputCol="positive"),
                NaiveBayes(modelType="complement", featuresCol="positive"),
            ],
            "with negative numbers, 4 times -1 would .* the stage NaiveBayesModel fails .* column positive",
        ),
        (
            lambda: [
                MinMaxScaler(inputCol="features", outputCol="positive"),
                OneVsRest(classifier=NaiveBayes(), featuresCol="positive"),
            ],
            "with negative numbers, 4 times -1 would .* the stage OneVsRestModel fails .* column positive",
        ),
    ],
    ids=["bernoulli", "bernoulli in one-vs-rest", "bayes", "bayes in one-vs-rest"],
)
def test_pipeline_that_one_value_could_stop_is_refused(spark, make_config, data, tmp_path, stages, reason):
    """A pipeline that fails on some value could stop the stream."""
    save(data, tmp_path / "fragile", *stages())
    with pytest.raises(ModelError, match=reason):
        load(spark, make_config, ("fragile", tmp_path / "fragile"))


def test_pipeline_that_lets_no_negative_number_through_is_not_refused(spark, make_config, data, tmp_path):
    """The check tests a model's behaviour, not its class."""
    save(data, tmp_path / "bayes", Binarizer(inputCol="features", outputCol="set"), NaiveBayes(featuresCol="set"))

    assert load(spark, make_config, ("bayes", tmp_path / "bayes"))[0].classes == 2


@pytest.mark.parametrize(("score", "is_near"), [(0.25, True), (0.2500001, False), (math.nan, False), (None, False)])
def test_score_that_is_no_number_is_none_that_was_noted(score, is_near):
    """NaN and a missing score never match a recorded score."""
    assert checks._is_near(score, 0.25, 1e-12) is is_near


@pytest.fixture
def sizeless(data, tmp_path):
    """A model whose stages do not know the number of features."""
    slicer = VectorSlicer(indices=[0, 2], inputCol="features", outputCol="sliced")
    return save(data, tmp_path / "sizeless", slicer, LogisticRegression(maxIter=2, featuresCol="sliced"))


def test_size_that_no_stage_knows_is_asked_for(spark, make_config, sizeless):
    """The size comes from message.size or a manifest."""
    with pytest.raises(
        ModelError, match=r"none of its stages says how many features .*\(VectorSlicer, Logistic.*message.si"
    ):
        load(spark, make_config, ("sizeless", sizeless))

    assert load(spark, make_config, ("sizeless", sizeless), extra=["message.size=4"])[0].size == 4
    models.sign(spark, sizeless, [Vectors.dense(1, 2, 3, 4)], {}, {})
    assert load(spark, make_config, ("sizeless", sizeless), trust="manifest")[0].size == 4


def test_size_that_does_not_work_is_found_before_the_first_batch(spark, make_config, sizeless):
    """The model is tested with one vector at the start."""
    with pytest.raises(ModelError, match="the model 'sizeless' at .* cannot be loaded and applied"):
        load(spark, make_config, ("sizeless", sizeless), extra=["message.size=2"])


def test_size_hint_is_believed(spark, make_config, data, tmp_path):
    """A VectorSizeHint stage gives the size."""
    save(
        data,
        tmp_path / "hinted",
        VectorSizeHint(inputCol="features", size=4),
        VectorAssembler(inputCols=["features"], outputCol="same"),
        LogisticRegression(maxIter=2, featuresCol="same"),
    )

    assert load(spark, make_config, ("hinted", tmp_path / "hinted"))[0].size == 4


def test_models_of_different_sizes_are_refused(spark, make_config, data, folder, tmp_path):
    """Models with different sizes cannot share messages."""
    shorter = (
        data.select("label", F.expr("features"))
        .limit(0)
        .union(spark.createDataFrame([(float(i % 2), Vectors.dense([i, 1])) for i in range(9)], ["label", "features"]))
    )
    save(shorter, tmp_path / "short", LogisticRegression())

    with pytest.raises(ModelError, match=r"'b' .* was trained with 2 features, but the model 'a' has 4"):
        load(spark, make_config, ("a", folder / "lr"), ("b", tmp_path / "short"))


def test_model_of_another_size_than_the_messages_is_refused(spark, make_config, folder):
    """A model must fit message.size."""
    with pytest.raises(ModelError, match="was trained with 4 features, but message.size says 110"):
        load(spark, make_config, ("a", folder / "lr"), extra=["message.size=110"])


@pytest.mark.parametrize("uri", ["models:/absent@champion", "models:/absent/1", f"runs:/{'0' * 32}/lr"])
def test_absent_registered_model_is_named(spark, make_config, uri):
    """The message has the registry's address and the way to fill it."""
    with pytest.raises(ModelError, match=rf"{uri}: no such model in the registry at sqlite:.*streamscore train"):
        load(spark, make_config, ("lr", uri))


def test_one_registry_s_address_does_not_stay_for_the_next(spark, make_config, tmp_path, monkeypatch):
    """The address that MLflow writes into the environment does not affect the next configuration."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("first", "second"):
        with pytest.raises(ModelError, match=f"in the registry at sqlite:.*/{name}/mlflow/"):
            load(spark, make_config, ("lr", "models:/absent/1"), extra=[f"state_dir={tmp_path / name}"])


@pytest.mark.parametrize("uri", ["models:/name", "runs:/abc/lr"])
def test_malformed_registry_address_is_refused(spark, make_config, uri):
    """An address without an alias, a version or a valid run id is refused."""
    with pytest.raises(ModelError, match="expected models:/name@alias, models:/name/version, .* or runs:/run/path"):
        load(spark, make_config, ("lr", uri))


@pytest.mark.parametrize(
    ("uri", "alias"),
    [
        ("models:/lr@champion", True),
        ("models:/lr/3", False),
        ("abfss://container@account.dfs.core.windows.net/models/lr", False),
        ("/home/ada@corp/lr", False),
    ],
)
def test_only_the_registry_has_aliases(uri, alias):
    """An at sign outside a registry address is part of a name."""
    assert registry.is_alias(uri) == alias


def test_database_that_does_not_open_is_told_in_one_line(make_config, tmp_path):
    """An unusable tracking database fails quickly, without a stack trace."""
    config = make_config(f"mlflow.tracking_uri=sqlite:///{tmp_path}")
    began = time.monotonic()

    with pytest.raises(ServerError, match="MLflow at sqlite:///.*unable to open database file"):
        registry.resolve(config, "models:/lr@champion")
    assert time.monotonic() - began < 20


def test_registry_needs_no_database_s_packages(make_config, monkeypatch):
    """The registry works with mlflow-skinny, as on Databricks, which lacks the database packages."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)

    with pytest.raises(ServerError, match="MLflow at http://127.0.0.1:1: "):
        registry.resolve(make_config("mlflow.tracking_uri=http://127.0.0.1:1"), "models:/lr@champion")


def test_model_in_a_relative_folder_is_signed(spark, small_models, tmp_path, monkeypatch):
    """A relative path is accepted."""
    shutil.copytree(small_models["lr"], tmp_path / "lr")
    monkeypatch.chdir(tmp_path)

    assert models.sign(spark, Path("lr"), [oracle.vector(random.Random(1))], {}, {}).is_file()


@pytest.mark.filterwarnings("ignore")  # MLflow's warnings about its own packages
def test_recipes_of_the_models_document_make_models_that_are_served(
    root, spark, data, make_config, tmp_path, monkeypatch
):
    """The recipes sign a pipeline as a folder, and register one with its manifest."""
    fitted = Pipeline(
        stages=[
            StringIndexer(inputCol="label", outputCol="indexed", stringOrderType="alphabetAsc"),
            LogisticRegression(labelCol="indexed", maxIter=2),
            IndexToString(inputCol="prediction", outputCol="text", labels=["no", "yes"]),
        ]
    ).fit(data)
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DFS_TMP", str(tmp_path / "mlflow"))
    with mlflow_connection.connected(make_config()) as mlflow:
        mlflow.set_experiment("recipes")  # another test's training may have selected one that this store lacks
    recipe = "\n".join(blocks).replace("/models/forest", f"{tmp_path}/forest")
    (tmp_path / "recipe.py").write_text(recipe)
    given = {"spark": spark, "test": data, "model": fitted}
    runpy.run_path(str(tmp_path / "recipe.py"), given)

    assert len(blocks) == 2
    for uri, version in ((f"{tmp_path}/forest", None), ("models:/click-forest@champion", "1")):
        served = models.load_one(spark, make_config(), Model(name="forest", uri=uri))
        assert version in {None, served.version}
        assert (served.size, served.classes) == (4, 2)
    assert registry.resolve(make_config(), "models:/click-forest@champion").manifest_sha256
