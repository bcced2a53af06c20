"""What is done with files in several places."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import IO, Final

_CHUNK: Final = 1 << 20


def sha256(file: IO[bytes]) -> str:
    """Return the sha256 of an open file from here to its end, in hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that nobody ever reads half of it."""
    partial = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a rename may be on the disk before what it names, when the power fails
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
