"""Apply several models to a DataFrame; each model's outcome is the one that it would give alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import functions as F

from streamscore.schema import FEATURES, LABEL
from streamscore.scoring.served import ServedModel, detail, is_one_vs_rest

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_KEPT: Final = "streamscore_kept_"

_MARGINS: Final = "streamscore_margins"


def apply_models(data: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Add each model's prediction and score to rows with ``features``: a vector, or a struct of raw columns.

    A model of more than two classes also adds the probability of the class ``label`` as ``label_score``, where rows
    have one.
    """
    for model in models:
        data = _with_outcome(data, model)
    return data


def _with_outcome(data: DataFrame, model: ServedModel) -> DataFrame:
    """Add one model's columns.

    The pipeline reads the vector, or the raw columns, under the names of its training. Our own columns are renamed
    while the pipeline runs, so its column names can never collide with them.
    """
    classifier: Any = model.stages[-1]
    kept = {name: f"{_KEPT}{position}" for position, name in enumerate(data.columns)}
    raw = [F.col(f"{FEATURES}.{field.name}").alias(field.name) for field in model.fields]
    scored = data.select(
        *(F.col(name).alias(hidden) for name, hidden in kept.items()), *(raw or [F.col(FEATURES).alias(model.source)])
    )
    for stage in model.stages:
        scored = _one_vs_rest(scored, stage) if is_one_vs_rest(stage) else stage.transform(scored)
    prediction = F.col(f"`{classifier.getPredictionCol()}`")
    return scored.select(
        *(F.col(hidden).alias(name) for name, hidden in kept.items()),
        prediction.alias(model.prediction),
        _score(classifier, prediction, model.classes).alias(model.score),
        *_label_score(classifier, model, kept),
    )


def _score(classifier: Any, prediction: Column, count: int) -> Column:
    return F.get(_per_class(classifier), F.lit(1) if count == 2 else prediction.cast("int"))  # noqa: PLR2004 (class 0 and class 1)


def _label_score(classifier: Any, model: ServedModel, kept: Mapping[str, str]) -> list[Column]:
    """Return the labelled class's probability as a column, if the model has one and the rows have labels."""
    if model.label_score is None or LABEL not in kept:
        return []
    label = F.col(kept[LABEL])
    is_class = label == F.floor(label)  # a number between two classes has no probability
    at = F.when(is_class & (label >= 0) & (label < model.classes), label.cast("int"))
    return [F.get(_per_class(classifier), at).alias(model.label_score)]


def _per_class(classifier: Any) -> Column:
    """Return the array of each class's probability, or else of its raw margin."""
    from pyspark.ml.functions import vector_to_array

    vector = F.col(f"`{detail(classifier)}`")
    # Spark's classifiers produce dense vectors (ProbabilisticClassificationModel accepts no others), so one value can
    # be read without a copy of the whole vector.
    is_dense = type(classifier).__module__ == "pyspark.ml.classification"
    return F.unwrap_udt(vector)["values"] if is_dense else vector_to_array(vector)


def _one_vs_rest(data: DataFrame, stage: Any) -> DataFrame:
    """Apply a ``OneVsRestModel``, whose own ``transform`` in PySpark calls Python for every row and caches the rows."""
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
    # As in the stage itself, the first of equal values wins: it keeps a value that is greater than the best so far. NaN
    # is never greater, and no value is greater than NaN.
    ranked = (
        f"transform({_MARGINS}, (margin, at) -> "
        "if(isnan(margin), if(at = 0, double('Infinity'), double('-Infinity')), margin))"
    )
    return data.select(
        *before,
        array_to_vector(F.col(_MARGINS)).alias(stage.getRawPredictionCol()),
        F.expr(f"double(array_position({ranked}, array_max({ranked})) - 1)").alias(stage.getPredictionCol()),
    )
