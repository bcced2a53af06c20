"""Locations of files: on this machine, or on a file system that only Spark can access."""

from __future__ import annotations

import re
from pathlib import Path

_LOCAL = re.compile(r"^file:(?!//[^/])/*(?=/)")  # not with a host
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def is_local(location: str) -> bool:
    """Return whether a location is a path of this machine, or a ``file:`` URL of such a path."""
    return _LOCAL.match(location) is not None or _SCHEME.match(location) is None


def local_path(location: str) -> Path:
    """Return the path of a location on a mounted file system of this machine.

    Percent signs are literal, as in Spark.
    """
    return Path(_LOCAL.sub("", location))


def as_spark_takes(location: str | Path) -> str:
    """Return a location as an address that does not depend on Spark's default file system."""
    location = str(location)
    if not is_local(location):
        return location
    path = local_path(location).absolute()
    return str(path) if path.is_relative_to("/Volumes") else f"file:{path}"
