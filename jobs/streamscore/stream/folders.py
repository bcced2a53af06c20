"""The files of a checkpoint: on a disk of this machine, or on any other file system that Spark reaches."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Final, Protocol

from streamscore.errors import CheckpointError, ServerError, StreamError
from streamscore.spark.errors import translate_spark_errors
from streamscore.spark.hadoop_fs import HadoopRoot
from streamscore.system.files import write_atomically
from streamscore.system.paths import is_local, local_path

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOTES: Final = "streamscore"
"""Folder of our own files, beside Spark's."""
LOCK: Final = f"{NOTES}/lock"


class Folder(Protocol):
    """The operations on a checkpoint's files."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        ...

    def read(self, name: str) -> str | None:
        """Return a file's text; None if it does not exist."""
        ...

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all."""
        ...

    def locked(self, wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the folder's lock, if its file system has locks; until it is free, call ``wait`` repeatedly."""
        ...


class LocalFolder:
    """A checkpoint on a file system that this machine has mounted."""

    def __init__(self, location: str) -> None:
        self._root = local_path(location)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        path = self._root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def read(self, name: str) -> str | None:
        """Return a file's text; None if it does not exist."""
        path = self._root / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all.

        Raises:
            StreamError: the disk is full; a later attempt may succeed.
        """
        path = self._root / name
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Spark's checksum of the file before would make the new one look damaged.
            path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
            write_atomically(path, text.encode())

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the folder's lock, if its file system has locks; until it is free, call ``wait`` repeatedly."""
        path = self._root / LOCK
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = path.open("w")
        with opened as file:
            while not _try_lock(file):
                wait()
            yield

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name the checkpoint in the error if its disk is full; the system's own error for a write names no file."""
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise StreamError(
                f"the disk of the checkpoint {self._root} is full ({error.strerror}): make room there"
            ) from None


class HadoopFolder(HadoopRoot):
    """A checkpoint on any other file system, reached as Spark reaches it."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        path = self._path(folder)
        return (
            sorted(entry.getPath().getName() for entry in self._files.listStatus(path))
            if self._files.exists(path)
            else []
        )

    def read(self, name: str) -> str | None:
        """Return a file's text; None if it does not exist."""
        content = self._content_if_any(name)
        return None if content is None else content.decode(errors="replace")

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all.

        Raises:
            CheckpointError: the file cannot be written.
        """
        with translate_spark_errors(CheckpointError, f"{self.location}/{name} cannot be written"):
            self._replace(name, text.encode())

    def locked(self, _wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Do nothing: Hadoop's file systems have no locks."""
        return nullcontext()


def open_folder(location: str, spark: SparkSession | None = None) -> Folder:
    """Return the folder of a checkpoint.

    Args:
        location: a path or URL.
        spark: the session, which a folder that is not local needs.

    Raises:
        CheckpointError: the folder is not local, and there is no session.
        ServerError: its file system cannot be reached.
    """
    if is_local(location):
        return LocalFolder(location)
    if spark is None:
        raise CheckpointError(f"{location}: only Spark reaches this file system")
    with translate_spark_errors(ServerError, f"the checkpoint {location} cannot be reached"):
        files = HadoopFolder(spark, location)
        files.names("")  # most file systems connect at the first request
    return files


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file if it is free; return whether this process has the lock, or the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # some file systems that are mounted from elsewhere have no locks
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EINTR}
    return True
