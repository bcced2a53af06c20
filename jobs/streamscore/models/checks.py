"""Checks of a loaded model: its golden rows must reproduce, and no message may stop the stream."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, StructField, StructType

from streamscore import __version__
from streamscore.config.fields import VECTOR
from streamscore.errors import ModelError
from streamscore.messages.decode import features_type
from streamscore.models.gate.manifest import MANIFEST, Golden, Manifest, Vector, Versions
from streamscore.schema import FEATURES
from streamscore.scoring.apply import apply_models, apply_stages
from streamscore.scoring.declines import inputs, inside, pairs
from streamscore.scoring.renames import renames
from streamscore.scoring.served import ServedModel
from streamscore.spark import jvm
from streamscore.spark.errors import root_cause
from streamscore.system.console import log

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

    from streamscore.config.fields import Field

Example = SparseVector | DenseVector | Mapping[str, Any]
"""The features of one event: a vector, or the values of raw columns by name; a missing value is null."""

_LONGEST_INPUT: Final = 300
"""Longest text of an input in a message, in characters."""

_OTHER_MACHINE: Final = 1e-12
"""Relative tolerance of a score on another Java or processor, where exp and log differ in the last bit."""


_ORDINARY: Final[Mapping[str, Any]] = {
    "INT": 1,
    "BIGINT": 1,
    "DOUBLE": 1.0,
    "BOOLEAN": True,
    "STRING": "unseen \U0001f600",
    "SMALLINT": 1,
    "TINYINT": 1,
    "FLOAT": 1.0,
    "DECIMAL": 1,
    "DATE": "2026-01-31",
    "TIMESTAMP": "2026-01-31T12:00:00Z",
}
_LOWEST: Final[Mapping[str, Any]] = {
    "INT": -(1 << 31), "BIGINT": -(1 << 63), "DOUBLE": -1.7976931348623157e308, "BOOLEAN": False, "STRING": "",
    "SMALLINT": -(1 << 15), "TINYINT": -128, "FLOAT": -3.4e38, "DECIMAL": 0,
    "DATE": "0001-01-01", "TIMESTAMP": "0001-01-01T00:00:00Z",
}  # fmt: skip
_HIGHEST: Final[Mapping[str, Any]] = {
    "INT": (1 << 31) - 1, "BIGINT": (1 << 63) - 1, "DOUBLE": 1.79e308, "BOOLEAN": True, "STRING": "x" * 99,
    "SMALLINT": (1 << 15) - 1, "TINYINT": 127, "FLOAT": 3.4e38, "DECIMAL": 0,
    "DATE": "9999-12-31", "TIMESTAMP": "9999-12-31T00:00:00Z",
}  # fmt: skip


class Outcome(NamedTuple):
    """A model's output for an example."""

    prediction: float | None
    score: float | None
    declined: str | None = None
    """The reason and the column for which the model declines the example."""


