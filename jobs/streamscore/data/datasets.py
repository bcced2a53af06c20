"""Turn a data set of labels and features into Kafka messages: check it before any JVM starts, number it, encode it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from streamscore.config import Config, Seed
from streamscore.config.fields import VECTOR
from streamscore.data import columns, footers, vectors
from streamscore.errors import InputError
from streamscore.messages.formats import format_of
from streamscore.messages.formats.base import PARTS
from streamscore.spark import sources
from streamscore.spark.errors import translate_spark_errors

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from streamscore.config.fields import Field

NUMBER: Final = "number"
"""Column with a row's position in the data set, from 0."""

_VECTOR: Final = f"struct<{PARTS.format('int')}>"
"""Spark's storage type of a vector, which can be checked without a conversion from the vector type."""


@dataclass(frozen=True)
class NumberedRows:
    """The rows of a data set: ``number``, ``label`` (double or null) and ``features``.

    Features are the parts of a vector, or a struct of raw columns.
    """

    data: DataFrame
    count: int
    total: int
    """Number of rows of the whole data set; the first ``count`` of them are used."""
    digest: str
    """Hash of the rows and their order as 12 hexadecimal digits, independent of the files' names."""


def check_footer(settings: Seed, fields: Sequence[Field] = (), label_values: Mapping[str, float] | None = None) -> None:
    """Check a local parquet file, or a folder of parquet files, by the footers alone.

    Args:
        settings: the data set and its columns.
        fields: the required raw columns; empty for a vector.
        label_values: the class of each label that is a text or a boolean; None: labels are numbers.

    Raises:
        InputError: the data set is absent, not parquet or empty, has wrong columns or types, or Spark cannot
            decompress it.
    """
    if not footers.has_footers(settings.source):
        return  # Spark checks other data sets
    found = footers.read(settings.source)
    columns.require(found.types, settings, fields, label_values or {})
    found.require_codecs(columns.needed(settings, fields))
    if found.count == 0:
        raise InputError(f"{settings.source}: has the columns {', '.join(found.types)}, but no rows")


def numbered(
    spark: SparkSession,
    settings: Seed,
    fields: Sequence[Field] = (),
    label_values: Mapping[str, float] | None = None,
) -> NumberedRows:
    """Read a data set and number its rows in the order of its files' names and of the rows within.

    Args:
        spark: the session.
        settings: the data set and its columns.
        fields: the required raw columns; empty for a vector.
        label_values: the class of each label that is a text or a boolean; None: labels are numbers.

    Raises:
        InputError: the data set cannot be read, is empty, has wrong columns or types, or a row that makes no message.
    """
    from pyspark.sql import functions as F

    dataset, types = _needed_columns(spark, settings, fields, label_values or {})
    # The columns get names that differ from the aliases below: Spark would confuse equal names.
    cells = {name: F.col(f"_column_{place}") for place, name in enumerate(columns.needed(settings, fields))}
    label = _label(settings.label_column, cells, types, label_values or {})
    features = _raw(fields, cells) if fields else _vector(settings.features_column, cells, types)
    placed = dataset.select(
        *(F.col(_quoted(name)).alias(f"_column_{place}") for place, name in enumerate(cells)),
        F.col("_metadata.file_path").alias("file"),
        _row_index(settings.source).alias("index"),
    ).select(
        label.value.alias("label"),
        features.value.alias("features"),
        F.coalesce(features.problem, label.problem).alias("problem"),
        *("file", "index"),
    )
    # One pass computes each file's length, for the numbers, and its content's hash, for the digest.
    counted = (
        placed.groupBy("file")
        .agg(
            F.count("*").alias("count"),
            F.bit_xor(F.xxhash64("index", "label", "features")).alias("hash"),
            F.min(F.when(F.col("problem").isNotNull(), F.struct("index", "problem"))).alias("bad"),
        )
        .orderBy("file")
    )
    with translate_spark_errors(InputError, f"{settings.source}: cannot be read"):
        files = counted.collect()
    before = 0
    starts = []
    for row in files:
        if row["bad"] is not None:
            place = f"row {row['bad']['index'] + 1:,} of {row['file']}"
            raise InputError(f"{settings.source}: {place}: {row['bad']['problem']}")
        starts.append((row["file"], before))
        before += row["count"]
    if before == 0:
        raise InputError(f"{settings.source}: has the columns {', '.join(types)}, but no rows")
    counts_and_hashes = ";".join(f"{row['count']},{row['hash']}" for row in files)
    offsets = spark.createDataFrame(starts, "file string, start long")
    data = placed.join(F.broadcast(offsets), "file").select(
        (F.col("start") + F.col("index")).alias(NUMBER), "label", "features"
    )
    count = before
    if settings.limit is not None and settings.limit < count:
        count = settings.limit
        data = data.filter(F.col(NUMBER) < count)
    return NumberedRows(data, count, before, hashlib.sha256(counts_and_hashes.encode()).hexdigest()[:12])


