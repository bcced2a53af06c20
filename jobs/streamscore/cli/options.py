"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", envvar="STREAMSCORE_CONFIG", metavar="NAME|FILE", help="local, docker, databricks, or a YAML file"
    ),
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
