"""train_models: from rows to registered models and one parquet file."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.linalg import VectorUDT

from streamscore import __version__, models, train_models
from streamscore.data import criteo
from streamscore.errors import InputError
from streamscore.models import mlflow_connection, registry


@pytest.fixture
def mlflow(trained):
    """The mlflow module, temporarily set to the registry of the training."""
    import mlflow

    mlflow.set_tracking_uri(mlflow_connection.tracking_uri(trained[0]))
    yield mlflow
    mlflow.set_tracking_uri(None)


def test_figures_are_honest(trained):
    """The figures lie between guessing and the best possible model, and include the baseline."""
    _, figures = trained

    assert figures["train_rows"] == 42_000
    assert figures["test_rows"] == 20_000
    for name in ("lr", "svm"):
        assert 0.85 < figures[name]["auc_of_best"] < 1
        assert figures[name]["log_loss"] > figures["best_possible"]["log_loss"]
        assert figures[name]["auc"] < figures["best_possible"]["auc"]
    assert figures["lr"]["accuracy"] > figures["majority_rate"] == pytest.approx(0.744, abs=0.02)
    assert figures["svm"]["log_loss"] < figures["lr"]["log_loss"] + 0.03


def test_test_set_is_one_file_in_row_order(spark, trained):
    """The file has the last rows of the data, with label and vector only."""
    settings, figures = trained
    path = Path(figures["test_set"])
    rows = spark.read.parquet(str(path))
    data = next((settings.state_dir / "data").glob("synthetic-62000-*.tsv"))
    labels = [float(line[0]) for line in data.read_text().splitlines()[-20_000:]]

    assert path.is_file()
    assert {entry.name for entry in path.parent.iterdir()} == {"metrics.json", "test_set.parquet"}
    assert rows.columns == ["label", "features"]
    assert isinstance(rows.schema["features"].dataType, VectorUDT)
    assert [row["label"] for row in rows.collect()] == labels


def test_models_are_registered_with_alias_and_load_natively(spark, trained):
    """The classifiers read the vector; the feature pipeline is a separate model in the same run."""
    settings, figures = trained
    rows = spark.read.parquet(figures["test_set"]).limit(10)
    for model in settings.models:
        registered = registry.resolve(settings, model.uri)
        assert registered.version == figures["registered"][registered.name]
        with registry.downloaded(settings, registered) as folder:
            pipeline = PipelineModel.load(f"{folder}/sparkml")
        stages = {"lr": ["LogisticRegressionModel"], "svm": ["LinearSVCModel", "LogisticRegressionModel"]}
        assert [type(stage).__name__ for stage in pipeline.stages] == stages[model.name]
        assert pipeline.transform(rows).count() == 10


def test_run_holds_parameters_metrics_and_the_feature_pipeline(spark, trained, mlflow):
    """The run has all data to assess a version."""
    settings, figures = trained
    client = mlflow.MlflowClient()
    version = client.get_model_version("streamscore-lr", figures["registered"]["streamscore-lr"])
    run = client.get_run(version.run_id)
    folder = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path="features")
    features = PipelineModel.load(f"{folder}/sparkml")
    data = criteo.read(spark, str(next((settings.state_dir / "data").glob("synthetic-62000-*.tsv")))).limit(5)

    assert run.data.metrics["lr.auc"] == figures["lr"]["auc"]
    assert run.data.params["hash_size"] == "16384"
    assert features.transform(data).select("features").first()[0].size == 16_384


def test_registered_models_pass_the_gate_with_a_manifest(spark, trained):
    """The stream accepts the training's models without further configuration."""
    settings, figures = trained
    data = next((settings.state_dir / "data").glob("synthetic-62000-*.tsv"))
    served = models.load(spark, settings)
    _, found = models.inspect(settings, settings.models[0])

    assert [(model.name, model.size, model.classes) for model in served] == [("lr", 16_384, 2), ("svm", 16_384, 2)]
    assert found.inner == "sparkml/"
    assert found.manifest.metrics == figures["lr"]
    assert found.manifest.origin["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert len(found.manifest.golden) == train_models.GOLDEN_ROWS
    assert not list((settings.state_dir / "tmp").glob("model-*")), "what was downloaded is gone"


def test_version_tells_where_it_comes_from(trained, root, mlflow):
    """Version and run have provenance tags, under names that Unity Catalog accepts."""
    settings, figures = trained
    client = mlflow.MlflowClient()
    version = client.get_model_version("streamscore-svm", figures["registered"]["streamscore-svm"])
    _, found = models.inspect(settings, settings.models[1])
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)

    assert version.tags["git_commit"] == head.stdout.strip()
    assert version.tags["data_sha256"] == found.manifest.origin["data_sha256"]
    assert version.tags["manifest_sha256"] == found.manifest_sha256
    assert version.tags["streamscore_version"] == __version__
    assert all(name.isidentifier() for name in version.tags)
    assert client.get_run(version.run_id).data.tags["git_commit"] == version.tags["git_commit"]


