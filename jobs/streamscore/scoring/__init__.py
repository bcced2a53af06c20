"""Apply models side by side: DataFrame in, DataFrame out, each outcome the one that the model alone would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import functions as F

from streamscore.schema import FEATURES

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.ml.base import Transformer
    from pyspark.sql import Column, DataFrame

    from streamscore.config.fields import Field

_KEPT: Final = "streamscore_kept_"
_MARGINS: Final = "streamscore_margins"

_SIZES: Final[Mapping[str, Callable[[Any], int]]] = {
    "ElementwiseProduct": lambda stage: stage.getScalingVec().size,
    "IDFModel": lambda stage: stage.idf.size,
    "MaxAbsScalerModel": lambda stage: stage.maxAbs.size,
    "MinMaxScalerModel": lambda stage: stage.originalMin.size,
    "OneVsRestModel": lambda stage: stage.models[0].numFeatures,
    "PCAModel": lambda stage: stage.pc.numRows,
    "RobustScalerModel": lambda stage: stage.range.size,
    "StandardScalerModel": lambda stage: stage.mean.size,
    "VectorSizeHint": lambda stage: stage.getSize(),
}
"""How many features a stage takes, for those that have no ``numFeatures``."""

_LENGTH_KEPT: Final = frozenset({"Binarizer", "DCT", "Normalizer"})
"""Stages that take a vector of any length and give one of the same."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is ready to score: its name and version in the outcomes, and the pipeline."""

    name: str
    version: str
    pipeline: PipelineModel
    size: int
    """Number of features that it was trained with: of the vector, or raw columns that it reads."""
    origin: str = ""
    """Where exactly this version is: an address without an alias."""
    trust: str = "manifest"
    classes: int = 2
    """Number of classes that it can predict: 0, 1 and so on."""
    source: str = FEATURES
    """Column under which the pipeline looks for the vector."""
    fields: tuple[Field, ...] = ()
    """The raw columns that the pipeline reads; none if it reads a vector."""

    def identity(self) -> dict[str, str]:
        """Return what it takes to find this very version again."""
        return {"name": self.name, "uri": self.origin, "version": self.version, "trust": self.trust}

    @property
    def prediction(self) -> str:
        """Column of the predicted class."""
        return f"prediction_{self.name}"

    @property
    def score(self) -> str:
        """Column of the score: of class 1, or, with more than two classes, of the predicted class.

        It is the class's probability, or its raw margin where the model has no probabilities.
        """
        return f"score_{self.name}"

    @cached_property
    def stages(self) -> list[Transformer]:
        """The stages, those of inner pipelines in the place of these."""
        return list(flattened(self.pipeline))


