"""Types of values in the configuration."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from streamscore.system.paths import is_local, local_path

_ED25519_HEAD = bytes.fromhex("302a300506032b6570032100")
_ED25519_BYTES = 32


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
    """Return a number or a boolean as the text that Spark and Kafka expect, and any other value unchanged."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _ed25519_key(text: str) -> str:
    """Return an Ed25519 public key as base64 of its 32 bytes, from base64, PEM, or the body of PEM (RFC 8410)."""
    body = re.sub(r"-----(BEGIN|END) PUBLIC KEY-----|\s", "", text)
    try:
        key = base64.b64decode(body, validate=True)
    except binascii.Error:
        key = b""
    raw = key.removeprefix(_ED25519_HEAD)
    if len(raw) != _ED25519_BYTES:
        raise ValueError("not an Ed25519 public key in PEM or base64; `openssl pkey -in key.pem -pubout` prints one")
    return base64.b64encode(raw).decode()


def _absolute_if_folder(table: str) -> str:
    return _absolute_if_local(table) if "/" in table else table


def _epoch_milliseconds(value: object) -> object:
    """Return a time in ISO 8601, or as YAML reads one, in epoch milliseconds; without an offset it is UTC."""
    if isinstance(value, str) and not value.isdigit():
        try:
            value = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", value.strip()))
        except ValueError:
            raise ValueError(
                f"{value!r} is not a time: expected ISO 8601, such as 2026-11-30T14:00:00Z, or epoch milliseconds"
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
        return round(aware.timestamp() * 1_000)
    return value


def iso_time(at: int) -> str:
    """Return epoch milliseconds as ISO 8601 text in UTC; a time beyond Python's last year as the number."""
    try:
        moment = datetime.fromtimestamp(at / 1_000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return str(at)
    return moment.isoformat(timespec="milliseconds" if at % 1_000 else "seconds").replace("+00:00", "Z")


def _run_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise ValueError(
            f"{name!r} is no name of a run: it becomes a part of the names of indices, so it has lower-case letters, "
            "digits, dots, underscores and hyphens, begins with a letter or digit, and is at most 64 long"
        )
    return name


Location = Annotated[str, AfterValidator(_absolute_if_local)]
"""A path on this machine, made absolute, or an address on another file system."""

LocalFolder = Annotated[str, AfterValidator(_absolute_of_this_machine)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
StateFolder = Annotated[Path, AfterValidator(_without_comma)]
Ed25519Key = Annotated[str, AfterValidator(_ed25519_key)]
MemorySize = Annotated[str, AfterValidator(_memory_size)]
Positive = Annotated[int, Field(gt=0)]
TimeRange = Literal["5m", "15m", "1h", "6h", "24h", "7d", "all"]
TableName = Annotated[str, AfterValidator(_absolute_if_folder)]
"""The name of a table in a catalog, or, with a slash, the location of the table's folder."""

IndexName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]

Moment = Annotated[int, Field(ge=0), BeforeValidator(_epoch_milliseconds)]
"""A time in epoch milliseconds, written as such or in ISO 8601."""

RunName = Annotated[str, AfterValidator(_run_name)]
"""The name of a replay."""
