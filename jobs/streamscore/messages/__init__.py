"""From Kafka's bytes to columns, and from columns to Kafka's bytes and Elasticsearch's documents.

DataFrame in, DataFrame
out; nothing here reads or writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from streamscore import __version__
from streamscore.schema import (
    DETAIL,
    DOCUMENT_ID,
    EVENT_ID_HEADER,
    FEATURES,
    LABEL,
    NOT_KEPT,
    OUTCOME_FIELDS,
    REASON,
    REJECTED_HEADERS,
    TIME,
)

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from streamscore.config.fields import Field
    from streamscore.scoring import ServedModel

_TYPES: Final = {
    "INT": IntegerType(),
    "BIGINT": LongType(),
    "DOUBLE": DoubleType(),
    "BOOLEAN": BooleanType(),
    "STRING": StringType(),
}


def features_type(fields: Sequence[Field]) -> DataType:
    """Return the type of a message's features: the struct of its raw columns, or, where it has none, a vector."""
    return StructType([StructField(field.name, _TYPES[field.type]) for field in fields]) if fields else VectorUDT()


def decoded_type(fields: Sequence[Field] = ()) -> StructType:
    """Return what the decoder makes of a message.

    A bad one has a reason, and in the place of its features a zero vector, or raw columns that are all null.
    """
    return StructType(
        [
            StructField(LABEL, DoubleType()),
            StructField(FEATURES, features_type(fields)),
            StructField(REASON, StringType()),
            StructField(DETAIL, StringType()),
        ]
    )


DECODER: Final = "streamscore_decode"
"""Name under which the decoder is registered in SQL."""

JSON_TEXT: Final = "streamscore_json_text"
"""Name under which the way from text to JSON is registered in SQL."""

MAX_LABELS: Final = 100
"""Most labels that are counted one by one."""

MAX_KEY_BYTES: Final = 65_536
"""Longest key of a message: twice in an outcome's record, once as JSON, it still fits into what any topic takes."""

MAX_HEADERS_BYTES: Final = 4_096
"""More than the headers of ours on a bad message's record, and what Kafka adds to any record, ever take."""

_ORIGIN: Final = ("topic", "partition", "offset")
_IDENTITY: Final = ["event_id", "model", "model_version"]
"""What tells one outcome from all others; a bad message has its ``event_id``."""

_HEAD, _MODEL, _LABEL, _TAIL = "json_head", "json_model", "json_label", "json_tail"
"""Columns with pieces of an outcome's JSON, in this order, between two steps of ``records``."""


def decode(events: DataFrame) -> DataFrame:
    """Decode Kafka records.

    Args:
        events: ``topic``, ``partition``, ``offset``, ``timestamp``, ``key``, ``value`` and ``headers``, as Spark's
            Kafka source has them.

    Returns:
        ``event_id``, ``event_time`` (epoch milliseconds), ``key``, ``label``, ``features``, ``reason``, ``detail``,
        and, of a bad message only, its origin, ``value`` and ``headers``.
    """
    # Without this barrier the optimiser calls the decoder once per use of one of its fields.
    decoded = F.when(F.spark_partition_id() >= 0, F.expr(f"{DECODER}(value)"))
    # Who has such a key does not mean it: the message is rejected, for its outcomes might not fit into the topic.
    long_key = F.octet_length("key") > MAX_KEY_BYTES
    key_detail = F.concat(F.lit("the key has "), F.octet_length("key"), F.lit(f" bytes, more than {MAX_KEY_BYTES}"))
    bad = long_key | F.col("decoded.reason").isNotNull()
    return events.withColumn("decoded", decoded).select(
        F.concat_ws("-", *_ORIGIN).alias("event_id"),
        F.unix_millis("timestamp").alias("event_time"),
        "key",
        F.when(~F.coalesce(long_key, F.lit(False)), F.col(f"decoded.{LABEL}")).alias(LABEL),
        f"decoded.{FEATURES}",
        F.when(long_key, "too_large").otherwise(F.col(f"decoded.{REASON}")).alias(REASON),
        F.when(long_key, key_detail).otherwise(F.col(f"decoded.{DETAIL}")).alias(DETAIL),
        *(F.when(bad, F.col(name)).alias(name) for name in _ORIGIN),
        F.when(bad, F.col("value")).alias("value"),
        F.when(bad, F.col("headers")).alias("headers"),
    )


