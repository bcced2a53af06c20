"""The raw columns of a message, written as in Spark's DDL: ``I1 INT, C1 STRING``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_COLUMN = re.compile(r"\s*`?(?P<name>[A-Za-z_]\w*)`?\s*[:\s]\s*(?P<type>[A-Za-z]+)\s*", re.ASCII)
_TYPES: Final = {
    "INT": "INT",
    "INTEGER": "INT",
    "BIGINT": "BIGINT",
    "LONG": "BIGINT",
    "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "STRING": "STRING",
}
"""Types that a JSON value can have without conversion, by each of their names in Spark."""


class Field(NamedTuple):
    """A column: its name, and its type as ``INT``, ``BIGINT``, ``DOUBLE``, ``BOOLEAN`` or ``STRING``."""

    name: str
    type: str


def parse(ddl: str) -> tuple[Field, ...]:
    """Return the columns of a DDL text.

    Raises:
        ValueError: the text is not valid DDL of these types; the message names the first wrong column.
    """
    columns: list[Field] = []
    for part in ddl.split(","):
        match = _COLUMN.fullmatch(part)
        if match is None or match["type"].upper() not in _TYPES:
            raise ValueError(
                f"{part.strip()!r} is not a column: expected a name and one of the types INT, BIGINT, DOUBLE, BOOLEAN, "
                "STRING"
            )
        if match["name"].lower() in {field.name.lower() for field in columns}:  # Spark ignores case
            raise ValueError(f"the column {match['name']!r} occurs twice")
        columns.append(Field(match["name"], _TYPES[match["type"].upper()]))
    return tuple(columns)


def ddl(fields: Iterable[Field]) -> str:
    """Return the DDL text of columns; equal columns have equal texts."""
    return ",".join(f"{field.name} {field.type}" for field in fields)
