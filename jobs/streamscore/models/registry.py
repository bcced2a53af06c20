"""Access to the MLflow tracking server and model registry; no other module uses MLflow."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.config import Config
from streamscore.errors import ModelError, ServerError
from streamscore.models import artifacts
from streamscore.models.gate.signature import SIGNATURE

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from streamscore.config.fields import Field
    from streamscore.models.checks import Example

_URI = re.compile(r"^models:/(?P<name>[^@/]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))$")
_VERSION: Final = re.compile("[0-9]+")
_LATEST: Final = "latest"
_RUN_URI = re.compile(r"^runs:/(?P<run>[0-9a-f]{32})/(?P<path>.+)$")
MODELS: Final = "models:/"
"""Prefix of the address of a registered version or alias."""
SCHEMES: Final = (MODELS, "runs:/")
"""Prefixes of the address of a model in MLflow."""

_TRACKING_URI: Final = "MLFLOW_TRACKING_URI"
_REGISTRY_URI: Final = "MLFLOW_REGISTRY_URI"

_address_in_use = threading.RLock()
"""Guards MLflow's tracking address, which is global to the process."""

MANIFEST_TAG: Final = "manifest_sha256"
"""Tag of a version with its manifest's digest. No tag's name contains a dot, which Unity Catalog refuses."""


class Registered(NamedTuple):
    """One version of a model, with an address that always resolves to this version."""

    name: str
    version: str
    uri: str
    manifest_sha256: str | None = None
    """The sha256 of the registered manifest; None if the version was registered without a manifest."""
    source: str = ""
    """Where the version was registered from, as MLflow notes it; empty for a model of a run."""


@dataclass(frozen=True)
class Trained:
    """A model to log, with the data for its manifest if it is registered too."""

    pipeline: PipelineModel
    example: DataFrame
    """One row with the pipeline's input columns."""
    output: str
    """The pipeline's output column."""
    registered_as: str | None = None
    """Name in the registry; None for a model that is only logged."""
    golden: Sequence[Example] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    fields: Sequence[Field] = ()
    """The raw columns; empty for a model on a vector."""
    margin_scale: float | None = None
    """Scale of the margin (half its standard deviation on the test set), for a model without probabilities."""


def import_ahead(config: Config) -> None:
    """Import MLflow, which takes seconds, in a background thread if a model is in the registry."""
    if any(model.uri.startswith(SCHEMES) for model in config.models):
        threading.Thread(target=_imported, daemon=True).start()


def tracking_uri(config: Config) -> str:
    """Return the tracking server's address: configured, from the environment, or our own SQLite file."""
    return config.mlflow.tracking_uri or os.environ.get(_TRACKING_URI) or _own_uri(config)


def _own_uri(config: Config) -> str:
    return f"sqlite:///{config.state_dir / 'mlflow' / 'mlflow.db'}"


def log_training(
    config: Config,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    models: Mapping[str, Trained],
    sign: Callable[[Trained, Path], Path],
) -> list[Registered]:
    """Log a training run, register the models with a name in the registry, and set their alias.

    Args:
        config: the configuration.
        parameters: parameters of the run.
        metrics: metrics of the run.
        tags: tags of the run and of every version, such as the git commit.
        models: the models by their name in the run.
        sign: writes the manifest of a model into its logged folder, and returns the manifest's path.

    Returns:
        The new versions.

    Raises:
        ServerError: MLflow cannot be reached or refuses.
    """
    registered = []
    # MLflow prints each new version without its logger.
    with _mlflow(config) as mlflow, redirect_stderr(io.StringIO()):
        _select_experiment(mlflow, config)
        with mlflow.start_run(run_name="train_models") as run:
            mlflow.log_params(dict(parameters))
            mlflow.log_metrics(dict(metrics))
            mlflow.set_tags(dict(tags))
            for name, model in models.items():
                _log(mlflow, config, name, model)
                if model.registered_as is not None:
                    logged = Registered(name, run.info.run_id, f"runs:/{run.info.run_id}/{name}")
                    version_tags = {**tags, MANIFEST_TAG: _sign(mlflow, config, logged, model, sign)}
                    made = mlflow.register_model(logged.uri, model.registered_as, tags=version_tags)
                    registered.append(_registered(made))
        for version in registered:
            _move_alias(mlflow.MlflowClient(), version.name, config.mlflow.alias, version.version)
    return registered


