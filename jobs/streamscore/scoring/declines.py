"""Decline the events that a stage of a pipeline cannot take, before the stage fails on them or drops them.

What a stage cannot take follows from its own parameters. Such an event gets a reason and the name of a column, and
passes the stage with a replacement in the place of that value, in the same pass over the rows as all other events; its
outcome is removed at the end. The values of all other events stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyspark.sql import functions as F

from streamscore.schema import DeclineReason
from streamscore.scoring.renames import renames

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructField

DECLINED: Final = "streamscore_declined"
"""Column with the first reason and the column's name while a pipeline runs; null for an event that is not declined."""

DECLINED_TYPE: Final = "struct<reason:string,name:string>"

_INTEGERS: Final = frozenset({"tinyint", "smallint", "int", "bigint"})


class _Check(NamedTuple):
    """A condition on a row's column, and the value that the column has in its place."""

    column: str
    condition: Column
    reason: DeclineReason
    replacement: Column


class Guard:
    """The way of one model's rows through its stages.

    Args:
        columns: the columns that the pipeline reads from a message.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._source = {name: name for name in columns}
        """The message's column behind each column that has one."""
        self._indexed: dict[str, int] = {}
        """Number of categories of the columns that a StringIndexer made."""

        self._whole: set[str] = set()
        """Columns that are never null: those that a StringIndexer made, and the vectors of these."""

    def transform(self, data: DataFrame, stage: Any, apply: Callable[[DataFrame, Any], DataFrame]) -> DataFrame:
        """Apply a stage to the rows that it can take, and to replacements of the others.

        Args:
            data: the rows.
            stage: the stage.
            apply: applies a stage to rows.

        Returns:
            The rows with the stage's columns, and with ``DECLINED`` once a stage could decline an event.
        """
        before, after = _BEFORE.get(type(stage).__name__), _AFTER.get(type(stage).__name__)
        if before is not None:
            data = self._declined(data, list(before(self, data, stage)))
        if after is not None and _handles(stage) != "keep":
            made = apply(data, stage).schema  # with the stage's own metadata, on which later stages depend
            data = apply(data, stage.copy({stage.handleInvalid: "keep"}))
            data = self._declined(data, list(after(self, data, stage)), made)
        elif before is not None and _handles(stage) == "skip":
            data = apply(data, stage.copy({stage.handleInvalid: "error"}))
        else:
            data = apply(data, stage)
        if type(stage).__name__ == "StringIndexerModel" and _handles(stage) == "keep":
            made_by_it = zip(pairs(stage), stage.labelsArray, strict=True)
            self._indexed |= {name: len(labels) + 1 for (_, name), labels in made_by_it}
        for read, made_of_it in pairs(stage):
            self._source[made_of_it] = self._source.get(read, read)
            if made_of_it in self._indexed or (read in self._whole and type(stage).__name__ == "OneHotEncoderModel"):
                self._whole.add(made_of_it)
        return data

    def with_vectors(self, data: DataFrame, lengths: Mapping[str, int]) -> DataFrame:
        """Turn arrays into dense vectors; decline a row without one, or with one of another length.

        Args:
            data: the rows.
            lengths: length of each column that becomes a vector.
        """
        from pyspark.ml.functions import array_to_vector

        checks = []
        for name, length in lengths.items():
            zeros = F.array_repeat(F.lit(0.0), length)
            is_other = F.size(quoted(name)) != length
            checks.append(_Check(name, quoted(name).isNull(), "null_value", zeros))
            checks.append(_Check(name, quoted(name).isNotNull() & is_other, "out_of_range", zeros))
        data = self._declined(data, checks)
        columns = []
        for name in data.columns:
            metadata = {"ml_attr": {"num_attrs": lengths.get(name)}}
            vector = array_to_vector(quoted(name)).alias(name, metadata=metadata) if name in lengths else quoted(name)
            columns.append(vector)
        return data.select(*columns) if lengths else data

    def _declined(self, data: DataFrame, checks: Sequence[_Check], schema: Any = None) -> DataFrame:
        """Note the first check that a row fails, and replace the values at fault.

        Args:
            data: the rows.
            checks: the checks.
            schema: a schema with the metadata of the columns; None: that of the rows.
        """
        if not checks and schema is None:
            return data
        schema = data.schema if schema is None else schema
        replaced: dict[str, Column] = {}
        reasons = [quoted(DECLINED)] if DECLINED in data.columns else []
        for check in checks:
            reason = F.struct(F.lit(check.reason).alias("reason"), F.lit(self._named(check.column)).alias("name"))
            reasons.append(F.when(check.condition, reason))
            value = replaced.get(check.column, quoted(check.column))
            replaced[check.column] = F.when(check.condition, check.replacement).otherwise(value)
        columns = []
        for field in schema:
            if field.name in replaced or field.metadata != data.schema[field.name].metadata:
                value = replaced.get(field.name, quoted(field.name))
                columns.append(value.alias(field.name, metadata=field.metadata))
            elif field.name != DECLINED:
                columns.append(quoted(field.name))
        return data.select(*columns, *([F.coalesce(*reasons).alias(DECLINED)] if reasons else []))

    def _named(self, column: str) -> str:
        return self._source.get(column, column)

    def assembled(self, data: DataFrame, stage: Any) -> Iterator[_Check]:
        """Yield the checks before a VectorAssembler, which takes neither null nor NaN, or an Interaction."""
        is_assembler = stage.hasParam("handleInvalid")
        if is_assembler and _handles(stage) == "keep":
            return
        for name in stage.getInputCols():
            field = data.schema[name]
            value = quoted(name)
            is_missing = value.isNull()
            if is_assembler and field.dataType.simpleString() in {"double", "float"}:
                is_missing |= F.isnan(value)
            replacement = _zero(field)
            if replacement is not None and name not in self._whole:
                yield _Check(name, is_missing, "null_value", replacement)

    def tokenized(self, data: DataFrame, stage: Any) -> Iterator[_Check]:
        """Yield the check before a Tokenizer, which takes no null."""
        del data
        name = stage.getInputCol()
        yield _Check(name, quoted(name).isNull(), "null_value", F.lit(""))

    def bucketized(self, data: DataFrame, stage: Any) -> Iterator[_Check]:
        """Yield the checks before a Bucketizer, which takes no number out of its splits, whatever its handleInvalid."""
        how = _handles(stage)
        several = stage.isSet("inputCols")
        splits = stage.getSplitsArray() if several else [stage.getSplits()]
        for (name, _), bounds in zip(pairs(stage), splits, strict=True):
            kind = data.schema[name].dataType.simpleString()
            value, low, high = quoted(name).cast("double"), bounds[0], bounds[-1]
            replacement = F.lit(inside(bounds, is_whole=kind in _INTEGERS)).cast(kind)
            is_missing = F.isnan(value) if how != "keep" and kind in {"double", "float"} else F.lit(False)
            if how == "skip":
                is_missing |= value.isNull()
            if how != "keep":
                yield _Check(name, is_missing, "null_value", replacement)
            if math.isfinite(low) or math.isfinite(high):
                yield _Check(name, ~F.isnan(value) & ((value < low) | (value > high)), "out_of_range", replacement)

    def encoded(self, data: DataFrame, stage: Any) -> Iterator[_Check]:
        """Yield the checks before a OneHotEncoder, which takes no category that the training had not."""
        if _handles(stage) == "keep":
            return
        for (name, _), size in zip(pairs(stage), stage.categorySizes, strict=True):
            if self._indexed.get(name, math.inf) <= size:
                continue
            value, zero = quoted(name).cast("double"), F.lit(0).cast(data.schema[name].dataType)
            is_outside = ~F.isnan(value) & ((value < 0) | (value >= size))
            yield _Check(name, F.isnan(value), "null_value", zero)
            yield _Check(name, is_outside, "unknown_category" if name in self._indexed else "out_of_range", zero)

    def indexed(self, data: DataFrame, stage: Any) -> Iterator[_Check]:
        """Yield the checks after a StringIndexer that gave all unknown texts the number after the last one."""
        for (name, made), labels in zip(pairs(stage), stage.labelsArray, strict=True):
            if made not in data.columns:
                continue
            is_unknown = quoted(made) == len(labels)
            is_null = quoted(name).isNull()
            self._source[made] = self._named(name)
            self._indexed[made] = len(labels)
            yield _Check(made, is_unknown & is_null, "null_value", F.lit(0.0))
            yield _Check(made, is_unknown & ~is_null, "unknown_category", F.lit(0.0))

    def vector_indexed(self, data: DataFrame, stage: Any) -> Iterator[_Check]:
        """Yield the check after a VectorIndexer that gave unknown values the number after the last one."""
        from pyspark.ml.functions import vector_to_array

        del data
        made = stage.getOutputCol()
        values = vector_to_array(quoted(made))
        is_unknown = F.lit(False)
        for feature, numbers in stage.categoryMaps.items():
            is_unknown |= F.get(values, F.lit(feature)) == len(numbers)
        self._source[made] = self._named(stage.getInputCol())
        yield _Check(made, is_unknown, "unknown_category", quoted(made))


