"""Outcomes and rejected messages as records of the two output topics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import functions as F

from streamscore import __version__
from streamscore.clients import kafka as client
from streamscore.messages.decode import JSON_TEXT
from streamscore.schema import DETAIL, EVENT_ID_HEADER, LABEL, NOT_KEPT, REASON, REJECTED_HEADERS
from streamscore.scoring.outcomes import IDENTITY, MODEL_JSON, is_finite, literal, per_model
from streamscore.sinks.base import Batch, OutcomeSink, Replay
from streamscore.sinks.topics import ends, write_topic, written_since
from streamscore.system import failpoints
from streamscore.system.console import log

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from streamscore.scoring.served import ServedModel

MAX_HEADERS_BYTES: Final = 4_096
"""Upper bound in bytes of our headers on a bad message's record plus Kafka's overhead per record."""

_HEAD, _LABEL, _TAIL = "json_head", "json_label", "json_tail"
"""Columns with the JSON parts that all outcomes of an event share."""


@dataclass
class Records(OutcomeSink):
    """A sink of one record per model for a good event, and one record in the rejected topic for a bad message."""

    label = "kafka_records"

    max_record_bytes: int = client.MAX_MESSAGE_BYTES
    """Largest record that the rejected topic accepts, in bytes."""

    @property
    def name(self) -> str:
        """Both topics."""
        names = self.config.kafka.topics
        return f"the Kafka topics {names.predictions!r} and {names.rejected!r}"

    def check(self) -> list[str]:
        """Create the missing topics, and check that this user may write to both, before any document is written.

        Returns:
            The names of the topics that were created.

        Raises:
            ServerError: no broker answers, or a topic cannot be created.
        """
        kafka, names = self.config.kafka, self.config.kafka.topics
        created = client.ensure(kafka, names.predictions, names.rejected)
        # A new topic may not be known to every broker yet.
        existing = [topic for topic in (names.predictions, names.rejected) if topic not in created]
        client.require_writable(kafka, *existing)
        return [f"the topic {name}" for name in created]

    def prepare(self, spark: SparkSession) -> None:  # noqa: ARG002 (the broker is asked without Spark)
        """Ask the broker for the size of the largest record that the rejected topic accepts.

        Raises:
            ServerError: no broker answers.
        """
        self.max_record_bytes = client.max_message_bytes(self.config.kafka, self.config.kafka.topics.rejected)

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return the current end offsets and the ids of both topics.

        Raises:
            ServerError: no broker answers, or too few replicas have the last records.
        """
        return ends(self.config.kafka, self._topics)

    @property
    def _topics(self) -> list[str]:
        names = self.config.kafka.topics
        return [names.predictions, names.rejected]

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the records of both topics."""
        names = self.config.kafka.topics
        limit = min(self.max_record_bytes, client.MAX_RECORD_BYTES)
        return records(rows, self.models, names.predictions, names.rejected, limit)

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Append the records; on a replay only those that the topics do not hold yet."""
        kafka, names = self.config.kafka, self.config.kafka.topics
        if replay is not None:
            log.info("a batch that may have been written before: looking for what is there")
            written = written_since(shaped.sparkSession, kafka, self._topics, replay, batch.is_stopping)
            shaped = records_without(shaped, written, names.rejected)
        failpoints.write("records", shaped, lambda part: write_topic(part, kafka))


def records(
    evaluated: DataFrame, models: Sequence[ServedModel], predictions: str, rejected: str, max_bytes: int
) -> DataFrame:
    """Return evaluated rows as Kafka records: one per model for a good event, one with the reason for a bad message.

    An outcome's record has the event's key, or else its id, and a JSON value. A bad message's record has the message's
    key, value and headers, followed by our headers; those whose names begin with ``__connect.errors.`` are named as in
    Kafka Connect's dead letter queue, so that existing tools read them. The record of a bad message that exceeds the
    topic's limit has our headers alone, which name its position, so that the message does not stop the stream.

    Args:
        evaluated: the rows of ``with_correct``, in a session with the SQL function ``JSON_TEXT``.
        models: the models that were applied.
        predictions: topic of the outcomes.
        rejected: topic of the bad messages.
        max_bytes: largest record that the rejected topic accepts.

    Returns:
        ``topic``, ``key``, ``value`` and ``headers``, the columns of Spark's Kafka sink.
    """
    # One pass, so that a batch for Kafka alone needs no cache. The parts that all records of an event share are built
    # once, before the row is multiplied per model with as few columns as possible.
    of_event = {
        "topic": f"if({REASON} IS NULL, {literal(predictions)}, {literal(rejected)})",
        "key": f"if({REASON} IS NULL, coalesce(key, binary(event_id)), if({_fits(max_bytes)}, key, null))",
        "value": f"if({REASON} IS NULL, null, if({_fits(max_bytes)}, value, null))",
        "headers": f"if({REASON} IS NOT NULL, {_rejected_headers(max_bytes)}, null)",
        **_event_json(),
    }
    of_models = [name for model in models for name in (model.prediction, model.score, model.correct, model.declined)]
    rows = evaluated.selectExpr(REASON, *of_models, *(f"{sql} AS {name}" for name, sql in of_event.items()))
    rows = rows.selectExpr("*", f"inline_outer(if({REASON} IS NULL, {per_model(models)}, null))")
    return rows.selectExpr(
        "topic", "key", f"if({REASON} IS NULL, binary({_outcome_json()}), value) AS value", "headers"
    )


