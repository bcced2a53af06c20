"""A model that is ready to score, and what its pipeline's stages tell about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from streamscore.schema import FEATURES, ScoreKind

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.ml.base import Transformer

    from streamscore.config.fields import Field


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
    margin_scale: float = 1.0
    """Standard deviation of the margin, as far as known: what margins, which have no unit, are divided by."""

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

    @property
    def score_kind(self) -> ScoreKind:
        """What the score is, by the classifier's own columns: its range says nothing, for margins may lie in [0, 1]."""
        has_probabilities = bool(_probability_column(self.stages[-1]))
        if self.classes > 2:  # noqa: PLR2004 (class 0 and class 1)
            return "class_probability" if has_probabilities else "class_margin"
        return "probability" if has_probabilities else "margin"

    @property
    def label_score(self) -> str | None:
        """Column of the labelled class's probability; None where ``score`` tells it, or there is none."""
        return f"label_score_{self.name}" if self.score_kind == "class_probability" else None

    @property
    def correct(self) -> str:
        """Column that says whether the prediction was right: 1, 0, or null without a label."""
        return f"correct_{self.name}"

    @cached_property
    def stages(self) -> list[Transformer]:
        """The stages, those of inner pipelines in the place of these."""
        return list(flattened(self.pipeline))


def flattened(pipeline: PipelineModel) -> Iterator[Transformer]:
    """Yield the stages of a pipeline, those of inner pipelines in the place of these."""
    from pyspark.ml import PipelineModel

    for stage in pipeline.stages:
        if isinstance(stage, PipelineModel):
            yield from flattened(stage)
        else:
            yield stage


def is_classifier(stage: Any) -> bool:
    """Return whether a stage predicts a class and says so in columns of their own."""
    from pyspark.ml.classification import ClassificationModel, OneVsRestModel

    return isinstance(stage, ClassificationModel | OneVsRestModel) and bool(stage.getPredictionCol() and detail(stage))


def classes(classifier: Any) -> int:
    """Return the number of classes that a classifier can predict."""
    return len(classifier.models) if is_one_vs_rest(classifier) else int(classifier.numClasses)


def detail(classifier: Any) -> str:
    """Return the column of a vector with a number per class: its probability, or else its raw margin; or nothing."""
    return str(_probability_column(classifier) or classifier.getRawPredictionCol())


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


def is_one_vs_rest(stage: Any) -> bool:
    """Return whether a stage is a one-vs-rest classifier."""
    from pyspark.ml.classification import OneVsRestModel

    return isinstance(stage, OneVsRestModel)


def _probability_column(classifier: Any) -> str:
    """Return the column of the classes' probabilities; empty if the classifier has none."""
    return str(classifier.getProbabilityCol()) if classifier.hasParam("probabilityCol") else ""


def _param(stage: Any, *names: str) -> str | None:
    """Return the value of the first of some params that is there and set."""
    for name in names:
        if stage.hasParam(name) and stage.isDefined(name):
            return str(stage.getOrDefault(name))
    return None