def is_alias(uri: str) -> bool:
    """Return whether an address may move to another version: it has an alias or a stage, or is the latest version."""
    match = _URI.match(uri)
    return match is not None and not (match["version"] and _VERSION.fullmatch(match["version"]))


def is_version_of(uri: str, alias: str) -> bool:
    """Return whether an address is that of a version of the model of another address."""
    match, other = _URI.match(uri), _URI.match(alias)
    return match is not None and other is not None and match["name"] == other["name"] and not is_alias(uri)


def resolve(config: Config, uri: str) -> Registered:
    """Resolve an address to a version, as MLflow does.

    Args:
        config: the configuration, with the registry's address.
        uri: ``models:/name@alias``, ``models:/name/version``, ``models:/name/latest``, ``models:/name/Stage`` or
            ``runs:/run/path``.

    Raises:
        ModelError: the address has another form, or the model does not exist.
        ServerError: MLflow cannot be reached.
    """
    match, run = _URI.match(uri), _RUN_URI.match(uri)
    with _mlflow(config) as mlflow:
        client = mlflow.MlflowClient()
        with _absent_is_model_error(config, uri):
            if run is not None:
                client.get_run(run["run"])
                return Registered(run["path"], run["run"][:12], uri)
            if match is None:
                raise ModelError(
                    f"{uri}: expected models:/name@alias, models:/name/version, models:/name/latest, "
                    "models:/name/Stage or runs:/run/path"
                )
            if match["alias"]:
                return _registered(client.get_model_version_by_alias(match["name"], match["alias"]))
            if _VERSION.fullmatch(match["version"]):
                return _registered(client.get_model_version(match["name"], match["version"]))
            return _latest(client, uri, match["name"], match["version"])


def _latest(client: Any, uri: str, name: str, suffix: str) -> Registered:
    """Return the latest version of a model, or the latest one in a stage.

    Raises:
        ModelError: there is no such version.
    """
    stages = None if suffix.lower() == _LATEST else [suffix]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated in favour of aliases
        found = client.get_latest_versions(name, stages)
    if not found:
        missing = "no version" if stages is None else f"no version in the stage {suffix!r}"
        raise ModelError(f"{uri}: the model {name!r} has {missing}; an alias has the form models:/{name}@alias")
    return _registered(max(found, key=lambda version: int(version.version)))


@contextmanager
def downloaded(config: Config, model: Registered) -> Iterator[Path]:
    """Download a model into a private temporary folder and yield it; the folder is deleted when the context ends.

    Raises:
        ModelError: the run has no such model, its files are out of reach, or it has no Spark flavour.
        ServerError: MLflow or its artifact store cannot be reached.
    """
    # A cluster's executors read the folder too, so it is in the state folder, which is in a volume on Databricks.
    scratch = config.state_dir / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="model-", dir=scratch) as folder:
        with _mlflow(config) as mlflow, artifacts.fetching(model.uri, lambda: _place(mlflow, model)):
            path = Path(mlflow.artifacts.download_artifacts(model.uri, dst_path=folder))
            artifacts.require_files(path)
        artifacts.require_spark(path, model.uri)
        yield path


def _place(mlflow: Any, model: Registered) -> str:
    """Return the address of a model's files, as far as MLflow tells it."""
    if not model.source.startswith(MODELS):
        return model.source
    with suppress(Exception):  # it is for a message about another fault
        return str(mlflow.MlflowClient().get_logged_model(model.source.removeprefix(MODELS)).artifact_location)
    return ""


