"""``streamscore replay``: score a past stretch of the topic again, and list and delete such runs."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from streamscore import config as configuration
from streamscore.cli.launch import submit_job
from streamscore.cli.options import ConfigOption, JsonOption, SetOption
from streamscore.config.types import iso_time
from streamscore.system.console import print_json, print_line, print_table

_JOB = "run"


class _JobOrVerb(TyperGroup):
    """A group whose command without a verb is the job."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Take the arguments for the job's if they do not begin with a verb."""
        verbs = set(self.commands) - {_JOB}
        return super().parse_args(ctx, args if args and args[0] in verbs else [_JOB, *args])


app = typer.Typer(
    name="replay", cls=_JobOrVerb, help="Score a past stretch of the input topic again; list and delete such runs."
)


@app.command(
    name=_JOB,
    hidden=True,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def replay_run(context: typer.Context) -> None:
    """Score a past stretch of the input topic."""
    from streamscore import replay_topic

    submit_job(replay_topic.JOB, context.args)


@app.command(name="list")
def replay_list(*, config: ConfigOption = "local", overrides: SetOption, as_json: JsonOption = False) -> None:
    """List the runs of this machine: their stretches, their models, and how far they are.

    With --json: runs, each with name, topic, from, to, models (each with name and uri), records, scored (how many of
    them), complete, process (null if none scores it) and quality_index.
    """
    from streamscore.stream import runs

    found = runs.all_of(configuration.load(config, overrides))
    if as_json:
        print_json({"runs": [each.as_json() for each in found]})
        return
    rows = (
        (
            each.run.name,
            f"{iso_time(each.run.begin)} to {iso_time(each.run.end)}",
            f"{each.run.records:,}",
            each.state,
            ", ".join(model["name"] for model in each.run.models),
        )
        for each in found
    )
    print_table({"run": 33, "stretch": 44, "records": 11, "state": 16, "models": 0}, rows)


@app.command(name="delete")
def replay_delete(
    name: Annotated[str, typer.Argument(help="a run that `list` shows")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
) -> None:
    """Delete a run: its indices and its folder, and nothing else."""
    from streamscore.stream import runs

    settings = configuration.load(config, [*overrides, configuration.as_override("replay.name", name)])
    for deleted in runs.delete(settings, name):
        print_line(f"deleted {deleted}")