def judge(scored: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Drop the features and say for each model whether it was right: ``correct_<name>`` is 1, 0 or null (no label)."""
    judged = [
        F.when(F.col(LABEL).isNotNull(), (F.col(model.prediction) == F.col(LABEL)).cast("byte")).alias(_correct(model))
        for model in models
    ]
    return scored.select(*(name for name in scored.columns if name != FEATURES), *judged)


def quality(models: Sequence[ServedModel]) -> list[Column]:
    """Return the counts to observe on judged rows: events, rejected, labelled, each label, and right answers per model.

    Labels are counted up to the largest class of any model; with more than ``MAX_LABELS`` classes none is.
    """
    good = F.col(REASON).isNull()
    return [
        F.count("*").alias("events"),
        F.count(REASON).alias("rejected"),
        F.count(LABEL).alias("labelled"),
        *(F.count_if(good & (F.col(LABEL) == float(label))).alias(f"label_{label}") for label in _labels(models)),
        *(F.count_if(good & (F.col(_correct(model)) == 1)).alias(_correct(model)) for model in models),
    ]


# What is written of each batch is told in SQL: a column made in Python takes several calls to the JVM for each of its
# parts, and there are so many parts that the calls took a quarter of the time of a small batch.


def outcomes(judged: DataFrame, models: Sequence[ServedModel]) -> DataFrame:
    """Return one row per good event and model, with the columns of ``schema.OUTCOME_FIELDS``; ``key`` is bytes."""
    good = judged.filter(f"{REASON} IS NULL")
    rows = good.selectExpr("event_id", "key", LABEL, "event_time", f"inline({_per_model(models)})")
    return rows.select(*OUTCOME_FIELDS)


def records(
    judged: DataFrame, models: Sequence[ServedModel], predictions: str, rejected: str, max_bytes: int
) -> DataFrame:
    """Return judged rows as Kafka records: of a good event one per model, of a bad message one that says why.

    The record of an outcome has the event's own key, or else its id, and a JSON value. That of a bad message has its
    own key and value, and headers of ours behind its own; those whose names begin with ``__connect.errors.`` are named
    as in Kafka Connect's dead letter queue, so that existing tools read them. Of a bad message that is larger than the
    topic takes there are only headers of ours, which say where it is: it must not stop the stream.

    Args:
        judged: what ``judge`` returns, in a session that knows ``JSON_TEXT``.
        models: the models that were applied.
        predictions: topic of the outcomes.
        rejected: topic of the bad messages.
        max_bytes: largest record that it takes.

    Returns:
        ``topic``, ``key``, ``value`` and ``headers``, as Spark's Kafka sink takes them.
    """
    # One pass, so that a batch needs no place in memory if it goes to Kafka alone. What all records of an event have in
    # common is put together once; then there is a row per model, with as few columns as can be.
    of_event = {
        "topic": f"if({REASON} IS NULL, {_literal(predictions)}, {_literal(rejected)})",
        "key": f"if({REASON} IS NULL, coalesce(key, binary(event_id)), if({_fits(max_bytes)}, key, null))",
        "value": f"if({REASON} IS NULL, null, if({_fits(max_bytes)}, value, null))",
        "headers": f"if({REASON} IS NOT NULL, {_rejected_headers(max_bytes)}, null)",
        **_event_json(),
    }
    of_models = [name for model in models for name in (model.prediction, model.score, _correct(model))]
    rows = judged.selectExpr(REASON, *of_models, *(f"{sql} AS {name}" for name, sql in of_event.items()))
    rows = rows.selectExpr("*", f"inline_outer(if({REASON} IS NULL, {_per_model(models)}, null))")
    return rows.selectExpr(
        "topic", "key", f"if({REASON} IS NULL, binary({_outcome_json()}), value) AS value", "headers"
    )


def _per_model(models: Sequence[ServedModel]) -> str:
    """Return SQL for an array with what each model says of a row."""
    structs = (
        f"struct({_literal(model.name)} AS model, {_literal(model.version)} AS model_version, "
        f"{_literal(_model_json(model))} AS {_MODEL}, "
        f"{model.prediction} AS prediction, {model.score} AS score, {_correct(model)} AS correct)"
        for model in models
    )
    return f"array({', '.join(structs)})"


# A record's JSON is put together from a few pieces of text: to_json takes more than twice the time, and a step of a
# plan with any to_json in it is neither compiled as a whole nor joined to the steps around it.


def _event_json() -> dict[str, str]:
    """Return SQL for the pieces that all outcomes of an event have in common."""
    return {
        # Only a key is anybody's text; the others hold no character that JSON escapes.
        _HEAD: f"""concat('{{"event_id":"', event_id, '","key":', string({JSON_TEXT}(key)))""",
        _LABEL: f"""concat(',"label":', {_number(LABEL)}, ',"correct":')""",
        _TAIL: """concat(',"event_time":', event_time, '}')""",
    }


def _model_json(model: ServedModel) -> str:
    """Return the piece that names a model."""
    return f',"model":{json.dumps(model.name)},"model_version":{json.dumps(model.version)},"prediction":'


def _outcome_json() -> str:
    """Return SQL for the value of an outcome's record, of a row that ``_per_model`` has made."""
    # The usual numbers have their text ready.
    prediction = f"CASE prediction WHEN 0D THEN '0.0' WHEN 1D THEN '1.0' ELSE {_number('prediction')} END"
    correct = "CASE correct WHEN 1 THEN '1' WHEN 0 THEN '0' ELSE 'null' END"
    return f"""concat({_HEAD}, {_MODEL}, {prediction}, ',"score":', {_number("score")}, {_LABEL}, {correct}, {_TAIL})"""


def _fits(max_bytes: int) -> str:
    """Return SQL for whether a bad message, with headers of ours, is a record of at most that many bytes."""
    parts = " + ".join(f"coalesce(octet_length({part}), 0)" for part in ("key", "value", "string(headers)"))
    return f"{parts} <= {max_bytes - MAX_HEADERS_BYTES}"


def _rejected_headers(max_bytes: int) -> str:
    """Return SQL for the headers of a bad message's record."""
    fits = _fits(max_bytes)
    values = (
        "topic",
        "string(`partition`)",
        "string(`offset`)",
        "'DECODE'",
        f"concat({DETAIL}, if({fits}, '', {_literal(NOT_KEPT)}))",
        REASON,
        "event_id",
        _literal(__version__),
    )
    added = zip(REJECTED_HEADERS, values, strict=True)
    headers = ", ".join(f"struct('{name}' AS key, binary({value}) AS value)" for name, value in added)
    own = f"coalesce(if({fits}, headers, null), cast(array() AS array<struct<key:string,value:binary>>))"
    return f"concat({own}, array({headers}))"


def _number(name: str) -> str:
    """Return SQL for a number as JSON; those that are not finite become text, as to_json makes them."""
    return (
        f"CASE WHEN {name} IS NULL THEN 'null' WHEN {_is_finite(name)} THEN string({name}) "
        f"""ELSE concat('"', string({name}), '"') END"""
    )


def _is_finite(name: str) -> str:
    """Return SQL for whether a number is finite; to Spark NaN is larger than any other."""
    return f"abs({name}) < double('Infinity')"


def _literal(text: str) -> str:
    """Return text as SQL has it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def documents(outcomes: DataFrame) -> DataFrame:
    """Return outcomes as documents: the fields of the index, and ``document_id``, which is not one of them.

    A score that is not finite, a margin that overflowed, is left out: Elasticsearch would refuse its document.
    """
    return outcomes.selectExpr(
        f"concat_ws('-', event_id, model, model_version) AS {DOCUMENT_ID}",
        f"event_time AS `{TIME}`",
        "event_id",
        "string(key) AS key",
        *("model", "model_version", "prediction"),
        f"CASE WHEN {_is_finite('score')} THEN score END AS score",
        *(LABEL, "correct"),
    )


def table_rows(outcomes: DataFrame) -> DataFrame:
    """Return outcomes as rows of the Delta table: the fields of a record, with ``event_time`` as a timestamp."""
    typed = {"key": F.decode("key", "UTF-8"), "event_time": F.timestamp_millis("event_time")}
    return outcomes.select(*(typed.get(name, F.col(name)).alias(name) for name in OUTCOME_FIELDS))


def rows_without(rows: DataFrame, there: DataFrame) -> DataFrame:
    """Return the rows for the Delta table that are not among those that it has."""
    first = rows.agg(F.unix_micros(F.min("event_time"))).collect()[0][0]
    if first is None:
        return rows
    # Delta's statistics let it pass over the files of earlier times.
    later = there.filter(F.col("event_time") >= F.timestamp_micros(F.lit(first)))
    return rows.join(later.select(*_IDENTITY).distinct(), _IDENTITY, "left_anti").select(*rows.columns)


def rejected_documents(judged: DataFrame) -> DataFrame:
    """Return the bad messages as documents: which and why; ``document_id`` is not a field of theirs."""
    return judged.filter(f"{REASON} IS NOT NULL").selectExpr(
        f"event_id AS {DOCUMENT_ID}", f"event_time AS `{TIME}`", "event_id", REASON, DETAIL
    )


def records_without(records: DataFrame, written: DataFrame, rejected: str) -> DataFrame:
    """Return the records that are not among those that were written.

    Args:
        records: what ``records`` returns.
        written: records of the same topics, as Spark's Kafka source has them.
        rejected: topic of the bad messages, whose records name their event in a header.
    """
    there = written.select("topic", _identity(rejected).alias("identity")).distinct()
    told = records.withColumn("identity", _identity(rejected))
    return told.join(there, ["topic", "identity"], "left_anti").select(*records.columns)


def _identity(rejected: str) -> Column:
    """Return what tells a record from all others of its topic, whatever else it says of the same outcome."""
    value = F.from_json(F.col("value").cast("string"), ", ".join(f"{name} string" for name in _IDENTITY))
    # The last header of that name is ours: what came with the message stands before it.
    ids = F.filter("headers", lambda header: header["key"] == EVENT_ID_HEADER)
    return F.when(F.col("topic") == rejected, F.element_at(ids, -1)["value"].cast("string")).otherwise(F.to_json(value))


def _labels(models: Sequence[ServedModel]) -> range:
    classes = max(model.classes for model in models)
    return range(classes if classes <= MAX_LABELS else 0)


def _correct(model: ServedModel) -> str:
    return f"correct_{model.name}"
