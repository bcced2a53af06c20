"""The command ``streamscore``: one verb per job and per tool."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from streamscore import __version__
from streamscore import config as configuration
from streamscore.config import Config, TimeRange
from streamscore.console import log, set_up_logging
from streamscore.errors import ConfigError, ServerError, SetupError, StreamscoreError
from streamscore.runner import fail

app = typer.Typer(
    name="streamscore",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
rejected = typer.Typer(name="rejected", help="What could not be scored.", no_args_is_help=True)
app.add_typer(rejected)
kibana = typer.Typer(name="kibana", help="The Kibana dashboard.", no_args_is_help=True)
app.add_typer(kibana)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", envvar="STREAMSCORE_CONFIG", metavar="NAME|FILE", help="local, docker, databricks, or a YAML file"
    ),
]
SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="override one key of conf/base.yml")]


def main() -> None:
    """Run the command line; an error that was raised on purpose ends it with the error's own exit code."""
    set_up_logging()
    try:
        app()
    except StreamscoreError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def up(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006 (Typer reads the default only)
    """Start Kafka and Elasticsearch on this machine."""
    from streamscore.local import stack

    for server in stack.up(configuration.load(config, set)):
        typer.echo(f"{server.name:<14} {server.address:<24} pid {server.pid}, log {server.log}")


@app.command()
def down(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006
    """Stop what `up` started."""
    from streamscore.local import stack

    stopped = stack.down(configuration.load(config, set))
    typer.echo(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def create(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006
    """Create the topics and the indices that are missing; the jobs do the same, where they are allowed to."""
    from streamscore import index, topics

    settings = configuration.load(config, set)
    named = settings.kafka.topics
    made = [f"topic {name}" for name in topics.ensure(settings.kafka, named.input, named.predictions, named.rejected)]
    if settings.elasticsearch.enabled:
        made += [f"index {name}" for name in index.ensure(settings.elasticsearch)]
    typer.echo("\n".join(f"created {name}" for name in made) or "everything is there")


@app.command()
def status(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006
    """Say what runs; exit code 1 if a server does not answer."""
    settings = configuration.load(config, set)
    import pyspark

    typer.echo(f"{'streamscore':<14} {__version__}, state in {settings.state_dir}")
    typer.echo(f"{'java':<14} {_java()}")
    typer.echo(f"{'spark':<14} {pyspark.__version__}")
    answers = [_kafka_answers(settings), _elasticsearch_answers(settings)]
    raise typer.Exit(0 if all(answers) else 1)


@app.command()
def jars(
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
    cluster: Annotated[bool, typer.Option("--cluster", help="print spark-submit's line for a cluster instead")] = False,
) -> None:
    """Fetch and verify the jars of the jobs and print them as spark-submit's --jars takes them."""
    from streamscore import submit
    from streamscore.local import artifacts, java

    if cluster:
        typer.echo(submit.cluster_command("score_stream"))
        return
    settings = configuration.load(config, set)
    found = artifacts.spark_jars(settings.local.artifacts_dir, java.find())
    typer.echo(",".join(map(str, found)))


@app.command(name="config")
def show_config(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006
    """Print the configuration in force, secrets masked."""
    typer.echo(configuration.shown(configuration.load(config, set)), nl=False)


@app.command()
def dashboard(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006
    """Serve the live page until Ctrl-C; it needs the packages of the extra "dashboard"."""
    from streamscore.dashboard import server

    settings = configuration.load(config, set)
    log.info("the live page: %s", server.address(settings))
    server.become(settings, ["--config", config, *(word for pair in set for word in ("--set", pair))])


@app.command()
def report(
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="the file to write")],
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
    time_range: Annotated[
        TimeRange, typer.Option("--range", help="how far back: the last minutes, hours, days, or all")
    ] = "all",
) -> None:
    """Write a page about a run into one file that needs no network: it can be mailed, and opens from disk."""
    from streamscore import report as writer

    size = writer.write(configuration.load(config, set), time_range, out)
    typer.echo(f"{out} ({size / 1024:,.0f} kB)")


@app.command(context_settings=_PASS_ON, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train the models, register them, export the test set. Options: streamscore train --help."""
    from streamscore import train_models

    _submit(train_models, context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def seed(context: typer.Context) -> None:
    """Send a data set to the input topic. Options: streamscore seed --help."""
    from streamscore import seed_topic

    _submit(seed_topic, context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def score(context: typer.Context) -> None:
    """Score the input topic. Options: streamscore score --help; with --restart it is started again when it dies."""
    from streamscore import score_stream

    restart = "--restart" in context.args
    argv = [word for word in context.args if word != "--restart"]
    if restart and "--dry-run" not in argv:
        raise typer.Exit(_supervise(score_stream, argv))
    _submit(score_stream, argv)


@app.command()
def demo(
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
    rate: Annotated[float, typer.Option(help="events per second", min=1)] = 500,
    events: Annotated[int, typer.Option(help="number of events, the test set's first ones", min=1)] = 20_000,
    stop: Annotated[bool, typer.Option("--stop/--keep", help="stop the servers at the end")] = not sys.stdout.isatty(),
) -> None:
    """Run the whole flow on this machine: servers, training, a paced stream, live scores, and a check of the counts."""
    from streamscore import demo as show

    argv = ["--config", config]
    overrides = [*set, "stream.synthetic=true", f"seed.rate={rate}", f"seed.limit={events}"]
    for override in overrides:
        argv += ["--set", override]
    show.run(configuration.load(config, overrides), argv, keep=not stop)


@app.command()
def doctor(config: ConfigOption = "local", set: SetOption = []) -> None:  # noqa: A002, B006
    """Look at everything that scoring depends on and say what to do; exit code 1 if something is wrong."""
    from streamscore import doctor as examiner

    marks = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}
    faults = 0
    for finding in examiner.examine(configuration.load(config, set)):
        faults += finding.status == "fault"
        typer.echo(f"{marks[finding.status]} {finding.subject:<14} {finding.text}")
    raise typer.Exit(1 if faults else 0)


@rejected.command(name="list")
def rejected_list(
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
    reason: Annotated[str | None, typer.Option(help="only messages rejected for this reason")] = None,
    limit: Annotated[int, typer.Option(help="most messages to list, the newest", min=1)] = 20,
) -> None:
    """List rejected messages: how many of each reason, and the newest ones."""
    from streamscore import rejected as topic

    found = [
        message for message in topic.read(configuration.load(config, set).kafka) if reason in {None, message.reason}
    ]
    for name, count in sorted(Counter(message.reason for message in found).items()):
        typer.echo(f"{count:>8,} {name}")
    for message in sorted(found, key=lambda message: message.timestamp)[-limit:]:
        typer.echo(f"{message.event_id}  {message.reason}: {message.detail}")


@rejected.command(name="show")
def rejected_show(
    event_id: Annotated[str, typer.Argument(help="the id that `list` shows")],
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
) -> None:
    """Show one rejected message whole."""
    from streamscore import rejected as topic

    message = topic.find(configuration.load(config, set).kafka, event_id)
    typer.echo(f"{'reason':<8} {message.reason}: {message.detail}")
    typer.echo(f"{'key':<8} {message.key!r}")
    for name, value in message.own_headers():
        typer.echo(f"{'header':<8} {name} = {value!r}")
    typer.echo(f"{'value':<8} {message.value!r}")


@rejected.command(name="replay")
def rejected_replay(
    event_ids: Annotated[list[str] | None, typer.Argument(help="ids that `list` shows")] = None,
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
    reason: Annotated[str | None, typer.Option(help="all messages rejected for this reason")] = None,
    value: Annotated[Path | None, typer.Option(help="file with a repaired value for the one message named")] = None,
) -> None:
    """Send rejected messages to the input topic again, as they were or repaired, each at most once."""
    from streamscore import rejected as topic

    ids = event_ids or []
    if bool(ids) == bool(reason) or (value is not None and len(ids) != 1):
        raise ConfigError("give ids or --reason, not both; --value goes with exactly one id")
    kafka = configuration.load(config, set).kafka
    if ids:
        wanted = [topic.find(kafka, event_id) for event_id in ids]
    else:
        wanted = [message for message in topic.read(kafka) if message.reason == reason]
    sent = topic.replay(kafka, wanted, None if value is None else value.read_bytes())
    typer.echo(f"sent {sent} of {len(wanted)}; the others were sent before")


@kibana.command(name="import")
def kibana_import(
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
    url: Annotated[str | None, typer.Option(help="Kibana's address (kibana.url)")] = None,
    space: Annotated[str | None, typer.Option(help="the space to import into (kibana.space)")] = None,
    alert: Annotated[bool, typer.Option("--alert/--no-alert", help="the alert rule too")] = True,
) -> None:
    """Put the dashboard, its data views and the alert rule into a Kibana; again to bring them up to date."""
    from streamscore.kibana import importer

    chosen = [f"kibana.{key}={value}" for key, value in (("url", url), ("space", space)) if value is not None]
    settings = configuration.load(config, [*set, *chosen])
    for change in importer.run(settings, with_alert=alert):
        typer.echo(str(change))


@kibana.command(name="export")
def kibana_export(
    folder: Annotated[Path, typer.Argument(help="where the files go")],
    config: ConfigOption = "local",
    set: SetOption = [],  # noqa: A002, B006
) -> None:
    """Write what `import` sends to files, for a Kibana that cannot be reached from here."""
    from streamscore.kibana import export

    for path in export.write(configuration.load(config, set), folder):
        typer.echo(str(path))


def _submit(job: ModuleType, argv: list[str]) -> None:
    """Check a job's arguments and data here, then become its spark-submit; with --dry-run print that line instead."""
    from streamscore import submit

    dry = "--dry-run" in argv
    argv = [word for word in argv if word != "--dry-run"]
    arguments = job.parse(argv)
    if dry:
        typer.echo(submit.shown(submit.command(job.NAME, arguments.config, argv)))
        return
    job.check(arguments.config)
    submit.become(job.NAME, arguments.config, argv)


def _supervise(job: ModuleType, argv: list[str]) -> int:
    """Run a job's spark-submit as a child and start it again when it dies of a fault that may pass."""
    from streamscore import submit, supervisor

    settings = job.parse(argv).config
    job.check(settings)
    environment = submit.prepare(settings)
    return supervisor.supervise(
        lambda: submit.start(job.NAME, settings, argv, environment), settings.stream.max_restarts
    )


def _java() -> str:
    from streamscore.local import java

    try:
        return str(java.find())
    except SetupError as error:
        return f"none: {error}"


def _kafka_answers(settings: Config) -> bool:
    from streamscore import topics

    try:
        existing = topics.names(settings.kafka, timeout=3.0)
    except ServerError as error:
        log.debug("%s", error)
        typer.echo(f"{'kafka':<14} does not answer at {settings.kafka.bootstrap_servers}")
        return False
    typer.echo(f"{'kafka':<14} answers at {settings.kafka.bootstrap_servers}, topics: {', '.join(existing) or 'none'}")
    return True


def _elasticsearch_answers(settings: Config) -> bool:
    from streamscore import index

    try:
        version = index.health(settings.elasticsearch, timeout=3.0)
    except ServerError as error:
        log.debug("%s", error)
        typer.echo(f"{'elasticsearch':<14} does not answer at {settings.elasticsearch.url}")
        return False
    typer.echo(f"{'elasticsearch':<14} {version} answers at {settings.elasticsearch.url}")
    return True
