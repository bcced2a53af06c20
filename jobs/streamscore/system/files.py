"""Hash files and replace them atomically."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

_CHUNK: Final = 1 << 20


def sha256(file: IO[bytes]) -> str:
    """Return the sha256 of an open file from its position to its end, in hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a partial file that replaces a file when the context ends, and is removed after an error.

    The partial file is in the same folder under a unique name, so several processes may replace one file at the same
    time. It may also be a folder whose content is moved away before the context ends.
    """
    partial = path.parent / f".{path.name}.{secrets.token_hex(8)}.partial"  # a path such as `.` has no name
    try:
        yield partial
        if partial.is_file():
            partial.replace(path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that every reader sees either the old content or the new, even after a power failure."""
    with replacing(path) as partial, partial.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # otherwise the rename may reach the disk before the content does
