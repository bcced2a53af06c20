"""``streamscore models``: what the configured models are, whether they pass the gate, and their aliases."""

from __future__ import annotations

from typing import Annotated

import typer

from streamscore import config as configuration
from streamscore.cli.options import ConfigOption, SetOption

app = typer.Typer(name="models", help="The configured models.", no_args_is_help=True)


@app.command(name="list")
def models_list(*, config: ConfigOption = "local", overrides: SetOption) -> None:
    """List the configured models with their versions and metrics; exit code 1 if one is refused."""
    from streamscore.cli import inventory

    faults = 0
    for entry in inventory.entries(configuration.load(config, overrides)):
        faults += entry.is_fault
        told = [f"version {entry.version}"] if entry.version else []
        told += [text for text in (inventory.described(entry.metrics), entry.note) if text]
        typer.echo(f"{entry.model.name:<14} {entry.model.uri}  {', '.join(told)}")
    raise typer.Exit(1 if faults else 0)


@app.command(name="check")
def models_check(
    model: Annotated[str, typer.Argument(metavar="NAME|URI", help="a configured model, or the address of another")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="accept a model without a manifest")] = False,
    files_only: Annotated[bool, typer.Option("--files-only", help="check only the files; start no JVM")] = False,
) -> None:
    """Take one model through the gate and print the findings; exit code 4 if it is refused."""
    from streamscore.cli import inventory

    settings = configuration.load(config, overrides)
    chosen = inventory.chosen(settings, model, unsigned=unsigned)
    for subject, text in inventory.check(settings, chosen, files_only=files_only):
        typer.echo(f"{subject:<14} {text}")
    typer.echo(f"{'passes':<14} {'the files; nothing was loaded' if files_only else chosen.uri}")


@app.command(name="promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="a configured model with an address like models:/…@alias")],
    version: Annotated[str, typer.Argument(help="the version to move the alias to")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
) -> None:
    """Move a model's alias to a version, once its files have passed the gate."""
    from streamscore.cli import inventory

    typer.echo(inventory.promote(configuration.load(config, overrides), name, version))


@app.command(name="rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="a configured model with an address like models:/…@alias")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
) -> None:
    """Move a model's alias back to the previous version."""
    from streamscore.cli import inventory

    typer.echo(inventory.rollback(configuration.load(config, overrides), name))
