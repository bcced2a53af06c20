"""The raw columns of a message, written as in Spark's DDL: ``I1 INT, `hours-per-week` DOUBLE``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_PART = re.compile(r"(?:`(?:``|[^`])*`|\([^)]*\)|<[^>]*>|[^,`(<])+")
_COLUMN = re.compile(
    r"\s*(?:`(?P<quoted>(?:``|[^`\x00-\x1f])+)`|(?P<plain>[A-Za-z_]\w*))\s*[:\s]\s*"
    r"(?P<type>[A-Za-z]+)\s*(?P<of>\(\s*\d+\s*(?:,\s*\d+\s*)?\)|<\s*[A-Za-z]+\s*>)?\s*",
    re.ASCII,
)
_TYPES: Final = {
    "INT": "INT",
    "INTEGER": "INT",
    "BIGINT": "BIGINT",
    "LONG": "BIGINT",
    "SMALLINT": "SMALLINT",
    "SHORT": "SMALLINT",
    "TINYINT": "TINYINT",
    "BYTE": "TINYINT",
    "DOUBLE": "DOUBLE",
    "FLOAT": "FLOAT",
    "REAL": "FLOAT",
    "BOOLEAN": "BOOLEAN",
    "STRING": "STRING",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
}
"""Types without parameters, by each of their names in Spark."""
_DECIMALS: Final = frozenset({"DECIMAL", "DEC", "NUMERIC"})
_MAX_DIGITS: Final = 38
VECTOR: Final = "ARRAY<DOUBLE>"
"""Type of a column that is a dense vector to the pipelines."""
_LISTED: Final = (
    "INT, BIGINT, SMALLINT, TINYINT, DOUBLE, FLOAT, DECIMAL(p,s), BOOLEAN, STRING, DATE, TIMESTAMP, ARRAY<DOUBLE>"
)


class Field(NamedTuple):
    """A column: its name, and its type in the one form that ``parse`` returns, as ``INT`` or ``DECIMAL(10,2)``."""

    name: str
    type: str


def parse(ddl: str) -> tuple[Field, ...]:
    """Return the columns of a DDL text.

    Raises:
        ValueError: the text is not valid DDL of these types; the message names the first wrong column.
    """
    columns: list[Field] = []
    end = -1
    while end < len(ddl):
        part = _PART.match(ddl, end + 1)
        text = ddl[end + 1 :] if part is None else part[0]
        match = _COLUMN.fullmatch(text)
        kind = None if match is None else _type(match["type"].upper(), match["of"])
        if match is None or kind is None or (part is not None and ddl[part.end() : part.end() + 1] not in {"", ","}):
            raise ValueError(
                f"{text.strip()!r} is not a column: expected a name, in backticks if it has other characters than "
                f"A-Z, a-z, 0-9 and _, and one of the types {_LISTED}"
            )
        name = match["plain"] or match["quoted"].replace("``", "`")
        if name.lower() in {field.name.lower() for field in columns}:  # Spark ignores case
            raise ValueError(f"the column {name!r} occurs twice")
        columns.append(Field(name, kind))
        end += 1 + len(text)
    return tuple(columns)


def _type(name: str, of: str | None) -> str | None:
    """Return a type in its one form; None for a type that no column may have."""
    if name in _DECIMALS:
        digits, _, scale = (of or "(10,0)")[1:-1].partition(",")
        if not digits.strip().isdigit() or not 0 <= int(scale or 0) <= int(digits) <= _MAX_DIGITS or int(digits) == 0:
            return None
        return f"DECIMAL({int(digits)},{int(scale or 0)})"
    if name == "ARRAY":
        return VECTOR if of is not None and of[1:-1].strip().upper() == "DOUBLE" else None
    return _TYPES.get(name) if of is None else None


def ddl(fields: Iterable[Field]) -> str:
    """Return the DDL text of columns; equal columns have equal texts."""
    return ",".join(f"{quoted(field.name)} {field.type}" for field in fields)


def quoted(name: str) -> str:
    """Return a column's name as DDL has it, in backticks if need be."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"`{name.replace('`', '``')}`"
