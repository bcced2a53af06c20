"""What a job is to those who start it: launchers, the command line, notebooks, wheel tasks."""

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
    """Do nothing ahead of the work."""


def _no_settings(_config: Config) -> dict[str, str]:
    """Need no Spark settings beside those of every session."""
    return {}


@dataclass(frozen=True)
class Job:
    """A job, run by ``spark-submit``, as a wheel task, or in a notebook's session."""

    name: str
    """Name of its launcher in ``jobs/``, of its Spark application and of its log file."""
    summary: str
    """What it does, in one line, for ``--help``."""
    options: Sequence[Option]
    """The options of its command line, each a configuration key under a shorter name."""
    check: Callable[[Config], None]
    """Finds what can be found wrong before any JVM starts, and makes what it writes to."""
    run: Callable[[SparkSession, Config], dict[str, Any]]
    """Does the work and returns the summary, plain data."""
    settings: Callable[[Config], Mapping[str, str]] = _no_settings
    """Returns the Spark settings that this job needs."""
    ahead: Callable[[Config], None] = _nothing
    """Begins, beside the checks and the start of the session, what the run will need."""

    def parse(self, argv: Sequence[str]) -> Arguments:
        """Read the job's command line and the configuration that it names.

        Raises:
            ConfigError: the configuration is wrong.
            SystemExit: the command line is wrong (code 2) or asks for help (code 0), as argparse does.
        """
        return arguments.parse(self.name, self.summary, self.options, argv)

    def create_session(self, config: Config, jars: Sequence[Path] = ()) -> SparkSession:
        """Return a session set up for this job: the one that exists in this process, or else a new one.

        Args:
            config: the configuration.
            jars: verified jars to start a JVM with, where neither a session nor spark-submit is there.

        Raises:
            SetupError: the session does not start.
        """
        return session.create(config, self.name, self.settings(config), jars)