def outcomes(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> list[Outcome]:
    """Return the outcome of each example, in order.

    Args:
        spark: the session, which runs a job.
        model: the model.
        examples: feature vectors, or rows of raw columns.

    Raises:
        ModelError: the model drops a row.
    """
    return _outcomes(model, _data(spark, model, examples), len(examples))


def rows(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> tuple[Golden, ...]:
    """Return golden rows: examples with the model's current output, without those that the model declines.

    Args:
        spark: the session, which runs a job.
        model: the model.
        examples: feature vectors, or rows of raw columns, with the values of a message or of a row of Spark.

    Raises:
        ModelError: the model declines all examples.
    """
    examples = [
        one if isinstance(one, DenseVector | SparseVector) else {name: _plain(value) for name, value in one.items()}
        for one in examples
    ]
    found = [
        Golden(**_written(example), prediction=outcome.prediction, score=outcome.score)
        for example, outcome in zip(examples, outcomes(spark, model, examples), strict=True)
        if outcome.prediction is not None and outcome.score is not None
    ]
    if not found:
        raise ModelError(f"the model declines all of the {len(examples)} examples")
    return tuple(found)


def require_steady(spark: SparkSession, model: ServedModel) -> None:
    """Check that no message can stop the stream or remain without an outcome.

    For raw columns the check tries no values at all, each column without a value, unseen texts, the limits of each
    type, and a value of each column that the stages know. For a vector it tries negative numbers, for which NaiveBayes
    has no outcome, and the limits of doubles. An event that the model declines has an outcome.

    Raises:
        ModelError: a message could stop the stream or remain without an outcome; the message names the stage, its
            columns and the input.
    """
    tried = _tried(model)
    data = _given(spark, model, list(tried.values()))
    try:
        found = _outcomes(model, data, len(tried))
    except ModelError:
        raise
    except Exception as error:
        is_of_types = isinstance(error, AnalysisException | IllegalArgumentException)
        plain = tried["known values" if model.fields else "zeros"]
        # What fails on any input may be a fault of the cluster, which another attempt may not have.
        if not is_of_types and _failing_stage(spark, model, plain) is not None:
            raise
        raise _broken(spark, model, tried) or error from None
    for subject, outcome in zip(tried, found, strict=True):
        is_number = all(value is not None and math.isfinite(value) for value in outcome[:2])
        if subject not in _EXTREME and not is_number and outcome.declined is None:
            raise ModelError(f"of a message with {subject} it makes {tuple(outcome[:2])}, which is no outcome")


_EXTREME: Final = frozenset({"the lowest numbers", "the highest numbers", "negative numbers"})
"""Inputs that must not stop the stream, but for which a score may be infinite."""


def _tried(model: ServedModel) -> dict[str, Example]:
    """Return inputs of all kinds, each with its subject for a message."""
    if not model.fields:
        values = {"zeros": 0.0, "negative numbers": -1.0}
        values |= {"the lowest numbers": _LOWEST["DOUBLE"], "the highest numbers": _HIGHEST["DOUBLE"]}
        return {subject: Vectors.dense([value] * model.size) for subject, value in values.items()}
    ordinary = {field.name: _of_type(_ORDINARY, field, model) for field in model.fields}
    known = {**ordinary, **_known(model)}
    return {
        "no values": {},
        "ordinary values": ordinary,
        "known values": known,
        **{f"no {field.name}": {**known, field.name: None} for field in model.fields},
        "the lowest numbers": {field.name: _of_type(_LOWEST, field, model) for field in model.fields},
        "the highest numbers": {field.name: _of_type(_HIGHEST, field, model) for field in model.fields},
    }


def _of_type(values: Mapping[str, Any], field: Field, model: ServedModel) -> Any:
    """Return the value of a column's type; of a vector as often as the vector is long."""
    if field.type == VECTOR:
        return [values["DOUBLE"]] * model.lengths.get(field.name, 1)
    return values[field.type.partition("(")[0]]


def _known(model: ServedModel) -> dict[str, Any]:
    """Return a value of each raw column that a StringIndexer or a Bucketizer knows."""
    types = {field.name: field.type for field in model.fields}
    found: dict[str, Any] = {}
    stages: Sequence[Any] = model.stages
    sources = {made: read for stage in stages for read, made in renames(stage)}
    for stage in stages:
        kind = type(stage).__name__
        if kind == "StringIndexerModel":
            found |= {
                read: labels[0] for (read, _), labels in zip(pairs(stage), stage.labelsArray, strict=True) if labels
            }
        elif kind == "Bucketizer":
            splits = stage.getSplitsArray() if stage.isSet("inputCols") else [stage.getSplits()]
            found |= {read: inside(bounds) for (read, _), bounds in zip(pairs(stage), splits, strict=True)}
    found = {sources.get(name, name): value for name, value in found.items()}
    return {name: _typed(value, types[name]) for name, value in found.items() if name in types}


def _typed(value: Any, kind: str) -> Any:
    """Return a value that a stage knows in the type of its column."""
    if kind in {"STRING", "BOOLEAN"}:
        return str(value) if kind == "STRING" else str(value).lower() == "true"
    return float(value) if kind in {"DOUBLE", "FLOAT"} else math.floor(float(value))


def _broken(spark: SparkSession, model: ServedModel, tried: Mapping[str, Example]) -> ModelError | None:
    """Return the error that names the first input that breaks a model, and the stage; None if no input does alone."""
    for subject, example in tried.items():
        stage = _failing_stage(spark, model, example)
        if stage is not None:
            shown = "" if subject == "zeros" else f", {_shown(example)}"
            return ModelError(
                f"a message with {subject}{shown} would stop the stream: the stage {type(stage).__name__} fails on it "
                f"at the column {', '.join(inputs(stage))}"
            )
    return None


def _failing_stage(spark: SparkSession, model: ServedModel, example: Example) -> Any:
    """Return the first stage of a model that fails on an input; None if none does. Runs a Spark job per stage."""
    data = _given(spark, model, [example])
    for count, stage in enumerate(model.stages, 1):
        try:
            apply_stages(data, model, model.stages[:count]).write.format("noop").mode("overwrite").save()
        except Exception as error:  # noqa: BLE001 (as above)
            log.debug("%s fails: %s", type(stage).__name__, root_cause(error))
            return stage
    return None


def _shown(example: Example) -> str:
    """Return an input as a short text."""
    if isinstance(example, DenseVector | SparseVector):
        return f"{len(example)} times {float(example[0]):g}"
    text = json.dumps(dict(example), ensure_ascii=False)
    return text if len(text) <= _LONGEST_INPUT else f"{text[:_LONGEST_INPUT]}…"


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
    for number, ((prediction, score, declined), row) in enumerate(zip(found, manifest.golden, strict=True)):
        if prediction != row.prediction or not _is_near(score, row.score, tolerance):
            now = f"computes {prediction:g} with {score!r}" if prediction is not None else f"declines it: {declined}"
            raise ModelError(
                f"{MANIFEST}: golden row {number} does not reproduce: after the training it was class "
                f"{row.prediction:g} with score {row.score!r}, this Spark {now}"
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


def _outcomes(model: ServedModel, data: DataFrame, count: int) -> list[Outcome]:
    rows = apply_models(data, [model]).collect()
    found = {row["number"]: _outcome(model, row) for row in rows}
    if len(found) < count:
        raise ModelError(f"of {count} rows it drops {count - len(found)}: every event must be scored")
    return [found[number] for number in range(count)]


def _outcome(model: ServedModel, row: Row) -> Outcome:
    declined = row[model.declined]
    reason = None if declined is None else f"{declined['reason']} in {declined['name']}"
    return Outcome(row[model.prediction], row[model.score], reason)


def _given(spark: SparkSession, model: ServedModel, tried: Sequence[Example]) -> DataFrame:
    """Return inputs of ``_tried`` in the form of ``_data``; a vector, which has one value, is repeated in the JVM."""
    if model.fields:
        return _data(spark, model, tried)
    value = F.element_at(F.array(*(F.lit(float(vector[0])) for vector in tried)), F.col("number") + 1)  # type: ignore[index]
    rows = spark.range(0, len(tried), 1, 1).select(F.col("id").cast("int").alias("number"))
    return rows.select("number", array_to_vector(F.array_repeat(value, model.size)).alias(FEATURES))


def _data(spark: SparkSession, model: ServedModel, examples: Sequence[Example]) -> DataFrame:
    """Return examples as rows: ``number`` and ``features``.

    The JVM reads them from JSON, because ``createDataFrame`` would start a Python worker, which takes seconds.
    """
    schema = StructType([StructField("number", IntegerType()), StructField(FEATURES, features_type(model.fields))])
    text = json.dumps([{"number": number, FEATURES: _cell(one, model)} for number, one in enumerate(examples)])
    rows = spark.range(1).select(F.explode(F.from_json(F.lit(text), ArrayType(schema))).alias("row"))
    return rows.select("row.*")


def _cell(example: Example, model: ServedModel) -> dict[str, Any]:
    """Return an example as a JSON object with the column ``features``."""
    if isinstance(example, DenseVector | SparseVector):
        vector: Vector = _written(example)["features"]
        return vector.model_dump(exclude_none=True)
    cells = ((field.name, example.get(field.name), field.type) for field in model.fields)
    is_real = {"DOUBLE", "FLOAT"}
    return {name: float(value) if kind in is_real and value is not None else value for name, value, kind in cells}


def _plain(value: Any) -> Any:
    """Return a value of a row of Spark as a message has it."""
    if isinstance(value, DenseVector | SparseVector):
        return tuple(value.toArray().tolist())
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, date):  # a time is a date too
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


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
