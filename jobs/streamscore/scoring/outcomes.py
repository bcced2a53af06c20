"""Shape evaluated rows as outcomes, one per event and model; what all sinks of outcomes have in common.

It is written in SQL: a column made in Python takes several calls to the JVM for each of its parts, and there are so
many parts that the calls took a quarter of the time of a small batch.
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
"""What tells one outcome from all others; a bad message has its ``event_id``."""

MODEL_JSON: Final = "json_model"
"""Field of ``per_model`` with the piece of an outcome's JSON that names the model."""


def outcomes(evaluated: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Return one row per good event and model, with the columns of ``schema.OUTCOME_FIELDS``; ``key`` is bytes."""
    good = evaluated.filter(f"{REASON} IS NULL")
    rows = good.selectExpr("event_id", "key", LABEL, "event_time", f"inline({per_model(models)})")
    return rows.select(*OUTCOME_FIELDS)


def per_model(models: Sequence[ServedModel]) -> str:
    """Return SQL for an array with what each model says of a row."""
    structs = (
        f"struct({literal(model.name)} AS model, {literal(model.version)} AS model_version, "
        f"{literal(_model_json(model))} AS {MODEL_JSON}, "
        f"{model.prediction} AS prediction, {model.score} AS score, {model.correct} AS correct)"
        for model in models
    )
    return f"array({', '.join(structs)})"


def _model_json(model: ServedModel) -> str:
    """Return the piece that names a model."""
    return f',"model":{json.dumps(model.name)},"model_version":{json.dumps(model.version)},"prediction":'


def is_finite(name: str) -> str:
    """Return SQL for whether a number is finite; to Spark NaN is larger than any other."""
    return f"abs({name}) < double('Infinity')"


def literal(text: str) -> str:
    """Return text as SQL has it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
