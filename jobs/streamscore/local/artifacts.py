"""The jars and servers: fetched if missing, each file verified against the committed sha256 lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from streamscore.errors import SetupError
from streamscore.local.ivy import Downloads, Group
from streamscore.local.java import Java
from streamscore.messages import decoder
from streamscore.spark import maven
from streamscore.system import files
from streamscore.system.console import step

LOCK = Path(__file__).with_name("artifacts.lock")


SPARK = Group("spark", maven.SPARK_JARS, transitive=False)
KAFKA = Group("kafka", (maven.KAFKA_BROKER, maven.KAFKA_LOGGING), transitive=True)
ELASTICSEARCH = Group("elasticsearch", (maven.ELASTICSEARCH,), transitive=False, kind="zip")


def spark_jars(folder: Path, java: Java) -> list[Path]:
    """Return the verified jars of the jobs with the message decoder's; fetch and compile missing ones.

    Raises:
        SetupError: a download failed, or a file is not the one that the lock names.
    """
    ensure(folder, (SPARK,), java)
    _compile_decoder(folder, java)
    return spark_jar_paths(folder)


def spark_jar_paths(folder: Path) -> list[Path]:
    """Return the paths of the jobs' jars; ``spark_jars`` puts the files there."""
    return [*(folder / name for name in _names_of(SPARK, locked_hashes())), folder / "decoder" / decoder.jar_name()]


def elasticsearch_home(folder: Path) -> Path:
    """Return the folder of the unpacked Elasticsearch; unpack the verified archive if needed."""
    root = maven.ELASTICSEARCH
    home = folder / f"{root.name}-{root.version}"
    if not home.is_dir():
        with _alone(folder):
            if not home.is_dir():
                partial = home.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                _unpack(folder / ELASTICSEARCH.name / f"{root.name}-{root.version}.zip", partial)
                (partial / home.name).rename(home)
                shutil.rmtree(partial)
    return home


def ensure(folder: Path, groups: Sequence[Group], java: Java) -> None:
    """Fetch the missing groups in parallel, and verify every file of all groups.

    Args:
        folder: folder of the artifacts.
        groups: the groups.
        java: the Java that runs Ivy.

    Raises:
        SetupError: a download failed, or a file differs from the lock.
    """
    locked = locked_hashes()
    if _incomplete(folder, groups, locked):
        with _alone(folder):
            _fetch_all(folder, _incomplete(folder, groups, locked), java)
    for group in groups:
        verify(folder, _names_of(group, locked), locked)


def verify(folder: Path, names: Iterable[str], locked: dict[str, str]) -> None:
    """Compare files with the lock.

    Args:
        folder: folder of the artifacts.
        names: the files to verify, relative to it.
        locked: sha256 of each file of the lock, by name.

    Raises:
        SetupError: a file differs from the lock or is missing.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise SetupError(f"{path} was not among what was fetched; try again, or fetch it by hand")
        found = sha256(path)
        if found != locked[name]:
            raise SetupError(
                f"{path} is not the file that was locked: sha256 {found}, expected {locked[name]}. "
                "Delete it and run again; if it differs again, do not use it"
            )


@cache
def locked_hashes() -> dict[str, str]:
    """Return the sha256 of every artifact, by its path below the artifacts folder."""
    pairs = (line.split(maxsplit=1) for line in LOCK.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name: digest for digest, name in pairs}


def write_lock(folder: Path, java: Java) -> None:
    """Fetch all artifacts into a folder and write the lock from them, after a change of versions."""
    lines = []
    for group in (SPARK, KAFKA, ELASTICSEARCH):
        Downloads(folder, java, lambda _: None).fetch(group)
        fetched = sorted((folder / group.name).iterdir())
        lines += [f"{sha256(path)}  {group.name}/{path.name}\n" for path in fetched]
    LOCK.write_text("".join(lines), encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return files.sha256(file)


def _compile_decoder(folder: Path, java: Java) -> None:
    """Compile the message decoder unless the jar of this source exists."""
    jar = folder / "decoder" / decoder.jar_name()
    if not jar.is_file():
        with _alone(folder):
            if not jar.is_file():
                with step("Compiling the message decoder"):
                    decoder.compile_jar(jar, java.executable)


def _names_of(group: Group, locked: Iterable[str]) -> list[str]:
    return [name for name in locked if name.startswith(f"{group.name}/")]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of an artifacts folder, so that only one process at a time fetches into it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _incomplete(folder: Path, groups: Sequence[Group], locked: Iterable[str]) -> list[Group]:
    return [group for group in groups if any(not (folder / name).is_file() for name in _names_of(group, locked))]


def _fetch_all(folder: Path, groups: Sequence[Group], java: Java) -> None:
    if not groups:
        return
    count = sum(len(_names_of(group, locked_hashes())) for group in groups)
    title = f"Fetching {count} files for {', '.join(group.name for group in groups)}"
    with step(title) as show, ThreadPoolExecutor(len(groups)) as pool:
        downloads = Downloads(folder, java, show)
        try:
            for done in as_completed([pool.submit(downloads.fetch, group) for group in groups]):
                done.result()
        except BaseException:
            downloads.stop()  # or this process would wait for the other downloads' threads
            raise


def _unpack(archive: Path, folder: Path) -> None:
    with step(f"Unpacking {archive.name}"), zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():
            path = Path(bundle.extract(entry, folder))
            mode = entry.external_attr >> 16  # Python's zipfile drops it; without it bin/elasticsearch won't start
            if mode and not entry.is_dir():
                path.chmod(mode & 0o777)


if __name__ == "__main__":  # `python -m streamscore.local.artifacts FOLDER` rewrites the lock
    import sys

    from streamscore.local.java import find

    write_lock(Path(sys.argv[1]), find())
