"""Log a training run in MLflow, and register its models."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamscore.config import Config
from streamscore.models import registry
from streamscore.models.gate.signature import SIGNATURE
from streamscore.models.mlflow_connection import connected, tracking_uri
from streamscore.models.registry import MANIFEST_TAG, Registered

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from streamscore.config.fields import Field
    from streamscore.models.checks import Example


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
    with connected(config) as mlflow, redirect_stderr(io.StringIO()):
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
                    registered.append(registry.registered(made))
        for version in registered:
            registry.move_alias(mlflow.MlflowClient(), version.name, config.mlflow.alias, version.version)
    return registered


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
    with registry.downloaded(config, logged) as folder:
        manifest = sign(model, folder)
        for file in (manifest, folder / SIGNATURE):
            if file.exists():
                mlflow.log_artifact(str(file), artifact_path=logged.name)
        return hashlib.sha256(manifest.read_bytes()).hexdigest()


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
