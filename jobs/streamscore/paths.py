"""Locations of files: on this machine, or on a file system that only Spark reaches."""

from __future__ import annotations

from pathlib import Path


def is_local(location: str) -> bool:
    """Tell whether a location is on a file system that this machine has mounted."""
    return location.startswith("file://") or ("://" not in location and ":/" not in location)


def local_path(location: str) -> Path:
    """Return the path of a location on a file system that this machine has mounted."""
    return Path(location.removeprefix("file://"))


def as_spark_takes(location: str | Path) -> str:
    """Return a location as an address that means the same to Spark, whatever its default file system is."""
    location = str(location)
    if not is_local(location):
        return location
    path = local_path(location).absolute()
    return str(path) if path.is_relative_to("/Volumes") else f"file:{path}"
