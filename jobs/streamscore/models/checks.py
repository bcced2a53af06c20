"""Checks of a loaded model: its golden rows must reproduce, and no message may stop the stream."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, StructField, StructType

from streamscore import __version__
from streamscore.errors import ModelError
from streamscore.messages.decode import features_type
from streamscore.models.gate.manifest import MANIFEST, Golden, Manifest, Vector, Versions
from streamscore.schema import FEATURES
from streamscore.scoring.apply import apply_models
from streamscore.scoring.served import ServedModel
from streamscore.spark import jvm
from streamscore.spark.errors import root_cause

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Example = SparseVector | DenseVector | Mapping[str, Any]
"""The features of one event: a vector, or the values of raw columns by name; a missing value is null."""

_OTHER_MACHINE: Final = 1e-12
"""Relative tolerance of a score on another Java or processor, where exp and log differ in the last bit."""


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
    """Return the prediction and the score of each example, in order.

    Args:
        spark: the session, which runs a job.
        model: the model.
        examples: feature vectors, or rows of raw columns.

    Raises:
        ModelError: the model drops a row.
    """
    return _outcomes(model, _data(spark, model, examples), len(examples))


def rows(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> tuple[Golden, ...]:
    """Return golden rows: examples with the model's current output.

    Args:
        spark: the session, which runs a job.
        model: the model.
        examples: feature vectors, or rows of raw columns.
    """
    return tuple(
        Golden(**_written(example), prediction=prediction, score=score)
        for example, (prediction, score) in zip(examples, outcomes(spark, model, examples), strict=True)
    )


def require_steady(spark: SparkSession, model: ServedModel) -> None:
    """Check that no message can stop the stream or remain without an outcome.

    For raw columns the check tries no values at all, each column without a value, unseen texts, and the limits of each
    type. For a vector it tries negative numbers, for which NaiveBayes has no outcome, and the limits of doubles.

    Raises:
        ModelError: a message could stop the stream or remain without an outcome.
    """
    if not model.fields:
        values = (0.0, -1.0, _LOWEST["DOUBLE"], _HIGHEST["DOUBLE"])
        with _refused("a negative or an extreme number", lambda: _outcomes(model, _alike(spark, model, [0.0]), 1)):
            _outcomes(model, _alike(spark, model, values), len(values))
        return
    ordinary = {field.name: _ORDINARY[field.type] for field in model.fields}
    ends = [{field.name: end[field.type] for field in model.fields} for end in (_LOWEST, _HIGHEST)]
    without = [{**ordinary, field.name: None} for field in model.fields]
    subject = "an absent value, an unknown text or an extreme number"
    with _refused(subject, lambda: outcomes(spark, model, [ordinary])):
        found = outcomes(spark, model, [{}, ordinary, *without, *ends])
    for number, outcome in enumerate(found[: len(without) + 2]):
        if any(value is None or not math.isfinite(value) for value in outcome):
            subject = ("no values", "ordinary values")[number] if number < 2 else f"no {model.fields[number - 2].name}"  # noqa: PLR2004
            raise ModelError(f"of a message with {subject} it makes {outcome}, which is no outcome")


@contextmanager
def _refused(subject: str, apply_to_ordinary: Callable[[], Any]) -> Iterator[None]:
    """Refuse a model that fails on unusual values only; an error that ordinary values cause too is raised as it is."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 (Spark and py4j raise different errors for a stage that fails)
        apply_to_ordinary()
        raise ModelError(f"{subject} would stop the stream: {root_cause(error)}") from None


def require_same(spark: SparkSession, model: ServedModel, manifest: Manifest) -> None:
    """Check that a model reproduces the golden rows that were recorded after the training.

    The output must be equal to the last bit on the same Java and processor; elsewhere Java's exp and log differ in that
    bit.

    Args:
        spark: the session, which runs a job.
        model: the model.
        manifest: the manifest with the golden rows.

    Raises:
        ModelError: a row differs.
    """
    tolerance = 0.0 if versions(spark).java == manifest.versions.java else _OTHER_MACHINE
    examples = [_read(row) for row in manifest.golden]
    for number, example in enumerate(examples):
        if not model.fields and len(example) != model.size:
            raise ModelError(f"{MANIFEST}: golden row {number} has {len(example)} features, the model {model.size}")
    found = outcomes(spark, model, examples)
    for number, ((prediction, score), row) in enumerate(zip(found, manifest.golden, strict=True)):
        if prediction != row.prediction or not _is_near(score, row.score, tolerance):
            raise ModelError(
                f"{MANIFEST}: golden row {number} does not reproduce: after the training it was class "
                f"{row.prediction:g} with score {row.score!r}, this Spark computes {prediction:g} with {score!r}"
            )


def _is_near(score: float | None, wanted: float, tolerance: float) -> bool:
    """Return whether a score equals the wanted one within the tolerance; a missing score and NaN never do."""
    return score is not None and abs(score - wanted) <= tolerance * abs(wanted)


def versions(spark: SparkSession) -> Versions:
    """Return the versions of the running software."""
    return Versions(
        streamscore=__version__,
        spark=spark.version,
        python=platform.python_version(),
        java=jvm.java_version(spark),
    )


def _outcomes(model: ServedModel, data: DataFrame, count: int) -> list[tuple[float, float]]:
    rows = apply_models(data, [model]).collect()
    found = {row["number"]: (row[model.prediction], row[model.score]) for row in rows}
    if len(found) < count:
        raise ModelError(f"of {count} rows it drops {count - len(found)}: every event must be scored")
    return [found[number] for number in range(count)]


def _alike(spark: SparkSession, model: ServedModel, values: Sequence[float]) -> DataFrame:
    """Return one row per value in the form of ``_data``: a vector that has the value everywhere."""
    value = F.element_at(F.array(*map(F.lit, values)), F.col("number") + 1)
    rows = spark.range(0, len(values), 1, 1).select(F.col("id").cast("int").alias("number"))
    return rows.select("number", array_to_vector(F.array_repeat(value, model.size)).alias(FEATURES))


def _data(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> DataFrame:
    """Return examples as rows: ``number`` and ``features``.

    The JVM reads them from JSON, because ``createDataFrame`` would start a Python worker, which takes seconds.
    """
    schema = StructType([StructField("number", IntegerType()), StructField(FEATURES, features_type(model.fields))])
    told = json.dumps([{"number": number, FEATURES: _cell(one, model)} for number, one in enumerate(examples)])
    rows = spark.range(1).select(F.explode(F.from_json(F.lit(told), ArrayType(schema))).alias("row"))
    return rows.select("row.*")


def _cell(example: Example, model: ServedModel) -> dict[str, Any]:
    """Return an example as a JSON object with the column ``features``."""
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
