"""Shape evaluated rows as outcomes, one per event and model, for all sinks of outcomes.

The expressions are SQL texts: columns built in Python take several JVM calls per part, which took a quarter of the time
of a small batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streamscore.schema import LABEL, OUTCOME_FIELDS, REASON

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from streamscore.scoring.served import ServedModel


IDENTITY: Final = ["event_id", "model", "model_version"]
"""Columns that identify an outcome; ``event_id`` alone identifies a bad message."""

MODEL_JSON: Final = "json_model"
"""Field of ``per_model`` with the part of an outcome's JSON that names the model."""


def outcomes(evaluated: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Return one row per good event and model, with the columns of ``schema.OUTCOME_FIELDS``; ``key`` is bytes."""
    good = evaluated.filter(f"{REASON} IS NULL")
    rows = good.selectExpr("event_id", "key", LABEL, "event_time", f"inline({per_model(models)})")
    return rows.select(*OUTCOME_FIELDS)


def per_model(models: Sequence[ServedModel]) -> str:
    """Return SQL for an array of each model's results for a row."""
    structs = (
        f"struct({literal(model.name)} AS model, {literal(model.version)} AS model_version, "
        f"{literal(_model_json(model))} AS {MODEL_JSON}, "
        f"{model.prediction} AS prediction, {model.score} AS score, {model.correct} AS correct, "
        f"{model.declined}.reason AS declined, {model.declined}.name AS declined_column)"
        for model in models
    )
    return f"array({', '.join(structs)})"


def _model_json(model: ServedModel) -> str:
    """Return the part of an outcome's JSON that names a model."""
    return f',"model":{json.dumps(model.name)},"model_version":{json.dumps(model.version)},"prediction":'


def is_finite(name: str) -> str:
    """Return SQL for whether a number is finite; in Spark NaN is greater than any number."""
    return f"abs({name}) < double('Infinity')"


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
