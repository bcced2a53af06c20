"""``streamscore models``: list and check the configured models, and move their aliases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamscore import config as configuration
from streamscore.cli.options import ConfigOption, JsonOption, SetOption
from streamscore.system.console import print_json, print_line, print_table

app = typer.Typer(name="models", help="The configured models.", no_args_is_help=True)


@app.command(name="list")
def models_list(*, config: ConfigOption = "local", overrides: SetOption, as_json: JsonOption = False) -> None:
    """List the configured models with their versions and metrics; exit code 1 if one is refused.

    With --json: ok (whether none is refused); models, each with name, uri, version (null if it is refused or out of
    reach), metrics (numbers by name), refused (true or false) and note (why it is refused, or what it lacks).
    """
    from streamscore.cli import inventory

    entries = list(inventory.entries(configuration.load(config, overrides)))
    ok = not any(entry.refused for entry in entries)
    if as_json:
        print_json({"ok": ok, "models": [entry.as_json() for entry in entries]})
    else:
        print_table({"model": 14, "uri": 0, "state": 0}, (entry.row() for entry in entries))
    raise typer.Exit(0 if ok else 1)


@app.command(name="check")
def models_check(
    model: Annotated[str, typer.Argument(metavar="NAME|URI", help="a configured model, or the address of another")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="accept a model without a manifest")] = False,
    signed: Annotated[bool, typer.Option("--signed", help="require a signature by signatures.public_keys")] = False,
    files_only: Annotated[bool, typer.Option("--files-only", help="check only the files; start no JVM")] = False,
) -> None:
    """Take one model through the gate and print the findings; exit code 4 if it is refused."""
    from streamscore.cli import inventory

    settings = configuration.load(config, overrides)
    if signed and unsigned:
        raise typer.BadParameter("give either --signed or --unsigned")
    chosen = inventory.chosen(settings, model, "signed" if signed else "unsigned" if unsigned else None)
    for subject, text in inventory.check(settings, chosen, files_only=files_only):
        print_line(f"{subject:<14} {text}")
    print_line(f"{'passes':<14} {'the files; nothing was loaded' if files_only else chosen.uri}")


@app.command(name="sign")
def models_sign(
    folder: Annotated[Path, typer.Argument(help="a model's folder on this machine, with its manifest")],
    *,
    key: Annotated[Path, typer.Option("--key", help="file with the Ed25519 private key, PEM without a password")],
) -> None:
    """Sign the manifest of a model, once its files have passed the gate; for entries with trust: signed."""
    from streamscore import models

    typer.echo(str(models.add_signature(folder, key)))


@app.command(name="promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="a configured model with an address like models:/…@alias")],
    version: Annotated[str, typer.Argument(help="the version to move the alias to")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    if_better: Annotated[
        bool, typer.Option("--if-better", help="refuse (code 4) unless it was better on the same events")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask on a terminal")] = False,
) -> None:
    """Move a model's alias to a version, once its files have passed the gate.

    First it says how the version compares with the present one on the events that both scored, if both were served
    side by side, live or in a replay. On a terminal it asks before it moves the alias.
    """
    from streamscore.cli import inventory, promotion

    settings = configuration.load(config, overrides)
    compared = promotion.compared(settings, name, version, required=if_better)
    print_line(promotion.described(settings, compared, name, version))
    if if_better:
        promotion.require_better(settings, compared, name, version)
    elif sys.stdin.isatty() and not yes:
        typer.confirm(f"move {name} to version {version}?", abort=True)
    print_line(inventory.promote(settings, name, version))


@app.command(name="rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="a configured model with an address like models:/…@alias")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
) -> None:
    """Move a model's alias back to the previous version."""
    from streamscore.cli import inventory

    print_line(inventory.rollback(configuration.load(config, overrides), name))