def test_signature_says_vector(trained, mlflow):
    """The signature has MLflow's type for Spark vectors, and the feature pipeline's raw columns by name."""
    from mlflow.types.schema import SparkMLVector

    _, figures = trained
    run = mlflow.MlflowClient().get_model_version("streamscore-lr", figures["registered"]["streamscore-lr"]).run_id
    lr = mlflow.models.get_model_info(f"runs:/{run}/lr").signature
    features = mlflow.models.get_model_info(f"runs:/{run}/features").signature

    assert [(column.name, column.type) for column in lr.inputs] == [("features", SparkMLVector())]
    assert lr.outputs.input_names() == ["prediction"]
    assert features.inputs.input_names() == [*criteo.INTEGERS, *criteo.CATEGORIES]
    assert [(column.name, column.type) for column in features.outputs] == [("features", SparkMLVector())]


def test_input_example_runs_through_mlflow_s_own_door(spark, trained, mlflow):
    """MLflow's own model interface accepts the input example."""
    settings, _ = trained
    loaded = mlflow.pyfunc.load_model(settings.models[0].uri)

    assert loaded.predict(loaded.input_example)[0] in {0.0, 1.0}


def test_criteo_s_own_file_is_trained_on_and_balanced(spark, own, trained, tmp_path):
    """With balancing both sets have as many rows with a click as without."""
    settings, _ = trained
    data = next((settings.state_dir / "data").glob("synthetic-62000-*.tsv"))
    with data.open() as lines:
        (tmp_path / "train.txt").write_text("".join(line for line, _ in zip(lines, range(6000), strict=False)))
    config = own(
        "train.data=criteo", f"train.path={tmp_path / 'train.txt'}", "train.test_rows=1000", "train.balance=true",
        "mlflow.registered_names.lr=balanced-lr", "mlflow.registered_names.svm=balanced-svm",
    )  # fmt: skip
    train_models.check(config)
    figures = train_models.run(spark, config)

    assert figures["click_rate"] == pytest.approx(0.5, abs=0.08)
    assert "best_possible" not in figures
    assert figures["registered"] == {"balanced-lr": "1", "balanced-svm": "1"}
    assert json.loads((tmp_path / "train" / "metrics.json").read_text()) == figures


def test_absent_criteo_file_says_where_it_comes_from(own):
    """The error names the source of the file, which may not be in the repository."""
    with pytest.raises(InputError, match="no file at /nowhere/train.txt. Criteo's data are brought by their user"):
        train_models.check(own("train.data=criteo", "train.path=/nowhere/train.txt"))


def test_place_that_spark_cannot_reach_is_told_in_one_line(spark, make_config):
    """The one-line error has Java's reason, such as a missing connector or wrong credentials."""
    with pytest.raises(InputError, match="train.path: nosuch://bucket/x cannot be read: .*nosuch") as caught:
        train_models.read(spark, make_config(), "nosuch://bucket/x")

    assert len(str(caught.value).splitlines()) == 1


def test_another_file_under_the_same_name_is_another_training(own, tmp_path):
    """The fingerprint changes with the file's content, so that the demo does not reuse the models."""
    file = tmp_path / "train.txt"
    file.write_text("one")
    config = own("train.data=criteo", f"train.path={file}")
    before = train_models.fingerprint(config)
    assert train_models.fingerprint(config) == before
    file.write_text("another")

    assert train_models.fingerprint(config) != before
