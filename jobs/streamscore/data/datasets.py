"""Turn a data set of labels and features into Kafka messages: check it before any JVM starts, number it, encode it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamscore.config import Config, Seed
from streamscore.errors import InputError
from streamscore.messages.formats import format_of
from streamscore.messages.formats.base import PARTS
from streamscore.spark import sources
from streamscore.spark.errors import translate_spark_errors
from streamscore.system.paths import is_local, local_path

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType

    from streamscore.config.fields import Field

NUMBER: Final = "number"
"""Column with a row's position in the data set, from 0."""

_WHOLE: Final = frozenset({"tinyint", "smallint", "int", "int8", "int16", "int32"})
_RAW_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "INT": _WHOLE,
    "BIGINT": _WHOLE | {"bigint", "int64"},
    "DOUBLE": _WHOLE | {"float", "double"},
    "BOOLEAN": frozenset({"boolean", "bool"}),
    "STRING": frozenset({"string", "large_string"}),
}
"""The types, Spark's and Arrow's names, that a raw column may have in a data set: those that become it without loss."""

_VECTOR_FIELDS: Final = ("type", "size", "indices", "values")


@dataclass(frozen=True)
class NumberedRows:
    """The rows of a data set: ``number``, ``label`` (double or null) and ``features``.

    Features are a vector, or its parts, or a struct of raw columns.
    """

    data: DataFrame
    count: int
    total: int
    """Rows of the whole data set; the first ``count`` of them are wanted."""
    digest: str
    """12 hexadecimal digits: a hash of the rows and their order, independent of the files' names."""


def check_footer(settings: Seed, fields: Sequence[Field] = ()) -> None:
    """Check a local parquet file, or a folder of them, by its footers alone.

    Args:
        settings: the data set and its columns.
        fields: raw columns that it must have instead of a vector; empty if it has a vector.

    Raises:
        InputError: it is absent, not parquet or empty, or has other columns or types than needed.
    """
    source = settings.source
    if not is_local(source) or sources.is_delta(source):
        return  # Spark checks these
    import pyarrow as pa
    import pyarrow.dataset as pads

    path = local_path(source)
    if not path.exists():
        raise InputError(
            f"{source}: no such file or folder. `streamscore train` writes a test set; --source names another"
        )
    try:
        dataset = pads.dataset(path, format="parquet")
        count = dataset.count_rows()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{source}: not parquet ({str(error).splitlines()[0]})") from None
    if not dataset.files:
        raise InputError(f"{source}: no parquet file in this folder")
    kind = str if fields else _arrow_kind
    _require_columns({field.name: kind(field.type) for field in dataset.schema}, settings, fields)
    if count == 0:
        raise InputError(f"{source}: has the columns {', '.join(dataset.schema.names)}, but no rows")


def numbered(spark: SparkSession, settings: Seed, fields: Sequence[Field] = ()) -> NumberedRows:
    """Read a data set and number its rows in the order of its files' names and of the rows within.

    Args:
        spark: the session.
        settings: the data set and its columns.
        fields: raw columns that it must have instead of a vector; empty if it has a vector.

    Raises:
        InputError: it cannot be read, is empty, has other columns or types than needed, or a row that makes no message.
    """
    from pyspark.sql import functions as F

    dataset = sources.data_set(spark, settings.source)
    types = {field.name: field.dataType for field in dataset.schema}
    kinds = {name: kind.simpleString() if fields else _spark_kind(kind) for name, kind in types.items()}
    _require_columns(kinds, settings, fields)
    label = F.lit(None) if settings.label_column is None else F.col(f"`{settings.label_column}`")
    if fields:
        features = F.struct(*(F.col(field.name).cast(field.type.lower()).alias(field.name) for field in fields))
    else:
        features = F.col(f"`{settings.features_column}`")
        if _spark_kind(dataset.schema[settings.features_column].dataType) == "text":
            features = _parsed(features)
    placed = dataset.select(
        label.cast("double").alias("label"),
        features.alias("features"),
        F.col("_metadata.file_path").alias("file"),
        _row_index(settings.source).alias("index"),
    )
    unusable = F.col("features").isNull() | (F.abs("label") >= float("inf"))  # Spark takes NaN for more than that
    # One pass gives each file's length, for the numbers, and its content's hash, for the digest.
    counted = (
        placed.groupBy("file")
        .agg(
            F.count("*").alias("count"),
            F.bit_xor(F.xxhash64("index", "label", "features")).alias("hash"),
            F.min(F.when(unusable, F.col("index"))).alias("bad"),
        )
        .orderBy("file")
    )
    with translate_spark_errors(InputError, f"{settings.source}: cannot be read"):
        files = counted.collect()
    before = 0
    starts = []
    for row in files:
        if row["bad"] is not None:
            raise InputError(
                f"{settings.source}: row {row['bad'] + 1:,} of {row['file']} has no features, or they are not a vector "
                "such as (110,[8,9],[12.0,16.0]), or its label is not a finite number"
            )
        starts.append((row["file"], before))
        before += row["count"]
    if before == 0:
        raise InputError(f"{settings.source}: has the columns {', '.join(dataset.columns)}, but no rows")
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
    """Return the rows as messages, once per round: ``number``, ``key``, ``value``, ``headers``.

    Args:
        rows: the rows of a data set.
        config: the configuration; its section ``message`` decides the format.
        rounds: the rounds; a row's number and key differ from round to round.
    """
    from pyspark.sql import functions as F

    round_number = F.lit(rounds[0]) if len(rounds) == 1 else F.explode(F.sequence(F.lit(rounds[0]), F.lit(rounds[-1])))
    repeated = rows.data.select("*", round_number.alias("round"))
    number = F.col(NUMBER) + F.col("round") * F.lit(rows.total).cast("long")  # the same, however many are wanted
    key = F.encode(F.concat_ws("-", F.lit(rows.digest), number.cast("string")), "UTF-8")
    value = format_of(config.message).encode(F.col("label"), F.col("features"), config.message)
    header = F.struct(F.lit("id").alias("key"), F.col("key").alias("value"))
    encoded = repeated.select(number.alias(NUMBER), key.alias("key"), value.alias("value"))
    return encoded.withColumn("headers", F.array(header))


