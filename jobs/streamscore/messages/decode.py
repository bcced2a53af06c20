"""Decode and check messages: DataFrame in, DataFrame out. A bad message becomes a row with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from streamscore.schema import DETAIL, FEATURES, LABEL, REASON

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from streamscore.config.fields import Field


_TYPES: Final = {
    "INT": IntegerType(),
    "BIGINT": LongType(),
    "DOUBLE": DoubleType(),
    "BOOLEAN": BooleanType(),
    "STRING": StringType(),
    "SMALLINT": ShortType(),
    "TINYINT": ByteType(),
    "FLOAT": FloatType(),
    "DATE": DateType(),
    "TIMESTAMP": TimestampType(),
    "ARRAY<DOUBLE>": ArrayType(DoubleType()),
}

DECODER: Final = "streamscore_decode"
"""SQL name of the decoder."""

JSON_TEXT: Final = "streamscore_json_text"
"""SQL name of the conversion from text to JSON."""

MAX_KEY_BYTES: Final = 65_536
"""Longest key of a message in bytes: an outcome's record, which holds the key twice, still fits into any topic."""

_KEY_COPIES: Final = 7
"""Most bytes of an outcome's record per byte of the key: one in the record's key, and six as escaped JSON."""

_ORIGIN: Final = ("topic", "partition", "offset")


def features_type(fields: Sequence[Field]) -> DataType:
    """Return the type of a message's features: the struct of its raw columns, or a vector without any."""
    return StructType([StructField(field.name, _type(field)) for field in fields]) if fields else VectorUDT()


def _type(field: Field) -> DataType:
    if not field.type.startswith("DECIMAL"):
        return _TYPES[field.type]
    digits, scale = field.type.removeprefix("DECIMAL(").rstrip(")").split(",")
    return DecimalType(int(digits), int(scale))


def decoded_type(fields: Sequence[Field] = ()) -> StructType:
    """Return the type of a decoded message: label, features, reason and detail.

    A bad message has a reason; its features are a zero vector, or raw columns of nulls.
    """
    return StructType(
        [
            StructField(LABEL, DoubleType()),
            StructField(FEATURES, features_type(fields)),
            StructField(REASON, StringType()),
            StructField(DETAIL, StringType()),
        ]
    )


def decode(events: DataFrame, key_room: int | None = None) -> DataFrame:
    """Decode Kafka records.

    Args:
        events: ``topic``, ``partition``, ``offset``, ``timestamp``, ``key``, ``value`` and ``headers``, as Spark's
            Kafka source returns them.
        key_room: bytes for both copies of the key in an outcome's record, one of them as JSON; None: enough for the
            longest key. A smaller number needs a session with the SQL function ``JSON_TEXT``.

    Returns:
        ``event_id``, ``event_time`` (epoch milliseconds), ``key``, ``label``, ``features``, ``reason``, ``detail``,
        ``topic``, ``partition``, ``offset``, ``value`` and ``headers``; the last five are null for a good message.
    """
    # Without this barrier the optimiser calls the decoder once per use of each of its fields.
    decoded = F.when(F.spark_partition_id() >= 0, F.expr(f"{DECODER}(value)"))
    # Such a key is hardly intended, and the message's outcomes might exceed the topic's limit.
    long_key = F.octet_length("key") > MAX_KEY_BYTES
    limit = f"more than {MAX_KEY_BYTES}"
    if key_room is not None and key_room < MAX_KEY_BYTES * _KEY_COPIES:
        both = F.octet_length("key") + F.octet_length(F.expr(f"{JSON_TEXT}(key)"))
        long_key |= (F.octet_length("key") > key_room // _KEY_COPIES) & (both > key_room)
        limit = "more than the topic of the outcomes has room for"
    key_detail = F.concat(F.lit("the key has "), F.octet_length("key"), F.lit(f" bytes, {limit}"))
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
