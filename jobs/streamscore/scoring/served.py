"""A model that is ready to score, and its properties as derived from its pipeline's stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from streamscore.schema import FEATURES, ScoreKind
from streamscore.scoring.renames import renames

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
"""Functions that return the number of features of stages without ``numFeatures``."""

_LENGTH_KEPT: Final = frozenset({"Binarizer", "DCT", "Normalizer"})
"""Stages that accept a vector of any length and return one of the same length."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is ready to score: its name and version in the outcomes, and the pipeline."""

    name: str
    version: str
    pipeline: PipelineModel
    size: int
    """Number of features: the length of the vector, or the number of raw columns that the model reads."""
    origin: str = ""
    """Address of this version, without an alias."""
    trust: str = "manifest"
    classes: int = 2
    """Number of classes; these are 0, 1 and so on."""
    source: str = FEATURES
    """Column of the vector that the pipeline reads."""
    fields: tuple[Field, ...] = ()
    """The raw columns that the pipeline reads; empty if it reads a vector."""
    margin_scale: float = 1.0
    """Scale by which margins, which have no unit, are divided; 1.0 if unknown."""
    class_order: tuple[int, ...] = ()
    """The class in the messages of each number that the classifier predicts; empty if they are the same."""
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Length of each raw column that is a vector."""
    label_values: Mapping[str, float] = field(default_factory=dict)
    """The class of each label that is a text, by the pipeline's label indexer; empty without one."""

    def identity(self) -> dict[str, str]:
        """Return the data that identify this version."""
        return {"name": self.name, "uri": self.origin, "version": self.version, "trust": self.trust}

    @property
    def prediction(self) -> str:
        """Column of the predicted class."""
        return f"prediction_{self.name}"

    @property
    def score(self) -> str:
        """Column of the score: of class 1, or, with more than two classes, of the predicted class.

        The score is the class's probability, or its raw margin if the model has no probabilities.
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
        """Column of the labelled class's probability; None if it follows from ``score``, or the model has none."""
        return f"label_score_{self.name}" if self.score_kind == "class_probability" else None

    @property
    def correct(self) -> str:
        """Column of the comparison with the label: 1 if right, 0 if wrong, null without a label."""
        return f"correct_{self.name}"

    @property
    def declined(self) -> str:
        """Column of the reason and the column for which the model declines an event: ``declines.DECLINED_TYPE``."""
        return f"declined_{self.name}"

    @cached_property
    def stages(self) -> list[Transformer]:
        """The stages, with inner pipelines replaced by their own stages."""
        return list(flattened(self.pipeline))


def flattened(pipeline: PipelineModel) -> Iterator[Transformer]:
    """Yield the stages of a pipeline, with inner pipelines replaced by their own stages."""
    from pyspark.ml import PipelineModel

    for stage in pipeline.stages:
        if isinstance(stage, PipelineModel):
            yield from flattened(stage)
        else:
            yield stage


def is_classifier(stage: Any) -> bool:
    """Return whether a stage is a classifier that outputs a prediction and a number per class."""
    from pyspark.ml.classification import ClassificationModel, OneVsRestModel

    return isinstance(stage, ClassificationModel | OneVsRestModel) and bool(stage.getPredictionCol() and detail(stage))


def classes(classifier: Any) -> int:
    """Return the number of classes that a classifier can predict."""
    return len(classifier.models) if is_one_vs_rest(classifier) else int(classifier.numClasses)


def detail(classifier: Any) -> str:
    """Return the column with the vector of the classes' probabilities, or else of their raw margins; empty if none."""
    return str(_probability_column(classifier) or classifier.getRawPredictionCol())


def size(stages: Sequence[Any], source: str) -> int | None:
    """Return the number of features of a pipeline, from the first stage that knows it; None if no stage does.

    Args:
        stages: the stages.
        source: the column of the vector.
    """
    columns = {source}
    """Columns whose vectors have the same length as the source's."""
    for stage in stages:
        columns.update(made for read, made in renames(stage) if read in columns)
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
    """Return the value of the first param that exists and is set."""
    for name in names:
        if stage.hasParam(name) and stage.isDefined(name):
            return str(stage.getOrDefault(name))
    return None
