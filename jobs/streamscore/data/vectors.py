"""Convert the vectors of a data set, however they are stored, to the parts of Spark's vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from streamscore.messages.formats.base import PARTS

if TYPE_CHECKING:
    from pyspark.sql import Column

_INFINITE: Final = float("inf")


class CheckedVector(NamedTuple):
    """The parts of a vector, and whether a message may contain it."""

    parts: Column
    """``type``, ``size``, ``indices`` and ``values``; null if the value is not a vector."""
    is_finite: Column
    """Whether all values are finite numbers; never null."""


def checked(features: Column, spark_type: str) -> CheckedVector:
    """Return the checked parts of a column of vectors.

    Args:
        features: Spark's vectors, structs of their parts, arrays of all values, or texts such as
            ``(110,[8,9],[12.0,16.0])`` and ``[0.0,1.5]``.
        spark_type: name of the column's Spark type.
    """
    from pyspark.sql import functions as F

    vector = _as_parts(features, spark_type)
    kind, size, indices = (vector[name] for name in ("type", "size", "indices"))
    values = vector["values"].cast("array<double>")
    places = indices.cast("array<int>")
    # Only functions that Spark compiles, because every row passes here twice.
    whole = places.cast("array<double>") == indices.cast("array<double>")
    ascending = F.sort_array(F.array_distinct(indices)) == indices
    within = (F.size(indices) == 0) | ((F.array_min(indices) >= 0) & (F.array_max(indices) < size))
    fits = whole & ascending & within & size.between(1, (1 << 31) - 1)
    is_sparse = (kind == 0) & (F.size(indices) == F.size(values)) & fits
    is_dense = (kind == 1) & (F.size(values) > 0)
    parts = F.struct(
        kind.cast("tinyint").alias("type"),
        F.when(kind == 0, size.cast("int")).alias("size"),
        F.when(kind == 0, places).alias("indices"),
        values.alias("values"),
    )
    # Whether numbers and nulls contain a NaN is null if they do not.
    numbers = ~F.array_contains(values, float("nan"))
    finite = (F.array_max(values) < _INFINITE) & (F.array_min(values) > -_INFINITE)
    is_finite = F.coalesce((F.size(values) == 0) | (numbers & finite), F.lit(False))
    return CheckedVector(F.when(is_sparse | is_dense, parts), is_finite)


def _as_parts(features: Column, spark_type: str) -> Column:
    from pyspark.sql import functions as F

    if spark_type == "string":
        return _parsed(features)
    if spark_type == "vector":
        return F.from_json(F.to_json(F.struct(features.alias("v"))), f"v struct<{PARTS.format('int')}>")["v"]
    if spark_type.startswith("array"):
        nothing = F.lit(None)
        return F.when(
            features.isNotNull(),
            F.struct(
                F.lit(1).alias("type"),
                nothing.cast("int").alias("size"),
                nothing.cast("array<int>").alias("indices"),
                features.cast("array<double>").alias("values"),
            ),
        )
    return features


def _parsed(text: Column) -> Column:
    """Return the parts of a vector from its printed text; null if the text is not a vector."""
    from pyspark.sql import functions as F

    numbers = r"\[([-+.,\s\w]*)\]"
    sparse = rf"^\s*\((\d+),\s*{numbers},\s*{numbers}\)\s*$"
    dense = rf"^\s*{numbers}\s*$"
    as_json = F.when(
        text.rlike(sparse), F.regexp_replace(text, sparse, r'{"type":0,"size":$1,"indices":[$2],"values":[$3]}')
    ).when(text.rlike(dense), F.regexp_replace(text, dense, r'{"type":1,"values":[$1]}'))
    # Parsed as doubles, because a fraction among whole numbers would be truncated or lost.
    return F.from_json(as_json, f"struct<{PARTS.format('double')}>")
