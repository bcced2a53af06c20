"""The folder of temporary files: leftovers of killed jobs are removed, files of running jobs stay."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamscore.spark import tmpdir


@pytest.fixture
def folder(tmp_path):
    """A folder with old temporary files of Spark and its libraries, and a new one."""
    (tmp_path / "spark-1" / "userFiles").mkdir(parents=True)
    (tmp_path / "spark-1" / "userFiles" / "a.jar").write_text("jar")
    (tmp_path / "liblz4-java-1.so").write_text("library")
    for entry in tmp_path.iterdir():
        os.utime(entry, (0, 0))
    (tmp_path / "spark-2").mkdir()
    return tmp_path


@pytest.fixture
def use(folder):
    """Return a function that starts a process that uses the folder like a job; all are killed after the test."""
    program = (
        "import pathlib, sys\nfrom streamscore.spark import tmpdir\n"
        "tmpdir.use(pathlib.Path(sys.argv[1]))\nprint(flush=True)\nsys.stdin.read()"
    )
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.read(1) == b"\n"
        return process

    yield start
    for process in started:
        kill(process)


def kill(process):
    """Kill a process and wait for its end."""
    process.kill()
    process.communicate()


def names(folder):
    """Return the names in a folder."""
    return {path.name for path in folder.iterdir()}


def test_what_killed_jobs_have_left_is_removed(folder):
    """Leftovers of killed jobs, such as Spark's copies of the jars, are removed."""
    tmpdir.use(folder)

    assert names(folder) == {"spark-2"}, "a JVM that is starting has files before its Python gets here"


def test_files_of_a_living_job_stay(folder, use):
    """Files stay while any of two jobs runs; after both are killed, the next job removes them."""
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    first, second = use(), use()
    os.close(lock)
    kill(first)
    third = use()
    assert names(folder) == {"spark-1", "liblz4-java-1.so", "spark-2"}
    kill(second)
    kill(third)
    use()

    assert names(folder) == {"spark-2"}


def test_what_cannot_be_removed_stops_nobody(folder, monkeypatch):
    """A file that cannot be removed, such as another user's, is skipped."""

    def refuse(_):
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    tmpdir.use(folder)
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(other)

    assert names(folder) == {"liblz4-java-1.so", "spark-2"}
