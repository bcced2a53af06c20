"""The models of a stream: find them, load them, check that they fit, apply them all in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from streamscore import registry
from streamscore.checkpoint import MODELS
from streamscore.config import Config, Model
from streamscore.errors import ModelError
from streamscore.schema import FEATURES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


@dataclass(frozen=True)
class ServedModel:
    """A model that is ready to score: its name and version in the outcomes, and the pipeline."""

    name: str
    version: str
    pipeline: PipelineModel
    size: int
    """Number of features that it was trained with."""
    origin: str = ""
    """Where exactly this version is: an address without an alias."""

    def described(self) -> dict[str, str]:
        """Return what it takes to find this very version again."""
        return {"name": self.name, "uri": self.origin, "version": self.version}

    @property
    def prediction(self) -> str:
        """Column of the predicted class."""
        return f"prediction_{self.name}"

    @property
    def score(self) -> str:
        """Column of the score: the probability of class 1, or the raw margin of a model that has no probability."""
        return f"score_{self.name}"

    @property
    def detail(self) -> str:
        """Column that the score is taken from, a vector with an entry per class."""
        return f"detail_{self.name}"


def load(spark: SparkSession, config: Config) -> list[ServedModel]:
    """Find and load every configured model and check that they fit each other and the messages.

    Raises:
        ModelError: a model is absent or damaged, is not a classifier on a features vector, or was trained with
            another number of features than the other models or ``message.size`` have.
        ServerError: the registry cannot be reached.
    """
    models = [_load_one(spark, config, model) for model in config.models]
    expected = config.message.size or models[0].size
    origin = "message.size says" if config.message.size else f"the model {models[0].name!r} has"
    for model in models:
        if model.size != expected:
            raise ModelError(
                f"the model {model.name!r} (version {model.version}) was trained with {model.size} features, "
                f"but {origin} {expected}: no message can suit both. Choose models of one training run, "
                "or correct message.size"
            )
    return models


def load_noted(spark: SparkSession, config: Config, noted: Sequence[Mapping[str, str]]) -> list[ServedModel]:
    """Load the models that a record of earlier ones describes.

    Raises:
        ModelError: one is gone or has changed since.
        ServerError: the registry cannot be reached.
    """
    found = [_load_one(spark, config, Model(name=entry["name"], uri=entry["uri"])) for entry in noted]
    for model, entry in zip(found, noted, strict=True):
        if model.version != entry["version"]:
            raise ModelError(
                f"a batch was begun with version {entry['version']} of the model {model.name!r}, but {entry['uri']} is "
                f"now version {model.version}: put it back, or delete {config.stream.checkpoint}/{MODELS} to finish "
                "the batch with the present models"
            )
    return found


def apply(data: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Add each model's prediction and score to rows that have a ``features`` vector."""
    for model in models:
        data = model.pipeline.transform(data).withColumn(model.score, _of_class_one(model.detail)).drop(model.detail)
    return data


def _load_one(spark: SparkSession, config: Config, model: Model) -> ServedModel:
    path, origin, version = _find(spark, config, model)
    try:
        pipeline = PipelineModel.load(path)
    except Exception as error:  # noqa: BLE001 (Spark, Hadoop and py4j each have their own for a damaged folder)
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the model {model.name!r} at {model.uri} cannot be loaded as a PipelineModel: {reason}"
        ) from None
    return _prepared(model, origin, version, pipeline)


def _find(spark: SparkSession, config: Config, model: Model) -> tuple[str, str, str]:
    """Return where a model's files are, the address of this very version, and the version."""
    if model.uri.startswith("models:/"):
        registered = registry.resolve(config, model.uri)
        folder = registry.download(config, registered)
        return f"{_pipeline_folder(folder)}", f"models:/{registered.name}/{registered.version}", registered.version
    if "://" in model.uri:
        return model.uri, model.uri, _digest(spark, model.uri)
    folder = Path(model.uri).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"the model {model.name!r}: no folder at {model.uri}. Give the folder of a PipelineModel that Spark saved, "
            "or models:/name@alias"
        )
    path = str(_pipeline_folder(folder).resolve())
    return path, path, _digest(spark, path)


def _pipeline_folder(folder: Path) -> Path:
    """Return the folder that Spark wrote; MLflow keeps it inside a folder of its own."""
    inner = folder / "sparkml"
    return inner if inner.is_dir() else folder


def _digest(spark: SparkSession, path: str) -> str:
    """Return a version for a model that has none: a digest of its files, so that other files are another version."""
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path)
    hashes = files.select("path", F.sha2("content", 256).alias("sha256")).collect()
    listed = sorted(f"{row['path'].split(path.rsplit('/', 1)[-1], 1)[-1]} {row['sha256']}" for row in hashes)
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()[:12]


def _prepared(model: Model, origin: str, version: str, pipeline: PipelineModel) -> ServedModel:
    """Give the classifier columns of its own, since the defaults of two models collide; compute no others."""
    classifier = pipeline.stages[-1] if pipeline.stages else None
    size = getattr(classifier, "numFeatures", None)
    if classifier is None or not classifier.hasParam("predictionCol") or not isinstance(size, int):
        kind = type(classifier).__name__ if classifier is not None else "no stage"
        raise ModelError(
            f"the model {model.name!r} at {model.uri} ends in {kind}, which is not a classifier on a vector"
        )
    served = ServedModel(model.name, version, pipeline, size, origin)
    columns = {"featuresCol": FEATURES, "predictionCol": served.prediction}
    if classifier.hasParam("probabilityCol"):
        columns |= {"probabilityCol": served.detail, "rawPredictionCol": ""}
    else:
        columns |= {"rawPredictionCol": served.detail}
    for name, column in columns.items():
        classifier.set(classifier.getParam(name), column)
    return served


def _of_class_one(column: str) -> Column:
    from pyspark.ml.functions import vector_to_array

    return vector_to_array(F.col(column))[1]
