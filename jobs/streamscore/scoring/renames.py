"""Stages that give columns other names: an SQLTransformer of one form, whose statement is never run as SQL.

Spark's other stages cannot read a column with a dot or a backtick in its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

FORM: Final = "SELECT *, `a.b` AS a_b FROM __THIS__"
"""An example of the statements that are allowed."""

_STATEMENT = re.compile(
    r"\s*(?i:SELECT)\s*\*(?:\s*,\s*`(?:``|[^`\x00-\x1f])+`\s*(?i:AS)\s+[A-Za-z_]\w*)+\s+(?i:FROM)\s+__THIS__\s*",
    re.ASCII,
)
_COLUMN = re.compile(r"`((?:``|[^`])+)`\s*\w\w\s+(\w+)", re.ASCII)
_REPLACED: Final = ("__THIS__", "${")
"""Texts that Spark replaces even in quoted names."""


def parse(statement: str) -> tuple[tuple[str, str], ...] | None:
    """Return the columns of a statement that does nothing but add columns under other names, as (read, made).

    Returns:
        The columns; None for any other statement.
    """
    if not _STATEMENT.fullmatch(statement):
        return None
    columns = tuple((read.replace("``", "`"), made) for read, made in _COLUMN.findall(statement))
    made = {name.lower() for _, name in columns}  # Spark ignores case
    if len(made) < len(columns) or any(text in name for name, _ in columns for text in _REPLACED):
        return None
    return columns


def renames(stage: Any) -> tuple[tuple[str, str], ...]:
    """Return the columns to which a stage only gives another name, as (read, made); empty for all other stages.

    Raises:
        ValueError: the stage is an SQLTransformer with another statement.
    """
    if type(stage).__name__ != "SQLTransformer":
        return ()
    found = parse(stage.getStatement())
    if found is None:
        raise ValueError(f"the statement is not of the form {FORM}")
    return found


def names_of(column: str, stages: Iterable[Any]) -> list[str]:
    """Return the names under which stages may read a column: its own, and those that an SQLTransformer gives to it."""
    return [column, *(made for stage in stages for read, made in renames(stage) if read == column)]


def readable(column: str) -> bool:
    """Return whether Spark's other stages can read a column of this name."""
    return not set(column) & set(".`")
