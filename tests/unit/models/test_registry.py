"""The registry's address belongs to one configuration at a time, and never comes from the environment by accident."""

import contextlib
import os
import threading
import uuid
import warnings

import pytest

from streamscore import config as configuration
from streamscore import models
from streamscore.cli import inventory
from streamscore.config import Model
from streamscore.errors import ModelError, ServerError
from streamscore.models import mlflow_connection, registry


def test_registry_that_the_environment_names_is_not_that_of_our_own_store(make_config, tmp_path, monkeypatch):
    """With our own store the environment's registry is ignored, so that the demo moves no shared alias."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    config = make_config(f"state_dir={tmp_path}")
    with mlflow_connection.connected(config) as mlflow:
        assert mlflow.get_registry_uri() == mlflow_connection.tracking_uri(config)

    assert os.environ["MLFLOW_REGISTRY_URI"] == mlflow.get_registry_uri() == "http://127.0.0.1:1"
    elsewhere = make_config(f"state_dir={tmp_path}", f"mlflow.tracking_uri=sqlite:///{tmp_path}/other.db")
    with mlflow_connection.connected(elsewhere) as mlflow:
        assert mlflow.get_registry_uri() == "http://127.0.0.1:1"


def test_one_registry_s_address_is_not_changed_by_another_thread(make_config, tmp_path, monkeypatch):
    """A poll of an alias does not change MLflow's global address while a run is logged."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, second = (make_config(f"state_dir={tmp_path / name}") for name in ("first", "second"))

    def look():
        with contextlib.suppress(ModelError):
            registry.resolve(second, "models:/absent/1")

    other = threading.Thread(target=look)
    with mlflow_connection.connected(first) as mlflow:
        other.start()
        other.join(0.5)

        assert other.is_alive()
        assert mlflow.get_tracking_uri() == mlflow_connection.tracking_uri(first)
    other.join(60)

    assert not other.is_alive()


@pytest.fixture(scope="module")
def own_registry(addresses, tmp_path_factory):
    """A configuration with a registry of its own, and a client of it."""
    config = configuration.load("local", [*addresses, f"state_dir={tmp_path_factory.mktemp('registry')}"])
    with mlflow_connection.connected(config) as mlflow:
        return config, mlflow.MlflowClient(mlflow_connection.tracking_uri(config))


@pytest.fixture
def store(own_registry):
    """The configuration, the client, and the address of a new model without versions."""
    config, client = own_registry
    name = f"clicks-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    return config, client, name


def saved(folder, flavour):
    """Make a folder that MLflow describes as a model of one flavour, and return its address."""
    folder.mkdir()
    described = f"artifact_path: model\nflavors:\n  {flavour}:\n    data: x\n  python_function:\n    env:\n      a: b\n"
    (folder / "MLmodel").write_text(described)
    return folder.as_uri()


def test_stage_and_latest_are_what_mlflow_takes_them_for(store, tmp_path):
    """The latest version of all, and the latest one in a stage, whatever the letters' case."""
    config, client, name = store
    for number in range(4):
        client.create_model_version(name, saved(tmp_path / str(number), "spark"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for version in (1, 2):
            client.transition_model_version_stage(name, str(version), "Production")

    versions = {suffix: registry.resolve(config, f"models:/{name}/{suffix}").version for suffix in SUFFIXES}
    assert versions == SUFFIXES
    assert [registry.is_alias(f"models:/{name}/{suffix}") for suffix in SUFFIXES] == [True, True, True, True, False]
    with pytest.raises(ModelError, match=f"models:/{name}/Staging: the model '{name}' has no version in the stage"):
        registry.resolve(config, f"models:/{name}/Staging")
    with pytest.raises(ModelError, match=f"models:/{name}/champion: .*Invalid Model Version stage: champion"):
        registry.resolve(config, f"models:/{name}/champion")


SUFFIXES = {"latest": "4", "Latest": "4", "Production": "2", "production": "2", "3": "3"}


def test_version_of_an_alias_is_known_by_the_model_s_name():
    """The versions that a run recorded are those of the model, whatever form the alias has."""
    for alias in ("models:/clicks@champion", "models:/clicks/Production", "models:/clicks/latest"):
        assert registry.is_version_of("models:/clicks/3", alias)
        assert not registry.is_version_of("models:/views/3", alias)
        assert not registry.is_version_of(alias, alias)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dbfs:/databricks/mlflow/1/model", r"its files \(dbfs:/databricks\S+\) cannot be fetched from here: .+"),
        (
            "file:///home/somebody/mlruns/1/model",
            r"its files \(file:///home\S+\) cannot be fetched from here: there are none",
        ),
        ("hdfs://namenode:8020/models/1", r"its files \(hdfs:\S+\) cannot be fetched from here: .+"),
        (
            "s3://bucket/1/model",
            r"its files .* are on S3, whose client is not installed: pip install boto3 .*the extra s3 ",
        ),
        (
            "gs://bucket/1/model",
            r"its files .* are on Google Cloud Storage, .*google-cloud-storage .*the extra gcs ",
        ),
        (
            "wasbs://c@a.blob.core.windows.net/1",
            r"its files .* are on Azure, .*azure-storage-blob .*the extra azure ",
        ),
        (
            "abfss://c@a.dfs.core.windows.net/1",
            r"its files .* are on Azure, .*azure-storage-file-datalake .*the extra azure ",
        ),
    ],
    ids=lambda text: text.partition(":")[0],
)
def test_files_out_of_reach_end_in_one_line(store, source, message):
    """The line has the place, MLflow's reason or the missing package; a version beside it is listed all the same."""
    config, client, name = store
    client.create_model_version(name, source)

    with pytest.raises(ModelError, match=f"^models:/{name}/1: {message}") as refused:
        models.inspect(config, Model(name="clicks", uri=f"models:/{name}/latest"))
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 4


def test_list_goes_on_with_the_models_after_one_out_of_reach(store, tmp_path):
    """Each model has its own line."""
    config, client, name = store
    client.create_model_version(name, "dbfs:/databricks/mlflow/1")
    client.create_model_version(name, saved(tmp_path / "sklearn", "sklearn"))
    both = [Model(name=f"m{number}", uri=f"models:/{name}/{number}") for number in (1, 2)]

    first, second = inventory.entries(config.model_copy(update={"models": both}))
    assert "cannot be fetched from here" in first.note
    message = f"models:/{name}/2 is no Spark model: MLflow names the flavours sklearn, python_function"
    assert second.note.startswith(message)


@pytest.mark.parametrize("uri", ["models:/clicks/1", "models:/clicks@champion"])
def test_refused_file_store_is_told_in_mlflow_s_words(make_config, tmp_path, monkeypatch, uri):
    """MLflow says how to go on: its reason is not taken for a missing model."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = make_config(f"state_dir={tmp_path}", f"mlflow.tracking_uri={(tmp_path / 'mlruns').as_uri()}")

    with pytest.raises(ServerError, match=r"in maintenance mode .*MLFLOW_ALLOW_FILE_STORE=true"):
        registry.resolve(config, uri)
