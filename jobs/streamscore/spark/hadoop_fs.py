"""A folder on any file system of Spark's, reached as Spark reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class HadoopRoot:
    """A folder, for classes that do something with the files in it; their names are relative, with ``/``."""

    def __init__(self, spark: SparkSession, location: str) -> None:
        self.location = location.rstrip("/")
        self._jvm: Any = spark._jvm  # noqa: SLF001 (Spark has no public way to a file system)
        conf = spark._jsparkSession.sessionState().newHadoopConf()  # noqa: SLF001 (as above)
        self._files = self._path("").getFileSystem(conf)

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, in hexadecimal digits."""
        with self._opened(name) as stream:
            return str(self._jvm.org.apache.commons.codec.digest.DigestUtils.sha256Hex(stream))

    def _content(self, name: str) -> bytes:
        with self._opened(name) as stream:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))

    def _path(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(f"{self.location}/{name}".rstrip("/"))

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        stream = self._files.open(self._path(name))
        try:
            yield stream
        finally:
            stream.close()
