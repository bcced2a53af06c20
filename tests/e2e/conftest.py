"""Fixtures of the tests that run commands: a shell, a configuration file, and a job that can be watched and killed."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from jobs import Job, environment


@pytest.fixture
def job():
    """Return a function that starts a job; jobs that are left are killed."""
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
            timeout=options.pop("timeout", 600),
            **options,
        )

    return run
