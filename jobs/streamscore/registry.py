"""The MLflow tracking server and model registry: the only module that talks to MLflow."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streamscore.config import Config
from streamscore.errors import ModelError, ServerError

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel

_URI = re.compile(r"^models:/(?P<name>[^@/]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))$")


class Registered(NamedTuple):
    """A version of a registered model."""

    name: str
    version: str


def tracking_uri(config: Config) -> str:
    """Return the tracking server's address: configured, from the environment, or a SQLite file of our own."""
    configured = config.mlflow.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return configured or f"sqlite:///{config.state_dir / 'mlflow' / 'mlflow.db'}"


def log_training(
    config: Config,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    models: Mapping[str, PipelineModel],
) -> list[Registered]:
    """Log a training run, register those of its models that have a registered name and set their alias.

    Args:
        config: the configuration.
        parameters: what the run was told.
        metrics: what came out.
        models: the models by their name in the run; those named in ``mlflow.registered_names`` are registered.

    Returns:
        The new versions.

    Raises:
        ServerError: MLflow cannot be reached or refuses.
    """
    names = config.mlflow.registered_names.model_dump()
    requirements = [f"pyspark=={_pyspark_version()}"]
    with _mlflow(config) as mlflow:
        _select_experiment(mlflow, config)
        registered = []
        # MLflow prints each new version past its own logger.
        with mlflow.start_run(run_name="train_models"), redirect_stderr(io.StringIO()):
            mlflow.log_params(dict(parameters))
            mlflow.log_metrics(dict(metrics))
            for name, model in models.items():
                mlflow.spark.log_model(
                    model,
                    artifact_path=name,
                    registered_model_name=names.get(name),
                    pip_requirements=requirements,
                    dfs_tmpdir=_shared_folder(config),
                )
        client = mlflow.MlflowClient()
        for name in models:
            if name in names:
                versions = client.search_model_versions(f"name = '{names[name]}'")
                newest = max(versions, key=lambda version: int(version.version))
                client.set_registered_model_alias(names[name], config.mlflow.alias, newest.version)
                registered.append(Registered(names[name], str(newest.version)))
        return registered


def resolve(config: Config, uri: str) -> Registered:
    """Return the version that a ``models:/name@alias`` or ``models:/name/version`` address means now.

    Raises:
        ModelError: the address is not of that form, or there is no such model.
        ServerError: MLflow cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    match = _URI.match(uri)
    if match is None:
        raise ModelError(f"{uri}: expected models:/name@alias or models:/name/version")
    with _mlflow(config) as mlflow:
        client = mlflow.MlflowClient()
        try:
            if match["alias"]:
                found = client.get_model_version_by_alias(match["name"], match["alias"])
            else:
                found = client.get_model_version(match["name"], match["version"])
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise ModelError(
                    f"{uri}: no such model in the registry at {_shown(tracking_uri(config))}. `streamscore train` "
                    "makes the two default ones; models.N.uri takes another address or a plain path"
                ) from None
            raise
        return Registered(found.name, str(found.version))


def download(config: Config, model: Registered) -> Path:
    """Return a local folder with the files of a model version.

    Raises:
        ServerError: MLflow or its artifact store cannot be reached.
    """
    with _mlflow(config) as mlflow:
        return Path(mlflow.artifacts.download_artifacts(f"models:/{model.name}/{model.version}"))


def exists(config: Config, uri: str) -> bool:
    """Tell whether a registry address means a model now."""
    try:
        resolve(config, uri)
    except ModelError:
        return False
    return True


@contextmanager
def _mlflow(config: Config) -> Iterator[Any]:
    """Give the mlflow module, set up for the configured server and quiet, and translate its errors."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else an absent server is noticed after minutes
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow
    import mlflow.spark
    from mlflow.exceptions import MlflowException

    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uri = tracking_uri(config)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    if uri == "databricks":
        mlflow.set_registry_uri("databricks-uc")
    try:
        yield mlflow
    except MlflowException as error:
        raise ServerError(f"MLflow at {_shown(uri)}: {error.message.splitlines()[0]}") from None


def _select_experiment(mlflow: Any, config: Config) -> None:
    """Choose the experiment; with the SQLite store its artifacts stay under the state folder too."""
    name = config.mlflow.experiment
    if mlflow.get_experiment_by_name(name) is None and tracking_uri(config).startswith("sqlite:"):
        folder = config.state_dir / "mlflow" / "artifacts"
        mlflow.create_experiment(name, artifact_location=folder.as_uri())
    mlflow.set_experiment(name)


def _shared_folder(config: Config) -> str:
    return os.environ.get("MLFLOW_DFS_TMP") or str(config.state_dir / "tmp" / "mlflow")


def _shown(uri: str) -> str:
    """Return an address without the password that it may carry."""
    return re.sub(r"//[^@/]*@", "//***@", uri)


def _pyspark_version() -> str:
    import pyspark

    return str(pyspark.__version__)