def apply(data: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Add each model's prediction and score to rows that have ``features``: a vector, or a struct of raw columns."""
    for model in models:
        data = _with_outcome(data, model)
    return data


def flattened(pipeline: PipelineModel) -> Iterator[Transformer]:
    """Yield the stages of a pipeline, those of inner pipelines in the place of these."""
    from pyspark.ml import PipelineModel

    for stage in pipeline.stages:
        if isinstance(stage, PipelineModel):
            yield from flattened(stage)
        else:
            yield stage


def is_classifier(stage: Any) -> bool:
    """Tell whether a stage predicts a class and says so in columns of their own."""
    from pyspark.ml.classification import ClassificationModel, OneVsRestModel

    return isinstance(stage, ClassificationModel | OneVsRestModel) and bool(stage.getPredictionCol() and detail(stage))


def classes(classifier: Any) -> int:
    """Return the number of classes that a classifier can predict."""
    return len(classifier.models) if _is_one_vs_rest(classifier) else int(classifier.numClasses)


def detail(classifier: Any) -> str:
    """Return the column of a vector with a number per class: its probability, or else its raw margin; or nothing."""
    probability = classifier.getProbabilityCol() if classifier.hasParam("probabilityCol") else ""
    return str(probability or classifier.getRawPredictionCol())


def size(stages: Sequence[Any], source: str) -> int | None:
    """Return the number of features that a pipeline takes, from the first stage that knows it; None if none does.

    Args:
        stages: the stages.
        source: the column of the vector.
    """
    columns = {source}
    """Columns with a vector as long as the first."""
    for stage in stages:
        if _param(stage, "featuresCol", "inputCol") in columns:
            kind = type(stage).__name__
            if kind in _SIZES:
                return int(_SIZES[kind](stage))
            if hasattr(stage, "numFeatures"):
                return int(stage.numFeatures)
            if kind in _LENGTH_KEPT:
                columns.add(stage.getOutputCol())
    return None


def _with_outcome(data: DataFrame, model: ServedModel) -> DataFrame:
    """Add one model's two columns.

    The pipeline sees the vector, or the raw columns, under the names that it was trained with, and no other column of
    ours under its own name: so whatever its stages call their columns, nothing of the model has to be
    changed and nothing collides.
    """
    classifier: Any = model.stages[-1]
    kept = {name: f"{_KEPT}{position}" for position, name in enumerate(data.columns)}
    raw = [F.col(f"{FEATURES}.{field.name}").alias(field.name) for field in model.fields]
    scored = data.select(
        *(F.col(name).alias(hidden) for name, hidden in kept.items()), *(raw or [F.col(FEATURES).alias(model.source)])
    )
    for stage in model.stages:
        scored = _one_vs_rest(scored, stage) if _is_one_vs_rest(stage) else stage.transform(scored)
    prediction = F.col(f"`{classifier.getPredictionCol()}`")
    return scored.select(
        *(F.col(hidden).alias(name) for name, hidden in kept.items()),
        prediction.alias(model.prediction),
        _score(classifier, prediction, model.classes).alias(model.score),
    )


def _score(classifier: Any, prediction: Column, count: int) -> Column:
    from pyspark.ml.functions import vector_to_array

    vector = F.col(f"`{detail(classifier)}`")
    # Spark's own classifiers make dense vectors (ProbabilisticClassificationModel takes no others): the number is read
    # from where it is stored, without a copy of them all.
    is_dense = type(classifier).__module__ == "pyspark.ml.classification"
    per_class = F.unwrap_udt(vector)["values"] if is_dense else vector_to_array(vector)
    return F.get(per_class, F.lit(1) if count == 2 else prediction.cast("int"))  # noqa: PLR2004 (class 0 and class 1)


def _one_vs_rest(data: DataFrame, stage: Any) -> DataFrame:
    """Do what ``OneVsRestModel.transform`` does, which in PySpark calls Python for every row and caches the rows."""
    from pyspark.ml.functions import array_to_vector, vector_to_array

    before = [F.col(f"`{name}`") for name in data.columns]
    margins = []
    for position, model in enumerate(stage.models):
        margins.append(f"{_MARGINS}_{position}")
        unwanted = {name: "" for name in ("predictionCol", "probabilityCol") if model.hasParam(name)}
        columns = {"featuresCol": stage.getFeaturesCol(), "rawPredictionCol": margins[-1], **unwanted}
        copied = model.copy()
        for name, column in columns.items():
            copied.set(copied.getParam(name), column)
        data = copied.transform(data)
    data = data.select(*before, F.array(*(vector_to_array(F.col(name))[1] for name in margins)).alias(_MARGINS))
    # The first of equal ones, as the stage itself takes it, which looks for one that is greater than those before: NaN
    # never is, and nothing is greater than it.
    ranked = (
        f"transform({_MARGINS}, (margin, at) -> "
        "if(isnan(margin), if(at = 0, double('Infinity'), double('-Infinity')), margin))"
    )
    return data.select(
        *before,
        array_to_vector(F.col(_MARGINS)).alias(stage.getRawPredictionCol()),
        F.expr(f"double(array_position({ranked}, array_max({ranked})) - 1)").alias(stage.getPredictionCol()),
    )


def _is_one_vs_rest(stage: Any) -> bool:
    from pyspark.ml.classification import OneVsRestModel

    return isinstance(stage, OneVsRestModel)


def _param(stage: Any, *names: str) -> str | None:
    """Return the value of the first of some params that is there and set."""
    for name in names:
        if stage.hasParam(name) and stage.isDefined(name):
            return str(stage.getOrDefault(name))
    return None
