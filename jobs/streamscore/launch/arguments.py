"""The command line of the jobs: each option is a configuration key under a shorter name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from streamscore import config
from streamscore.config import Config

_AS_VERB = (
    "As subcommands of streamscore, jobs also take --dry-run, which prints spark-submit's line and runs nothing; score "
    "also takes --restart, which restarts it when it dies."
)


class Option(NamedTuple):
    """An option that sets a configuration key; without ``metavar`` it is a switch that sets it to true."""

    flag: str
    key: str
    help: str
    metavar: str | None = None
    is_list: bool = False
    """Whether the option may be given several times, for a key that holds a list."""


@dataclass(frozen=True)
class Arguments:
    """A parsed command line: the configuration, and the arguments outside it."""

    config: Config
    extra: argparse.Namespace


def parse(job: str, description: str, options: Sequence[Option], argv: Sequence[str]) -> Arguments:
    """Read a job's command line and the configuration that it names.

    Args:
        job: name of the job.
        description: what the job does, for ``--help``.
        options: the job's own options.
        argv: the arguments.

    Raises:
        ConfigError: the configuration is wrong.
        SystemExit: the command line is wrong (code 2) or asks for help (code 0), as argparse does.
    """
    parser = argparse.ArgumentParser(prog=job, description=description, epilog=_AS_VERB)
    parser.add_argument(
        "--config",
        default=os.environ.get("STREAMSCORE_CONFIG", "local"),
        metavar="NAME|FILE",
        help="local, docker, databricks, or a YAML file that overrides conf/base.yml; default: the environment "
        "variable STREAMSCORE_CONFIG, or else local",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key, for instance kafka.partitions=8",
    )
    for option in options:
        kind: dict[str, Any] = {"action": "store_true"} if option.metavar is None else {"metavar": option.metavar}
        if option.is_list:
            kind["action"] = "append"
        parser.add_argument(option.flag, dest=option.key, default=None, help=f"{option.help} ({option.key})", **kind)
    parser.add_argument("--json", metavar="FILE", help="write the summary to a file, as JSON")
    arguments = parser.parse_args(argv)
    if arguments.json and not Path(arguments.json).parent.is_dir():  # reported now, not after the job has ended
        parser.error(f"--json: there is no folder {Path(arguments.json).parent}")
    chosen = {option.key: getattr(arguments, option.key) for option in options}
    overrides = [
        f"{key}=true" if value is True else config.as_override(key, value)
        for key, value in chosen.items()
        if value is not None
    ]
    return Arguments(config.load(arguments.config, [*arguments.set, *overrides]), arguments)