def _event_json() -> dict[str, str]:
    """Return SQL for the JSON parts that all outcomes of an event share."""
    return {
        # Only a key may contain characters that JSON escapes.
        _HEAD: f"""concat('{{"event_id":"', event_id, '","key":', string({JSON_TEXT}(key)))""",
        _LABEL: f"""concat(',"label":', {_number(LABEL)}, ',"correct":')""",
        _TAIL: """concat(',"event_time":', event_time, '}')""",
    }


def _outcome_json() -> str:
    """Return SQL for the value of an outcome's record, from a row of ``per_model``."""
    # The texts of the usual numbers are constants.
    prediction = f"CASE prediction WHEN 0D THEN '0.0' WHEN 1D THEN '1.0' ELSE {_number('prediction')} END"
    correct = "CASE correct WHEN 1 THEN '1' WHEN 0 THEN '0' ELSE 'null' END"
    score = f"""',"score":', {_number("score")}"""
    column = f"string({JSON_TEXT}(binary(declined_column)))"
    declined = f"""concat(',"declined":"', declined, '","declined_column":', {column})"""
    declined = f"""if(declined IS NULL, ',"declined":null,"declined_column":null', {declined})"""
    return f"concat({_HEAD}, {MODEL_JSON}, {prediction}, {score}, {_LABEL}, {correct}, {declined}, {_TAIL})"


def _fits(max_bytes: int) -> str:
    """Return SQL for whether a bad message with our headers makes a record of at most ``max_bytes`` bytes."""
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
        f"concat({DETAIL}, if({fits}, '', {literal(NOT_KEPT)}))",
        REASON,
        "event_id",
        literal(__version__),
    )
    added = zip(REJECTED_HEADERS, values, strict=True)
    headers = ", ".join(f"struct('{name}' AS key, binary({value}) AS value)" for name, value in added)
    own = f"coalesce(if({fits}, headers, null), cast(array() AS array<struct<key:string,value:binary>>))"
    return f"concat({own}, array({headers}))"


def _number(name: str) -> str:
    """Return SQL for a number as JSON; like to_json it writes numbers that are not finite as text."""
    return (
        f"CASE WHEN {name} IS NULL THEN 'null' WHEN {is_finite(name)} THEN string({name}) "
        f"""ELSE concat('"', string({name}), '"') END"""
    )


def records_without(records: DataFrame, written: DataFrame, rejected: str) -> DataFrame:
    """Return the records that were not written before.

    Args:
        records: the result of ``records``.
        written: records of the same topics, in the columns of Spark's Kafka source.
        rejected: topic of the bad messages, whose records name their event in a header.
    """
    there = written.select("topic", _identity(rejected).alias("identity")).distinct()
    identified = records.withColumn("identity", _identity(rejected))
    return identified.join(there, ["topic", "identity"], "left_anti").select(*records.columns)


def _identity(rejected: str) -> Column:
    """Return the identity of a record within its topic; records of the same outcome have the same identity."""
    value = F.from_json(F.col("value").cast("string"), ", ".join(f"{name} string" for name in IDENTITY))
    # The last header of that name is ours: the message's own headers stand before it.
    ids = F.filter("headers", lambda header: header["key"] == EVENT_ID_HEADER)
    return F.when(F.col("topic") == rejected, F.element_at(ids, -1)["value"].cast("string")).otherwise(F.to_json(value))
