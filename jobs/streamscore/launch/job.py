"""The interface between a job and its callers: launchers, the command line, notebooks, wheel tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamscore.config import Config
from streamscore.launch import arguments
from streamscore.launch.arguments import Arguments, Option
from streamscore.spark import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def _nothing(_config: Config) -> None:
    """Prepare nothing."""


def _no_settings(_config: Config) -> dict[str, str]:
    """Return no settings beyond those of every session."""
    return {}


@dataclass(frozen=True)
class Job:
    """A job, run by ``spark-submit``, as a wheel task, or in a notebook's session."""

    name: str
    """Name of its launcher in ``jobs/``, of its Spark application and of its log file."""
    summary: str
    """Description in one line, for ``--help``."""
    options: Sequence[Option]
    """Options of the command line, each a configuration key under a shorter name."""
    check: Callable[[Config], None]
    """Checks the configuration and the servers before any JVM starts, and creates the job's missing outputs."""
    run: Callable[[SparkSession, Config], dict[str, Any]]
    """Does the work and returns the summary as plain data."""
    settings: Callable[[Config], Mapping[str, str]] = _no_settings
    """Returns the Spark settings that this job needs."""
    ahead: Callable[[Config], None] = _nothing
    """Starts preparations that run in parallel with the checks and the start of the session."""

    def parse(self, argv: Sequence[str]) -> Arguments:
        """Read the job's command line and the configuration that it names.

        Raises:
            ConfigError: the configuration is wrong.
            SystemExit: the command line is wrong (code 2) or asks for help (code 0), as argparse does.
        """
        return arguments.parse(self.name, self.summary, self.options, argv)

    def create_session(self, config: Config, jars: Sequence[Path] = ()) -> SparkSession:
        """Return a session set up for this job: this process's existing session, or a new one.

        Args:
            config: the configuration.
            jars: verified jars of a new JVM, for a process without a session and without spark-submit.

        Raises:
            SetupError: the session does not start.
        """
        return session.create(config, self.name, self.settings(config), jars)
