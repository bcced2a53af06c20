"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from streamscore import config
from streamscore.config import Config
from streamscore.errors import ConfigError

ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", envvar="STREAMSCORE_CONFIG", metavar="NAME|FILE", help="local, docker, databricks, or a YAML file"
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="show the replay of this name (`streamscore replay`), not the stream"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document, described above, and no table")]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="override one key of conf/base.yml",
        default_factory=list,
        show_default=False,
    ),
]


def load(environment: str, overrides: Sequence[str], run: str | None) -> Config:
    """Load the configuration, for a command that shows figures; with the indices of a replay if one is named.

    Args:
        environment: value of --config.
        overrides: values of --set.
        run: value of --run.

    Raises:
        ConfigError: the configuration is wrong, or there is no such replay.
        ServerError: Elasticsearch cannot be reached, and a replay is named.
    """
    return config.load(environment, [*overrides, *of_run(config.load(environment, overrides), run)])


def of_run(settings: Config, run: str | None) -> list[str]:
    """Return the overrides that show a replay in the place of the stream; none if no replay is named.

    Args:
        settings: the configuration without them.
        run: name of the replay.

    Raises:
        ConfigError: there is no such replay.
        ServerError: Elasticsearch cannot be reached.
    """
    if run is None:
        return []
    from streamscore.clients import elasticsearch
    from streamscore.stream import runs

    if not settings.elasticsearch.enabled:
        raise ConfigError("--run: the statistics of replays are in Elasticsearch, and elasticsearch.enabled is false")
    known = elasticsearch.runs(settings.elasticsearch)
    if run not in known:
        raise runs.unknown(run, known)
    return runs.overrides(settings, run)
