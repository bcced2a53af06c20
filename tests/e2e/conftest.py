"""Fixtures of the tests that run commands: a shell, a user's folder, and a job that can be watched and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml

SCRIPTS = Path(sysconfig.get_path("scripts"))


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a user who has activated the virtual environment."""
    return {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", **extra}


class Job:
    """A command that runs in the background; its output is collected."""

    def __init__(self, command: list[str], **options) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment(),
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return "".join(self.lines)

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Wait until it has printed a text."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process that was started, as a supervisor would."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it and all that it has started, at once."""
        members = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        for member in members:
            member.kill()
        self.process.wait(30)

    def wait(self, seconds: float = 180) -> int:
        """Wait for its end and return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code


@pytest.fixture
def job():
    """Return a function that starts a job; jobs that are left are killed."""
    jobs: list[Job] = []

    def start(command: list[str], **options) -> Job:
        jobs.append(Job(command, **options))
        return jobs[-1]

    yield start
    for left in jobs:
        if left.process.poll() is None:
            left.kill()


@pytest.fixture
def as_file(tmp_path):
    """Return a function that writes a configuration to a file for --config."""

    def write(config, name="test.yml") -> str:
        tree = config.model_dump(mode="json", exclude={"kafka": {"options"}})
        path = tmp_path / name
        path.write_text(yaml.safe_dump(tree))
        return str(path)

    return write


@pytest.fixture(scope="session")
def shell():
    """Return a function that runs a command as a user would and returns what came of it."""

    def run(command: str | list[str], **options) -> subprocess.CompletedProcess[str]:
        environment_ = environment(**options.pop("env", {}))
        return subprocess.run(
            command,
            shell=isinstance(command, str),
            capture_output=True,
            text=True,
            check=False,
            env=environment_,
            executable="/bin/bash" if isinstance(command, str) else None,
            timeout=options.pop("timeout", 400),
            **options,
        )

    return run
