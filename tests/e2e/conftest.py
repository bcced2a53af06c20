"""Fixtures of the tests that run commands: a shell, a configuration file, and a job to watch and kill."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oracle
import pytest
from jobs import Job, environment, make_archive, use_archive, written

from streamscore import score_stream
from streamscore.clients import kafka
from streamscore.launch import submit


@pytest.fixture(scope="session", autouse=True)
def class_archive(make_own, small_models, tmp_path_factory):
    """A class-data archive of Spark's classes, made by a first job, for all jobs of both test processes."""
    base = tmp_path_factory.getbasetemp()
    archive = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "classes.jsa"
    with _held(archive.parent):
        if not archive.exists():
            folder = tmp_path_factory.mktemp("classes")
            config = make_own("classes", folder, oracle.listed(small_models), "stream.available_now=true")
            kafka.ensure(config.kafka, config.kafka.topics.input)
            oracle.send(config, oracle.Ledger(seed=0).next_messages(100))
            file = folder / "classes.yml"
            file.write_text(written(config))
            make_archive(
                archive, submit.command(score_stream.JOB, config, ["--config", str(file)]), submit.prepare(config)
            )
    use_archive(archive)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, for which other processes wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough, as a forked child may have the descriptor too
        os.close(descriptor)


@pytest.fixture
def job():
    """Return a function that starts a job; remaining jobs are killed after the test."""
    jobs: list[Job] = []

    def start(command: list[str], **options) -> Job:
        jobs.append(Job(command, **options))
        return jobs[-1]

    yield start
    for left in jobs:
        if left.lives:
            left.kill()


@pytest.fixture
def as_file(tmp_path):
    """Return a function that writes a configuration to a file for --config."""

    def write(config, name="test.yml") -> str:
        path = tmp_path / name
        path.write_text(written(config))
        return str(path)

    return write


@pytest.fixture(scope="session")
def shell():
    """Return a function that runs a command like a user and returns its result."""

    def run(command: str | list[str], timeout: float = 600, **options) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            command,
            shell=isinstance(command, str),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**options.pop("env", {})),
            executable="/bin/bash" if isinstance(command, str) else None,
            start_new_session=True,
            **options,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its children hold the pipes open
                stdout, stderr = process.communicate()
                pytest.fail(f"{command}: still running after {timeout} s\n{stdout}\n{stderr}")
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run