def exists(config: Config, uri: str) -> bool:
    """Return whether a registry address resolves to a model."""
    try:
        resolve(config, uri)
    except ModelError:
        return False
    return True


def version_of(uri: str, version: str) -> str:
    """Return the address of a version of the model of a ``models:/name@alias`` address.

    Raises:
        ModelError: the address has no alias.
    """
    return f"models:/{_aliased(uri)[0]}/{version}"


def promote(config: Config, uri: str, version: str) -> tuple[str | None, str]:
    """Move the alias of a ``models:/name@alias`` address to a version.

    Args:
        config: the configuration, with the registry's address.
        uri: the address with the alias.
        version: the version to move the alias to.

    Returns:
        The alias's previous version, if any, and its new one.

    Raises:
        ModelError: the address has no alias, or the version does not exist.
        ServerError: MLflow cannot be reached.
    """
    name, alias = _aliased(uri)
    with _mlflow(config) as mlflow, _absent_is_model_error(config, f"models:/{name}/{version}"):
        client = mlflow.MlflowClient()
        client.get_model_version(name, version)
        return _move_alias(client, name, alias, version), version


def rollback(config: Config, uri: str) -> tuple[str, str]:
    """Move the alias of a ``models:/name@alias`` address back to its previous version.

    `streamscore` records that version when it moves an alias; without a record it is the next lower number.

    Returns:
        The version before the rollback, and the version after it.

    Raises:
        ModelError: the address has no alias, or there is no version to go back to.
        ServerError: MLflow cannot be reached.
    """
    name, alias = _aliased(uri)
    with _mlflow(config) as mlflow, _absent_is_model_error(config, uri):
        client = mlflow.MlflowClient()
        present = client.get_model_version_by_alias(name, alias)
        others = {str(found.version) for found in client.search_model_versions(f"name = '{name}'")}
        lower = sorted(int(other) for other in others if int(other) < int(present.version))
        recorded = present.tags.get(_before(alias))
        if recorded not in others and not lower:
            raise ModelError(f"{uri} is version {present.version}, and there is none before it")
        target = recorded if recorded in others else str(lower[-1])
        client.set_registered_model_alias(name, alias, target)
        return str(present.version), target


def _imported() -> Any:
    """Return the mlflow module, imported with the environment variables that it reads at import."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Otherwise a server that is absent or does not answer is noticed only after many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow
    import mlflow.spark

    return mlflow


def _faults(uri: str) -> tuple[type[Exception], ...]:
    """Return the exceptions of an unreachable or refusing tracking server; MLflow does not wrap a database's errors."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.db_types import DATABASE_ENGINES

    # For a database only, because mlflow-skinny, as on Databricks, comes without the packages for databases.
    if re.split("[:+]", uri)[0] not in DATABASE_ENGINES:
        return (MlflowException,)
    import mlflow.store.db.utils
    from sqlalchemy.exc import SQLAlchemyError

    mlflow.store.db.utils.MAX_RETRY_COUNT = 4  # the default retries an unreachable database silently for 100 s
    return (MlflowException, SQLAlchemyError)


@contextmanager
def _mlflow(config: Config) -> Iterator[Any]:
    """Yield the mlflow module, configured and with quiet loggers; re-raise its errors as our own."""
    mlflow = _imported()
    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uri = tracking_uri(config)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    faults = _faults(uri)
    with _address_in_use:
        before = {name: os.environ.get(name) for name in (_TRACKING_URI, _REGISTRY_URI)}
        mlflow.set_tracking_uri(uri)
        if uri in {"databricks", _own_uri(config)}:  # ignores the environment's registry
            mlflow.set_registry_uri("databricks-uc" if uri == "databricks" else uri)
        try:
            yield mlflow
        except ImportError as error:  # of a database's client
            raise ServerError(
                f"MLflow at {uri}: {artifacts.one_line(error)}: install the client of its database"
            ) from None
        except faults as error:
            raise ServerError(f"MLflow at {uri}: {artifacts.one_line(error)}") from None
        finally:
            # MLflow sets the environment variable too, which the next configuration would read. None is its default.
            mlflow.set_tracking_uri(before[_TRACKING_URI])
            mlflow.set_registry_uri(None)
            os.environ.pop(_REGISTRY_URI, None)
            os.environ |= {name: value for name, value in before.items() if value is not None}


