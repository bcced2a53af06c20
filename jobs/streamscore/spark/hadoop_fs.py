"""A folder on any file system that Hadoop's client supports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession


class HadoopRoot:
    """Base of classes that work with the files of a folder; file names are relative, with ``/``."""

    def __init__(self, spark: SparkSession, location: str) -> None:
        self.location = location.rstrip("/")
        self._jvm: Any = spark._jvm  # noqa: SLF001 (Spark has no public access to file systems)
        conf = spark._jsparkSession.sessionState().newHadoopConf()  # noqa: SLF001 (as above)
        self._files = self._path("").getFileSystem(conf)

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, in hexadecimal digits."""
        with self._opened(name) as stream:
            return str(self._jvm.org.apache.commons.codec.digest.DigestUtils.sha256Hex(stream))

    def _content(self, name: str) -> bytes:
        with self._opened(name) as stream:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))

    def _copy(self, name: str, path: Path) -> None:
        """Copy a file to this machine, which also runs the driver's JVM."""
        target = self._jvm.org.apache.hadoop.fs.Path(path.as_uri())
        self._files.copyToLocalFile(False, self._path(name), target, True)  # True: without a checksum file beside it

    def _replace(self, name: str, content: bytes) -> None:
        """Write a file so that ``_content_if_any`` returns the old content or the new, whenever the process dies.

        Few file systems have a rename that replaces, and only HDFS's is atomic. So the complete new file is kept as
        ``<name>.new`` until it has replaced the old one.

        Raises:
            OSError: a step failed.
        """
        self._recover(name)
        partial, new = f"{name}.partial", f"{name}.new"
        stream = self._files.create(self._path(partial), True)
        try:
            stream.write(bytearray(content))
        finally:
            stream.close()
        self._move(partial, new)
        self._files.delete(self._path(name), False)
        self._move(new, name)

    def _content_if_any(self, name: str) -> bytes | None:
        """Return the content that the last ``_replace`` wrote; None if there is no such file."""
        found = next((one for one in (name, f"{name}.new") if self._files.exists(self._path(one))), None)
        return None if found is None else self._content(found)

    def _recover(self, name: str) -> None:
        """Finish a ``_replace`` that was interrupted between its last two steps; remove leftovers of earlier steps."""
        new = f"{name}.new"
        if self._files.exists(self._path(new)):
            if self._files.exists(self._path(name)):
                self._files.delete(self._path(new), False)
            else:
                self._move(new, name)

    def _move(self, source: str, target: str) -> None:
        if not self._files.rename(self._path(source), self._path(target)):  # False is how Hadoop reports a failure
            raise OSError(f"{self.location}/{source} cannot be renamed to {target}")

    def _path(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(f"{self.location}/{name}".rstrip("/"))

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        stream = self._files.open(self._path(name))
        try:
            yield stream
        finally:
            stream.close()