def records(rows: NumberedRows, config: Config, rounds: range) -> DataFrame:
    """Return the rows as messages, once per round: ``number``, ``key``, ``value``, ``headers``, ``label``.

    With ``seed.label_delay`` the messages have no label.

    Args:
        rows: the rows of a data set.
        config: the configuration; its section ``message`` decides the format.
        rounds: the rounds; a row's number and key differ from round to round.
    """
    from pyspark.sql import functions as F

    round_number = F.lit(rounds[0]) if len(rounds) == 1 else F.explode(F.sequence(F.lit(rounds[0]), F.lit(rounds[-1])))
    repeated = rows.data.select("*", round_number.alias("round"))
    number = F.col(NUMBER) + F.col("round") * F.lit(rows.total).cast("long")  # independent of the number of rows used
    key = F.encode(F.concat_ws("-", F.lit(rows.digest), number.cast("string")), "UTF-8")
    label = F.col("label") if config.seed.label_delay is None else F.lit(None).cast("double")
    value = format_of(config.message).encode(label, F.col("features"), config.message)
    for name in reversed(config.message.root.split(".") if config.message.root else []):
        value = F.concat(F.lit(f"{{{json.dumps(name)}:"), value, F.lit("}"))
    header = F.struct(F.lit("id").alias("key"), F.col("key").alias("value"))
    encoded = repeated.select(number.alias(NUMBER), key.alias("key"), value.alias("value"), F.col("label"))
    return encoded.withColumn("headers", F.array(header))


def _needed_columns(
    spark: SparkSession, settings: Seed, fields: Sequence[Field], label_values: Mapping[str, float]
) -> tuple[DataFrame, Mapping[str, str]]:
    """Return the needed columns of a data set, and the Spark types of all columns that were read."""
    source = settings.source
    if footers.has_footers(source):
        types = footers.read(source).types
    else:
        inferred = sources.data_set(spark, source)
        types = {field.name: field.dataType.simpleString() for field in inferred.schema}
    columns.require(types, settings, fields, label_values)
    if sources.is_delta(source):
        return inferred, types
    # With an explicit schema Spark does not refuse a file for the type of a column that is not needed.
    types = {name: _VECTOR if kind == "vector" else kind for name, kind in types.items()}
    schema = ", ".join(f"{_quoted(name)} {types[name]}" for name in columns.needed(settings, fields))
    return sources.data_set(spark, source, schema), types


class _Read(NamedTuple):
    """A value of each row's message, and the reason why the row makes no message, null if it makes one."""

    value: Column
    problem: Column


def _label(
    name: str | None, cells: Mapping[str, Column], types: Mapping[str, str], label_values: Mapping[str, float]
) -> _Read:
    """Return the label, a double or null."""
    from pyspark.sql import functions as F

    if name is None:
        return _Read(F.lit(None).cast("double"), F.lit(None).cast("string"))
    column = cells[name]
    if columns.kind_of(types[name]) == "number":
        value = column.cast("double")
        is_wrong = F.abs(value) >= float("inf")  # in Spark NaN is greater than infinity
        problem = "is not a finite number"
    else:
        classes = F.create_map(*(F.lit(each) for pair in label_values.items() for each in pair))
        value = F.element_at(classes, column.cast("string"))
        is_wrong = column.isNotNull() & value.isNull()
        problem = "is none of the names in message.label_values"
    return _Read(value, F.when(is_wrong, F.lit(f"its label, {name!r}, {problem}")))


def _vector(name: str, cells: Mapping[str, Column], types: Mapping[str, str]) -> _Read:
    """Return the parts of the vector."""
    from pyspark.sql import functions as F

    vector = vectors.checked(cells[name], types[name])
    none = F.lit(
        f"its features, {name!r}, are absent, or they are not a vector such as (110,[8,9],[12.0,16.0]) or [0.0,1.5]"
    )
    infinite = F.lit(f"its features, {name!r}, have a value that is not a finite number")
    return _Read(vector.parts, F.when(vector.parts.isNull(), none).when(~vector.is_finite, infinite))


def _raw(fields: Sequence[Field], cells: Mapping[str, Column]) -> _Read:
    """Return the struct of the raw columns; NaN, which pandas writes for a missing number, becomes null."""
    from pyspark.sql import functions as F

    values = {field.name: cells[field.name].cast(field.type.lower()) for field in fields}
    problems = []
    for field in fields:
        if field.type == VECTOR:
            has_gap = F.exists(values[field.name], lambda it: it.isNull() | F.isnan(it) | (F.abs(it) == float("inf")))
            problems.append(
                F.when(has_gap, F.lit(f"its column {field.name!r} has a value that is not a finite number"))
            )
        if field.type in {"DOUBLE", "FLOAT"}:
            values[field.name] = F.nanvl(values[field.name], F.lit(None).cast(field.type.lower()))
            is_infinite = F.abs(values[field.name]) == float("inf")
            problems.append(F.when(is_infinite, F.lit(f"its column {field.name!r} is infinite")))
    struct = F.struct(*(value.alias(name) for name, value in values.items()))
    return _Read(struct, F.coalesce(*problems, F.lit(None).cast("string")))


def _quoted(name: str) -> str:
    """Return a column's name, quoted for Spark SQL."""
    return f"`{name.replace('`', '``')}`"


def _row_index(source: str) -> Column:
    """Return a row's position in its file."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    if not sources.is_delta(source):
        return F.col("_metadata.row_index")
    # Delta's reader has no such column, and reading the files without Delta would return deleted rows.
    in_file = Window.partitionBy("_metadata.file_path").orderBy(F.monotonically_increasing_id())
    return F.row_number().over(in_file) - 1