_BEFORE: Final[Mapping[str, Callable[[Guard, Any, Any], Iterator[_Check]]]] = {
    "VectorAssembler": Guard.assembled,
    "Interaction": Guard.assembled,
    "Tokenizer": Guard.tokenized,
    "RegexTokenizer": Guard.tokenized,
    "Bucketizer": Guard.bucketized,
    "OneHotEncoderModel": Guard.encoded,
}
_AFTER: Final[Mapping[str, Callable[[Guard, Any, Any], Iterator[_Check]]]] = {
    "StringIndexerModel": Guard.indexed,
    "VectorIndexerModel": Guard.vector_indexed,
}
"""Stages that run with ``handleInvalid: keep``, which marks what they would not take otherwise."""


def quoted(name: str) -> Column:
    """Return the column of exactly this name, whatever characters the name has."""
    return F.col(f"`{name.replace('`', '``')}`")


def pairs(stage: Any) -> list[tuple[str, str]]:
    """Return the columns that a stage makes of one other column each, as (read, made)."""
    renamed = renames(stage)
    if renamed:
        return list(renamed)
    if stage.hasParam("inputCols") and stage.isSet("inputCols"):
        if not (stage.hasParam("outputCols") and stage.isSet("outputCols")):
            return []
        return list(zip(stage.getInputCols(), stage.getOutputCols(), strict=True))
    if stage.hasParam("inputCol") and stage.isDefined("inputCol") and stage.hasParam("outputCol"):
        return [(stage.getInputCol(), stage.getOutputCol())]
    return []


