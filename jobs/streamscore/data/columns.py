"""The columns of a data set from which messages are made, and their types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from streamscore.config.fields import VECTOR
from streamscore.errors import InputError

if TYPE_CHECKING:
    from streamscore.config import Seed
    from streamscore.config.fields import Field

_WHOLE: Final = frozenset({"tinyint", "smallint", "int"})
_RAW_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "INT": _WHOLE,
    "SMALLINT": frozenset({"tinyint", "smallint"}),
    "TINYINT": frozenset({"tinyint"}),
    "BIGINT": _WHOLE | {"bigint"},
    "FLOAT": frozenset({"tinyint", "smallint", "float"}),
    VECTOR: frozenset({"array<double>", "array<float>"}),
    "DOUBLE": _WHOLE | {"float", "double"},
    "BOOLEAN": frozenset({"boolean"}),
    "STRING": frozenset({"string"}),
}
"""Spark types of a data set's column that convert to each type of raw column without loss; any other
type only to itself."""

_NUMBER: Final = re.compile(r"tinyint|smallint|int|bigint|float|double|decimal\(\d\d?,\d\d?\)")
_DENSE: Final = re.compile(rf"array<({_NUMBER.pattern})>")
_PARTS: Final = re.compile(
    r"struct<(?:(?:(?:type|size):\w*int|indices:array<\w*int>|values:array<(?:float|double)>)[,>]){4}"
)


def kind_of(spark_type: str) -> str:
    """Return the kind of a column for a message: ``vector``, ``text``, ``number``, or else its type.

    Args:
        spark_type: name of the Spark type; a vector is Spark's own type, a struct of its parts, or an array.
    """
    if spark_type == "string":
        return "text"
    if _NUMBER.fullmatch(spark_type):
        return "number"
    parts = _PARTS.fullmatch(spark_type) and set(re.findall(r"(\w+):", spark_type))
    is_vector = parts == {"type", "size", "indices", "values"} or _DENSE.fullmatch(spark_type)
    return "vector" if is_vector else spark_type


def needed(settings: Seed, fields: Sequence[Field]) -> list[str]:
    """Return the names of the columns from which messages are made."""
    label = [] if settings.label_column is None else [settings.label_column]
    return list(dict.fromkeys([*label, *([field.name for field in fields] or [settings.features_column])]))


def require(
    types: Mapping[str, str], settings: Seed, fields: Sequence[Field], label_values: Mapping[str, float]
) -> None:
    """Check that a data set has the columns that the settings name.

    Args:
        types: name of each column's Spark type.
        settings: the data set and its columns.
        fields: the required raw columns; empty for a vector.
        label_values: the class of each label that is a text or a boolean.

    Raises:
        InputError: a column is missing or has another type.
    """
    kinds = {name: kind_of(spark_type) for name, spark_type in types.items()}
    shown = types if fields else kinds
    way_out = (
        "message.fields says which are needed, --label-column which is the label"
        if fields
        else "Name others with --label-column and --features-column"
    )
    for field in fields:
        allowed = _RAW_TYPES.get(field.type, frozenset({field.type.lower()}))
        if types.get(field.name) not in allowed:
            raise _unfit(field.name, f"one of {', '.join(sorted(allowed))}", shown, settings.source, way_out)
    if not fields and kinds.get(settings.features_column) not in {"vector", "text"}:
        raise _unfit(settings.features_column, "a vector or a text", shown, settings.source, way_out)
    label = settings.label_column
    if label is None or kinds.get(label) == "number":
        return
    if kinds.get(label) in {"text", "boolean"}:
        if label_values:
            return
        way_out = f"{way_out}. message.label_values says which class each text, true or false is"
    raise _unfit(label, "a number", shown, settings.source, way_out)


def _unfit(name: str, needed_type: str, shown: Mapping[str, str], source: str, way_out: str) -> InputError:
    """Return the error for a column that is missing or of the wrong type."""
    there = ", ".join(f"{column} ({kind})" for column, kind in shown.items()) or "none"
    problem = "no column" if name not in shown else f"the wrong type, {shown[name]}, for"
    return InputError(
        f"{source}: {problem} {name!r}, which must be {needed_type}. The columns found: {there}. {way_out}"
    )
