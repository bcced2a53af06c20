"""Apply several models to a DataFrame; each model's outcome is the one that it would give alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import functions as F

from streamscore.schema import FEATURES, LABEL
from streamscore.scoring.declines import DECLINED, DECLINED_TYPE, Guard, quoted
from streamscore.scoring.renames import renames
from streamscore.scoring.served import ServedModel, detail, is_one_vs_rest

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_KEPT: Final = "streamscore_kept_"

_MARGINS: Final = "streamscore_margins"


def apply_models(data: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Add each model's prediction and score to rows with ``features``: a vector, or a struct of raw columns.

    Of an event that a model declines it has neither, and the column ``declined`` has the reason and a column's name.

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
    kept = _hidden(data)
    scored = apply_stages(data, model, model.stages)
    prediction = quoted(classifier.getPredictionCol())
    outcome = {
        model.prediction: _renumbered(prediction, model.class_order),
        model.score: _score(classifier, prediction, model),
        **_label_score(classifier, model, kept),
    }
    declined = F.lit(None).cast(DECLINED_TYPE)
    if DECLINED in scored.columns:
        declined = F.col(DECLINED)
        outcome = {name: F.when(declined.isNull(), value) for name, value in outcome.items()}
    return scored.select(
        *(F.col(hidden).alias(name) for name, hidden in kept.items()),
        *(value.alias(name) for name, value in outcome.items()),
        declined.alias(model.declined),
    )


def _hidden(data: DataFrame) -> dict[str, str]:
    """Return the names of the rows' own columns while a pipeline runs."""
    return {name: f"{_KEPT}{position}" for position, name in enumerate(data.columns)}


def apply_stages(data: DataFrame, model: ServedModel, stages: Sequence[Any]) -> DataFrame:
    """Apply the first stages of a model to rows with ``features``.

    Args:
        data: the rows.
        model: the model.
        stages: its first stages, or all.

    Returns:
        The rows' columns under hidden names, the pipeline's columns, and ``declines.DECLINED`` if a stage may decline.
    """
    raw = [F.col(FEATURES).getField(field.name).alias(field.name) for field in model.fields]
    rows = data.select(
        *(F.col(name).alias(hidden) for name, hidden in _hidden(data).items()),
        *(raw or [F.col(FEATURES).alias(model.source)]),
    )
    guard = Guard([field.name for field in model.fields] or [model.source])
    rows = guard.with_vectors(rows, model.lengths)
    for stage in stages:
        rows = guard.transform(rows, stage, _transform)
    return rows


def _transform(data: DataFrame, stage: Any) -> DataFrame:
    renamed = renames(stage)
    if renamed:
        return data.select("*", *(quoted(read).alias(made) for read, made in renamed if read in data.columns))
    applied: DataFrame = _one_vs_rest(data, stage) if is_one_vs_rest(stage) else stage.transform(data)
    return applied


def _renumbered(number: Column, to: Sequence[int]) -> Column:
    """Return a class's number by another numbering; empty: the number as it is."""
    return F.get(F.array(*(F.lit(float(other)) for other in to)), number.cast("int")) if to else number


def _score(classifier: Any, prediction: Column, model: ServedModel) -> Column:
    if model.classes > 2:  # noqa: PLR2004 (class 0 and class 1)
        return F.get(_per_class(classifier), prediction.cast("int"))
    return F.get(_per_class(classifier), F.lit(model.class_order.index(1) if model.class_order else 1))


def _label_score(classifier: Any, model: ServedModel, kept: Mapping[str, str]) -> dict[str, Column]:
    """Return the labelled class's probability by its name, if the model has one and the rows have labels."""
    if model.label_score is None or LABEL not in kept:
        return {}
    label = F.col(kept[LABEL])
    is_class = label == F.floor(label)  # a number between two classes has no probability
    at = F.when(is_class & (label >= 0) & (label < model.classes), label.cast("int"))
    numbers = [model.class_order.index(number) for number in range(len(model.class_order))]
    return {model.label_score: F.get(_per_class(classifier), _renumbered(at, numbers).cast("int"))}


def _per_class(classifier: Any) -> Column:
    """Return the array of each class's probability, or else of its raw margin."""
    from pyspark.ml.functions import vector_to_array

    vector = quoted(detail(classifier))
    # Spark's classifiers produce dense vectors (ProbabilisticClassificationModel accepts no others), so one value can
    # be read without a copy of the whole vector.
    is_dense = type(classifier).__module__ == "pyspark.ml.classification"
    return F.unwrap_udt(vector)["values"] if is_dense else vector_to_array(vector)


def _one_vs_rest(data: DataFrame, stage: Any) -> DataFrame:
    """Apply a ``OneVsRestModel``, whose own ``transform`` in PySpark calls Python for every row and caches the rows."""
    from pyspark.ml.functions import array_to_vector, vector_to_array

    before = [quoted(name) for name in data.columns]
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