@contextmanager
def _absent_is_model_error(config: Config, uri: str) -> Iterator[None]:
    """Re-raise MLflow's not-found errors as a ModelError with the registry's address."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in artifacts.ABSENT:
            raise
        raise ModelError(
            f"{uri}: no such model in the registry at {tracking_uri(config)} ({artifacts.one_line(error)}). "
            "`streamscore train` makes the two default ones; models.N.uri takes another address or a plain path"
        ) from None


def _log(mlflow: Any, config: Config, name: str, model: Trained) -> None:
    """Log one model with its MLflow signature, in which vectors have MLflow's type for Spark vectors."""
    given = model.pipeline.transform(model.example).select(model.output)
    mlflow.spark.log_model(
        model.pipeline,
        artifact_path=name,
        signature=mlflow.models.infer_signature(model.example, given),
        # Raw columns may be null, and MLflow accepts no JSON example with nulls.
        input_example=_example(model.example) if len(model.example.columns) == 1 else None,
        pip_requirements=[f"pyspark=={_pyspark_version()}"],
        dfs_tmpdir=_shared_folder(config),
    )


def _example(row: DataFrame) -> Any:
    """Return a row as an MLflow example, with arrays instead of Spark's vectors, which JSON lacks."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    return row.select(*(vector_to_array(F.col(name)).alias(name) for name in row.columns)).toPandas()


def _sign(
    mlflow: Any, config: Config, logged: Registered, model: Trained, sign: Callable[[Trained, Path], Path]
) -> str:
    """Make a model's manifest from the logged files, log it with its signature, and return its digest."""
    with downloaded(config, logged) as folder:
        manifest = sign(model, folder)
        for file in (manifest, folder / SIGNATURE):
            if file.exists():
                mlflow.log_artifact(str(file), artifact_path=logged.name)
        return hashlib.sha256(manifest.read_bytes()).hexdigest()


def _move_alias(client: Any, name: str, alias: str, version: str) -> str | None:
    """Move an alias, record the previous version on the new one, and return the previous version."""
    before = client.get_registered_model(name).aliases.get(alias)
    if before is not None and str(before) != version:
        client.set_model_version_tag(name, version, _before(alias), str(before))
    client.set_registered_model_alias(name, alias, version)
    return None if before is None else str(before)


def _before(alias: str) -> str:
    return f"before_{re.sub('[^0-9A-Za-z]', '_', alias)}"


def _aliased(uri: str) -> tuple[str, str]:
    match = _URI.match(uri)
    if match is None or not match["alias"]:
        raise ModelError(f"{uri}: only an address of the form models:/name@alias has an alias to move")
    return match["name"], match["alias"]


def _registered(version: Any) -> Registered:
    return Registered(
        version.name,
        str(version.version),
        f"models:/{version.name}/{version.version}",
        version.tags.get(MANIFEST_TAG),
        str(version.source or ""),
    )


def _select_experiment(mlflow: Any, config: Config) -> None:
    """Select the experiment; with the SQLite store its artifacts are in the state folder too."""
    name = config.mlflow.experiment
    if mlflow.get_experiment_by_name(name) is None and tracking_uri(config).startswith("sqlite:"):
        folder = config.state_dir / "mlflow" / "artifacts"
        mlflow.create_experiment(name, artifact_location=folder.as_uri())
    mlflow.set_experiment(name)


def _shared_folder(config: Config) -> str:
    return os.environ.get("MLFLOW_DFS_TMP") or str(config.state_dir / "tmp" / "mlflow")


def _pyspark_version() -> str:
    import pyspark

    return str(pyspark.__version__)
