"""``streamscore kibana``: the Kibana dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamscore import config as configuration
from streamscore.cli.options import ConfigOption, SetOption
from streamscore.system.console import print_line

app = typer.Typer(name="kibana", help="The Kibana dashboard.", no_args_is_help=True)


@app.command(name="import")
def kibana_import(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    url: Annotated[str | None, typer.Option(help="Kibana's address (kibana.url)")] = None,
    space: Annotated[str | None, typer.Option(help="the space to import into (kibana.space)")] = None,
    alert: Annotated[bool, typer.Option("--alert/--no-alert", help="import the alert rule too")] = True,
) -> None:
    """Import the dashboard, its data views and the alert rule into Kibana; a second run updates them."""
    from streamscore.kibana import importer

    options = {"kibana.url": url, "kibana.space": space}
    chosen = [configuration.as_override(key, value) for key, value in options.items() if value is not None]
    settings = configuration.load(config, [*overrides, *chosen])
    for change in importer.run(settings, with_alert=alert):
        print_line(str(change))


@app.command(name="export")
def kibana_export(
    folder: Annotated[Path, typer.Argument(help="where to write the files")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
) -> None:
    """Write the files that `import` would send, for a Kibana that this machine cannot reach."""
    from streamscore.kibana import export

    for path in export.write(configuration.load(config, overrides), folder):
        print_line(str(path))
