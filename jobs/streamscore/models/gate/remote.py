"""A model's files on a remote file system, read through Hadoop's client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from streamscore.models.gate.files import MAX_FILES, refused, require_plain
from streamscore.spark.hadoop_fs import HadoopRoot


class HadoopFiles(HadoopRoot):
    """A model's folder on any file system of Hadoop. Object stores have no links, and HDFS disables them."""

    def is_folder(self, name: str) -> bool:
        """Return whether there is a folder of that name."""
        path = self._path(name)
        return bool(self._files.exists(path) and self._files.getFileStatus(path).isDirectory())

    def has(self, name: str) -> bool:
        """Return whether an entry of that name exists that is not a folder."""
        return bool(self._files.exists(self._path(name))) and not self.is_folder(name)

    def walk(self, folder: str) -> dict[str, int]:
        """Return the size of every file in a folder and below, by its name inside that folder.

        Raises:
            ModelError: the folder is missing, or contains a link.
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
            ModelError: the file is longer.
        """
        if self._files.getFileStatus(self._path(name)).getLen() > limit:
            raise refused(self.location, name, f"it is longer than {limit:,} bytes, which no such file is")
        return self._content(name)

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """Open a copy of a file on this machine, to read any part of it."""
        with TemporaryDirectory(prefix="model-") as folder:
            path = Path(folder) / "copy"
            self._copy(name, path)
            with path.open("rb") as file:
                yield file