def inputs(stage: Any) -> list[str]:
    """Return the columns that a stage reads."""
    read: list[str] = []
    for param in ("inputCols", "inputCol", "featuresCol"):
        if stage.hasParam(param) and stage.isDefined(param):
            value = stage.getOrDefault(param)
            read += [value] if isinstance(value, str) else value
    return read


def _handles(stage: Any) -> str:
    """Return a stage's ``handleInvalid``; ``error`` if it has none."""
    return str(stage.getHandleInvalid()) if stage.hasParam("handleInvalid") else "error"


def _zero(field: StructField) -> Column | None:
    """Return a column's replacement: zero, or a vector of zeros; None for a vector of unknown length."""
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.linalg import VectorUDT

    if not isinstance(field.dataType, VectorUDT):
        return F.lit(0).cast(field.dataType)
    length = field.metadata.get("ml_attr", {}).get("num_attrs")
    return None if length is None else array_to_vector(F.array_repeat(F.lit(0.0), length))


def inside(bounds: Sequence[float], *, is_whole: bool = False) -> float | None:
    """Return a number inside of a Bucketizer's splits.

    Args:
        bounds: the splits.
        is_whole: whether the number must be whole.

    Returns:
        The number; None if there is no whole one.
    """
    low, high = bounds[0], bounds[-1]
    number = low if math.isfinite(low) else min(0.0, high)
    number = math.ceil(number) if is_whole and math.isfinite(low) else math.floor(number) if is_whole else number
    return number if low <= number <= high else None