def _row_index(source: str) -> Column:
    """Return a row's position in its file."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    if not sources.is_delta(source):
        return F.col("_metadata.row_index")
    # Delta's reader has no such column, and reading the files without Delta would return deleted rows.
    in_file = Window.partitionBy("_metadata.file_path").orderBy(F.monotonically_increasing_id())
    return F.row_number().over(in_file) - 1


def _parsed(text: Column) -> Column:
    """Return the parts of a vector from its printed text, or null if no message may have such a vector."""
    from pyspark.sql import functions as F

    numbers = r"\[([-+.,\s\w]*)\]"
    sparse = rf"^\s*\((\d+),\s*{numbers},\s*{numbers}\)\s*$"
    dense = rf"^\s*{numbers}\s*$"
    as_json = F.when(
        text.rlike(sparse), F.regexp_replace(text, sparse, r'{"type":0,"size":$1,"indices":[$2],"values":[$3]}')
    ).when(text.rlike(dense), F.regexp_replace(text, dense, r'{"type":1,"values":[$1]}'))
    # As numbers of any kind, since a fraction among whole numbers would be cut off or lost.
    parts = F.from_json(as_json, f"struct<{PARTS.format('double')}>")
    size, indices, values = parts["size"], parts["indices"], parts["values"]
    ascending = F.array_sort(F.array_distinct(indices)) == indices
    fitting = F.forall(indices, lambda index: (index == F.floor(index)) & index.between(0, size - 1))
    is_sparse = (size > 0) & (F.size(indices) == F.size(values)) & ascending & fitting
    is_dense = (parts["type"] == 1) & (F.size(values) > 0)
    finite = F.forall(values, lambda value: F.abs(value) < float("inf"))
    whole = F.struct(parts["type"], size, indices.cast("array<int>").alias("indices"), values)
    return F.when((is_sparse | is_dense) & finite, whole)


def _require_columns(kinds: Mapping[str, str], settings: Seed, fields: Sequence[Field]) -> None:
    """Check that a data set has the columns that the settings name.

    Args:
        kinds: each column's kind (vector, text, number) or, if raw columns are needed, its type, by name.
        settings: the data set and its columns.
        fields: the raw columns that are needed; empty for a vector.

    Raises:
        InputError: a column is missing or has another kind or type.
    """
    required: list[tuple[str, Collection[str]]]
    if fields:
        required = [(field.name, _RAW_TYPES[field.type]) for field in fields]
        label: Collection[str] = _RAW_TYPES["DOUBLE"] | {"bigint", "int64"}
        way_out = "message.fields says which are needed, --label-column which is the label"
    else:
        required = [(settings.features_column, ("vector", "text"))]
        label = ("number",)
        way_out = "Name others with --label-column and --features-column"
    if settings.label_column is not None:
        required.append((settings.label_column, label))
    for name, allowed in required:
        if kinds.get(name) not in allowed:
            there = ", ".join(f"{column} ({kind})" for column, kind in kinds.items()) or "none"
            problem = "no column" if name not in kinds else f"the wrong type, {kinds[name]}, for"
            needed = f"one of {', '.join(sorted(allowed))}" if fields else f"a {' or a '.join(allowed)}"
            raise InputError(
                f"{settings.source}: {problem} {name!r}, which must be {needed}. The columns found: {there}. {way_out}"
            )


def _arrow_kind(kind: pa.DataType) -> str:
    from pyarrow import types

    if types.is_struct(kind) and {field.name for field in kind} == set(_VECTOR_FIELDS):
        return "vector"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    return "text" if types.is_string(kind) or types.is_large_string(kind) else str(kind)


def _spark_kind(kind: DataType) -> str:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import NumericType, StringType

    if isinstance(kind, VectorUDT):
        return "vector"
    if isinstance(kind, NumericType):
        return "number"
    return "text" if isinstance(kind, StringType) else kind.simpleString()
