"""Kinds of values in the configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from streamscore.system.paths import is_local, local_path


def _memory_size(text: str) -> str:
    if not re.fullmatch(r"\d+[mg]", text):
        raise ValueError(f"{text!r} is not a size such as 512m or 2g")
    return text


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


def _without_comma(path: Path) -> Path:
    absolute = _absolute(path)
    if "," in str(absolute):
        raise ValueError(f"{absolute} contains a comma, at which Kafka, Elasticsearch and Spark would split it")
    return absolute


def _absolute_if_local(location: str) -> str:
    return str(_absolute(local_path(location))) if is_local(location) else location


def _absolute_of_this_machine(location: str) -> str:
    if not is_local(location):
        raise ValueError(f"{location} is not a folder of this machine")
    return str(_absolute(local_path(location)))


def as_text(value: object) -> object:
    """Return a number or a truth value as the text that Spark and Kafka expect, any other value unchanged."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _absolute_if_folder(table: str) -> str:
    return _absolute_if_local(table) if "/" in table else table


Location = Annotated[str, AfterValidator(_absolute_if_local)]
"""A path of this machine, which is made absolute, or an address of another file system."""

LocalFolder = Annotated[str, AfterValidator(_absolute_of_this_machine)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
StateFolder = Annotated[Path, AfterValidator(_without_comma)]
MemorySize = Annotated[str, AfterValidator(_memory_size)]
Positive = Annotated[int, Field(gt=0)]
TimeRange = Literal["5m", "15m", "1h", "6h", "24h", "7d", "all"]
TableName = Annotated[str, AfterValidator(_absolute_if_folder)]
"""The name of a table in a catalog; if it contains a slash, the location of its folder."""

IndexName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
