"""Background commands of a test, to watch, signal and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from streamscore.config import Config

SCRIPTS = Path(sysconfig.get_path("scripts"))
_archive: dict[str, str] = {}


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a user who has activated the virtual environment."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **_archive, "PATH": path, **extra}


def written(config: Config) -> str:
    """Return a configuration as the text of a file."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude={"kafka": {"options"}}))


class Job:
    """A background command in its own process group, with collected output."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None, **options: Any) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=env or environment(),
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)

    @property
    def output(self) -> str:
        """The command's output so far."""
        return "".join(self.lines)

    @property
    def lives(self) -> bool:
        """Whether the command still runs."""
        return self.process.poll() is None

    def wait_for(self, text: str, seconds: float = 240) -> None:
        """Wait until the command has printed a text."""
        self.wait_until(lambda: text in self.output, seconds)

    def wait_until(self, reached: Callable[[], bool], seconds: float = 240) -> None:
        """Wait until a condition holds, while the command runs."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert self.lives, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Signal the started process, like a supervisor."""
        self.process.send_signal(number)

    def members(self) -> list[psutil.Process]:
        """Return the started process and all its descendants."""
        try:
            leader = psutil.Process(self.process.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Kill the started process and all its descendants."""
        for member in self.members():
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(30)

    def wait(self, seconds: float = 300) -> int:
        """Wait for the command's end and return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code


def make_archive(archive: Path, command: list[str], env: Mapping[str, str]) -> None:
    """Run a first job, whose JVM writes a class-data archive at its end."""
    option = f"-XX:ArchiveClassesAtExit={archive}"
    first = Job(command, env={**environment(), **env, "SPARK_SUBMIT_OPTS": option})
    assert first.wait() == 0, first.output


def use_archive(archive: Path) -> None:
    """Make all further jobs load Spark's classes from an archive."""
    _archive["SPARK_SUBMIT_OPTS"] = f"-XX:SharedArchiveFile={archive}"
