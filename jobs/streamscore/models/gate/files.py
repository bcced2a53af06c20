"""Read a model's files on this machine without following links."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final, Protocol

from streamscore.errors import ModelError
from streamscore.system.files import sha256

MAX_FILES: Final = 10_000
_MAX_DEPTH: Final = 32
_NAME = re.compile(r"[A-Za-z0-9._=+-]+(_\$folder\$)?")


def require_plain(location: str, name: str) -> None:
    """Check that a file's name has only characters that Spark writes: no look-alikes, no glob patterns.

    Raises:
        ModelError: the name has other characters.
    """
    if not all(_NAME.fullmatch(part) for part in name.split("/")):
        raise refused(location, name, "a name with such characters is refused: Spark writes none")


def refused(location: str, name: str, reason: str) -> ModelError:
    """Return an error that names a file, with special characters escaped, and the reason.

    Args:
        location: the model's folder.
        name: name of the file.
        reason: why the file is refused.
    """
    return ModelError(f"{location}/{ascii(name)[1:-1]}: {reason}")


class Files(Protocol):
    """Read access to a model's folder; file names are relative, with ``/``."""

    location: str
    """Address of the folder, for messages."""

    def is_folder(self, name: str) -> bool:
        """Return whether there is a folder of that name."""
        ...

    def has(self, name: str) -> bool:
        """Return whether an entry of that name exists that is not a folder."""
        ...

    def walk(self, folder: str) -> dict[str, int]:
        """Return the size of every file in a folder and below, by its name inside that folder."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content, unless it is longer than the limit."""
        ...

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, in hexadecimal digits."""
        ...

    def opened(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file to read any part of it; for another file system, a copy of it on this machine."""
        ...


class LocalFiles:
    """A model's folder on a file system that this machine has mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.location = str(root)

    def is_folder(self, name: str) -> bool:
        """Return whether there is a folder of that name.

        Raises:
            ModelError: the folder is a link.
        """
        mode = self._mode(name)
        if stat.S_ISLNK(mode):
            raise self._refused(name, "a link is refused: it may point to anything")
        return stat.S_ISDIR(mode)

    def has(self, name: str) -> bool:
        """Return whether an entry of that name exists that is not a folder: a file, a link or anything else."""
        mode = self._mode(name)
        return mode != 0 and not stat.S_ISDIR(mode)

    def walk(self, folder: str) -> dict[str, int]:
        """Return the size of every file in a folder and below, by its name inside that folder.

        Raises:
            ModelError: an entry is a link or another special file, an empty folder, or has an ambiguous name.
        """
        found: dict[str, int] = {}
        self._walk(folder, folder, found)
        return dict(sorted(found.items()))

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content, unless it is longer than the limit.

        Raises:
            ModelError: the file is longer, is not a plain file, or cannot be read.
        """
        with self.opened(name) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise self._refused(name, f"it is longer than {limit:,} bytes, which no such file is")
        return content

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, in hexadecimal digits.

        Raises:
            ModelError: the file is not a plain file, or cannot be read.
        """
        with self.opened(name) as file:
            return sha256(file)

    def opened(self, name: str) -> IO[bytes]:
        """Open a file to read any part of it.

        Raises:
            ModelError: the file is not a plain file, or cannot be read.
        """
        try:
            # Without O_NONBLOCK a pipe in the file's place would block this process for ever.
            handle = os.open(self._root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            reason = (
                "a link is refused: it may point to anything" if is_link else f"it cannot be read ({error.strerror})"
            )
            raise self._refused(name, reason) from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise self._refused(name, "it is not a plain file")
        return os.fdopen(handle, "rb")

    def _walk(self, base: str, folder: str, found: dict[str, int]) -> None:
        try:
            with os.scandir(self._root / folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise self._refused(folder, f"it cannot be read ({error.strerror})") from None
        if not listed:
            raise self._refused(folder, "an empty folder is refused: Spark leaves none")
        for entry in listed:
            name = f"{folder}{entry.name}"
            require_plain(self.location, name)
            if entry.is_symlink():
                raise self._refused(name, "a link is refused: it may point to anything")
            if entry.is_dir(follow_symlinks=False):
                if name.count("/") > _MAX_DEPTH:
                    raise self._refused(name, f"more than {_MAX_DEPTH} folders inside each other are refused")
                self._walk(base, f"{name}/", found)
            elif entry.is_file(follow_symlinks=False):
                found[name.removeprefix(base)] = entry.stat(follow_symlinks=False).st_size
            else:
                raise self._refused(name, "it is neither a file nor a folder")
            if len(found) > MAX_FILES:
                raise self._refused(name, f"more than {MAX_FILES:,} files are refused")

    def _mode(self, name: str) -> int:
        try:
            return (self._root / name).lstat().st_mode
        except FileNotFoundError:
            return 0

    def _refused(self, name: str, reason: str) -> ModelError:
        return refused(self.location, name, reason)
