"""The files of a model on another file system, reached as Spark reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamscore.gate.files import MAX_FILES, refused, require_plain

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class HadoopFiles:
    """A model's folder on any file system of Spark's. Object stores have no links, and HDFS has them switched off."""

    def __init__(self, spark: SparkSession, location: str) -> None:
        self.location = location.rstrip("/")
        self._jvm: Any = spark._jvm  # noqa: SLF001 (Spark has no public way to a file system)
        conf = spark._jsparkSession.sessionState().newHadoopConf()  # noqa: SLF001 (as above)
        self._files = self._path("").getFileSystem(conf)

    def is_folder(self, name: str) -> bool:
        """Tell whether there is a folder of that name."""
        path = self._path(name)
        return bool(self._files.exists(path) and self._files.getFileStatus(path).isDirectory())

    def has(self, name: str) -> bool:
        """Tell whether there is something else than a folder of that name."""
        return bool(self._files.exists(self._path(name))) and not self.is_folder(name)

    def walk(self, folder: str) -> dict[str, int]:
        """Return the size of every file in a folder and below, by its name inside that folder.

        Raises:
            ModelError: there is no such folder, or there is a link in it.
        """
        if not self.is_folder(folder.rstrip("/")):
            raise refused(self.location, folder, "there is no such folder")
        base = str(self._files.getFileStatus(self._path(folder)).getPath().toString()).rstrip("/") + "/"
        found: dict[str, int] = {}
        listed = self._files.listFiles(self._path(folder), True)
        while listed.hasNext():
            entry = listed.next()
            name = str(entry.getPath().toString()).removeprefix(base)
            require_plain(self.location, folder + name)
            if entry.isSymlink():
                raise refused(self.location, folder + name, "a link is refused: it may point to anything")
            found[name] = int(entry.getLen())
            if len(found) > MAX_FILES:
                raise refused(self.location, folder, f"more than {MAX_FILES:,} files are refused")
        return dict(sorted(found.items()))

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content, unless it is longer than the limit.

        Raises:
            ModelError: it is longer.
        """
        if self._files.getFileStatus(self._path(name)).getLen() > limit:
            raise refused(self.location, name, f"it is longer than {limit:,} bytes, which no such file is")
        stream = self._files.open(self._path(name))
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, in hexadecimal digits."""
        stream = self._files.open(self._path(name))
        try:
            return str(self._jvm.org.apache.commons.codec.digest.DigestUtils.sha256Hex(stream))
        finally:
            stream.close()

    def _path(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(f"{self.location}/{name}".rstrip("/"))
