"""Golden rows: features with what a model made of them after its training, which it must make of them at every load."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pyspark.ml.linalg import DenseVector, SparseVector, Vectors
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, StructField, StructType

from streamscore import __version__, messages, scoring, session
from streamscore.errors import ModelError
from streamscore.gate.manifest import MANIFEST, Golden, Manifest, Vector, Versions
from streamscore.schema import FEATURES
from streamscore.scoring import ServedModel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Example = SparseVector | DenseVector | Mapping[str, Any]
"""The features of one event: a vector, or the values of raw columns by name; one that is not there is null."""

_OTHER_MACHINE: Final = 1e-12
"""How far a score may be off, relatively, on another Java or processor: their exp and log differ in the last bit."""


_ORDINARY: Final[Mapping[str, Any]] = {
    "INT": 1,
    "BIGINT": 1,
    "DOUBLE": 1.0,
    "BOOLEAN": True,
    "STRING": "unseen \U0001f600",
}
_LOWEST: Final[Mapping[str, Any]] = {
    "INT": -(1 << 31), "BIGINT": -(1 << 63), "DOUBLE": -1.7976931348623157e308, "BOOLEAN": False, "STRING": "",
}  # fmt: skip
_HIGHEST: Final[Mapping[str, Any]] = {
    "INT": (1 << 31) - 1, "BIGINT": (1 << 63) - 1, "DOUBLE": 1.79e308, "BOOLEAN": True, "STRING": "x" * 99,
}  # fmt: skip


def outcomes(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> list[tuple[float, float]]:
    """Return the prediction and the score of some examples, in their order.

    Raises:
        ModelError: the model drops a row.
    """
    rows = scoring.apply(_data(spark, model, examples), [model]).collect()
    found = {row["number"]: (row[model.prediction], row[model.score]) for row in rows}
    if len(found) < len(examples):
        raise ModelError(f"of {len(examples)} rows it drops {len(examples) - len(found)}: every event must be scored")
    return [found[number] for number in range(len(examples))]


def rows(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> tuple[Golden, ...]:
    """Return golden rows of some examples."""
    return tuple(
        Golden(**_written(example), prediction=prediction, score=score)
        for example, (prediction, score) in zip(examples, outcomes(spark, model, examples), strict=True)
    )


def require_steady(spark: SparkSession, model: ServedModel) -> None:
    """Find out whether raw columns could hold something that stops the stream or has no outcome.

    Tried are no values at all, each column without a value, texts that no training has seen, and the ends of each type.

    Raises:
        ModelError: there is something.
    """
    ordinary = {field.name: _ORDINARY[field.type] for field in model.fields}
    ends = [{field.name: end[field.type] for field in model.fields} for end in (_LOWEST, _HIGHEST)]
    without = [{**ordinary, field.name: None} for field in model.fields]
    try:
        found = outcomes(spark, model, [{}, ordinary, *without, *ends])
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 (Spark and py4j each have their own for a stage that fails)
        causes = [line for line in str(error).splitlines() if line.startswith("Caused by: ")]
        reason = causes[-1].removeprefix("Caused by: ") if causes else str(error).strip().splitlines()[0]
        raise ModelError(
            f"an absent value, an unknown text or an extreme number would stop the stream: {reason[:500]}"
        ) from None
    for number, outcome in enumerate(found[: len(without) + 2]):
        if any(value is None or not math.isfinite(value) for value in outcome):
            subject = ("no values", "ordinary values")[number] if number < 2 else f"no {model.fields[number - 2].name}"  # noqa: PLR2004
            raise ModelError(f"of a message with {subject} it makes {outcome}, which is no outcome")


def require_same(spark: SparkSession, model: ServedModel, manifest: Manifest) -> None:
    """Compare what a model makes of the golden rows with what it made of them after the training.

    To the last bit, on a machine like the one of the training; elsewhere Java's own functions differ in that bit.

    Raises:
        ModelError: one differs.
    """
    tolerance = 0.0 if versions(spark).java == manifest.versions.java else _OTHER_MACHINE
    examples = [_read(row) for row in manifest.golden]
    for number, example in enumerate(examples):
        if not model.fields and len(example) != model.size:
            raise ModelError(f"{MANIFEST}: golden row {number} has {len(example)} features, the model {model.size}")
    found = outcomes(spark, model, examples)
    for number, ((prediction, score), row) in enumerate(zip(found, manifest.golden, strict=True)):
        if prediction != row.prediction or abs(score - row.score) > tolerance * abs(row.score):
            raise ModelError(
                f"{MANIFEST}: golden row {number} does not reproduce: after the training it was class "
                f"{row.prediction:g} with score {row.score!r}, this Spark computes {prediction:g} with {score!r}"
            )


def versions(spark: SparkSession) -> Versions:
    """Return what runs here."""
    return Versions(
        streamscore=__version__,
        spark=spark.version,
        python=platform.python_version(),
        java=session.java_version(spark),
    )


def _data(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> DataFrame:
    """Return examples as rows: ``number`` and ``features``.

    By way of JSON, which the JVM reads: ``createDataFrame`` would start a Python worker, which takes seconds.
    """
    schema = StructType(
        [StructField("number", IntegerType()), StructField(FEATURES, messages.features_type(model.fields))]
    )
    told = json.dumps([{"number": number, FEATURES: _cell(one, model)} for number, one in enumerate(examples)])
    rows = spark.range(1).select(F.explode(F.from_json(F.lit(told), ArrayType(schema))).alias("row"))
    return rows.select("row.*")


def _cell(example: Example, model: ServedModel) -> dict[str, Any]:
    """Return an example as JSON has it in a column ``features``."""
    if isinstance(example, DenseVector | SparseVector):
        vector: Vector = _written(example)["features"]
        return vector.model_dump(exclude_none=True)
    cells = ((field.name, example.get(field.name), field.type) for field in model.fields)
    return {name: float(value) if kind == "DOUBLE" and value is not None else value for name, value, kind in cells}


def _written(example: Example) -> dict[str, Any]:
    if not isinstance(example, DenseVector | SparseVector):
        return {"row": dict(example)}
    values = tuple(map(float, example.values))
    if isinstance(example, DenseVector):
        return {"features": Vector(type=1, values=values)}
    indices = tuple(map(int, example.indices))
    return {"features": Vector(type=0, size=int(example.size), indices=indices, values=values)}


def _read(row: Golden) -> Example:
    vector = row.features
    if vector is None:
        return row.row or {}
    if vector.size is None:
        return Vectors.dense(vector.values)
    return Vectors.sparse(vector.size, vector.indices or (), vector.values)
