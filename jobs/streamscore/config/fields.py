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
"""What a JSON value can be told to be without a conversion, with the other names that Spark has for it."""


class Field(NamedTuple):
    """A column: its name, and its type as ``INT``, ``BIGINT``, ``DOUBLE``, ``BOOLEAN`` or ``STRING``."""

    name: str
    type: str


def parse(ddl: str) -> tuple[Field, ...]:
    """Read columns from their DDL.

    Raises:
        ValueError: it is not the DDL of such columns; the message names the first part that is not.
    """
    found: list[Field] = []
    for part in ddl.split(","):
        match = _COLUMN.fullmatch(part)
        if match is None or match["type"].upper() not in _TYPES:
            raise ValueError(
                f"{part.strip()!r} is not a column: expected a name and one of the types INT, BIGINT, DOUBLE, BOOLEAN, "
                "STRING"
            )
        if match["name"].lower() in {field.name.lower() for field in found}:  # Spark takes no notice of the case
            raise ValueError(f"the column {match['name']!r} is there twice")
        found.append(Field(match["name"], _TYPES[match["type"].upper()]))
    return tuple(found)


def ddl(fields: Iterable[Field]) -> str:
    """Return columns as their DDL, always the same for the same columns."""
    return ",".join(f"{field.name} {field.type}" for field in fields)
