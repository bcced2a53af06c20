"""The command ``streamscore``: one subcommand per job and per tool."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamscore import __version__
from streamscore import config as configuration
from streamscore.cli import kibana, models, rejected, replay
from streamscore.cli.launch import submit_job
from streamscore.cli.options import ConfigOption, JsonOption, RunOption, SetOption, load, of_run
from streamscore.config import TimeRange
from streamscore.errors import RefusedError, ServerError
from streamscore.launch.job import Job
from streamscore.launch.runner import reported
from streamscore.system.console import log, print_json, print_line, print_table, print_tables, set_up_logging

app = typer.Typer(
    name="streamscore",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (rejected, models, kibana, replay):
    app.add_typer(group.app)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def main() -> None:
    """Run the command line; an error ends it with the exit code of its kind."""
    set_up_logging()
    _take_as_interrupts(signal.SIGTERM, signal.SIGHUP)
    with reported():
        app()


def _take_as_interrupts(*numbers: signal.Signals) -> None:
    """Handle signals like Ctrl-C, so that this process stops its child processes before it ends."""
    for number in numbers:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)


def _print_version(*, wanted: bool) -> None:
    """Print the version and exit, if wanted."""
    if wanted:
        typer.echo(f"streamscore {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Accept the options before a verb."""


@app.command()
def up(*, config: ConfigOption = "local", overrides: SetOption) -> None:
    """Start Kafka and Elasticsearch on this machine."""
    from streamscore.local import stack

    for server in stack.up(configuration.load(config, overrides)):
        print_line(f"{server.name:<14} {server.address:<24} pid {server.pid}, log {server.log}")


@app.command()
def down(*, config: ConfigOption = "local", overrides: SetOption) -> None:
    """Stop the servers that `up` started."""
    from streamscore.local import stack

    settings = configuration.load(config, overrides)
    stopped = " and ".join(stack.down(settings))
    print_line(f"stopped {stopped}" if stopped else f"nothing was running that was started with {settings.state_dir}")


@app.command()
def create(*, config: ConfigOption = "local", overrides: SetOption) -> None:
    """Create missing topics and indices; the jobs do the same, if they have the permissions."""
    from streamscore.clients import elasticsearch, privileges
    from streamscore.clients import kafka as kafka_client

    settings = configuration.load(config, overrides)
    topics = settings.kafka.topics
    # The input topic first: the size limit of the rejected topic is derived from it.
    names = [
        *kafka_client.ensure(settings.kafka, topics.input),
        *kafka_client.ensure(settings.kafka, topics.predictions, topics.rejected),
    ]
    created = [f"topic {name}" for name in names]
    if settings.elasticsearch.enabled:
        made = elasticsearch.ensure(settings.elasticsearch, needed=privileges.TO_CREATE)
        created += [f"index {name}" for name in made]
    for line in [f"created {name}" for name in created] or ["everything is there"]:
        print_line(line)


@app.command()
def status(*, config: ConfigOption = "local", overrides: SetOption, as_json: JsonOption = False) -> None:
    """Show the versions, whether the servers answer and a job scores; exit code 1 if a server does not answer.

    With --json: ok (whether all servers answer); version; state_dir; java (null if there is none); spark; servers, each
    with name, address, ok and detail; job, with checkpoint, process (null if none runs on this machine) and error
    (null unless the checkpoint cannot be read). job is null for a checkpoint that only Spark can read.
    """
    from streamscore.cli import overview

    state = overview.inspect(configuration.load(config, overrides))
    if as_json:
        print_json(state.as_json())
    else:
        print_table({"part": 14, "state": 0}, state.rows())
    raise typer.Exit(0 if state.ok else 1)


@app.command()
def quality(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    time_range: Annotated[
        TimeRange | None,
        typer.Option(
            "--range", help="how far back to go: the last minutes, hours, days, or all; default: 1h, with --run all"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="only the versions of this model", metavar="NAME")] = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how good each version of each model is, from what the job has added up in Elasticsearch.

    A figure is green or red only where its whole interval lies above or below that of a model that knows nothing; a
    calibration ratio that is off 1 is yellow.

    With --json: range; models, each with name, version, score_kind (probability, margin, class_probability or
    class_margin), scored, declined, labelled and figures, an object by name: each has value, and low and high (its
    interval), bound, lower or upper where it has them; an undefined figure is null. docs/quality.md explains them. With
    labels.window also awaited_ms, the milliseconds of the range that do not count yet.

    Exit code 3: nothing was scored in that time; 2: no such model or run, or elasticsearch.enabled is false; 5: no
    answer.
    """
    from streamscore.cli import figures

    shown = time_range or ("1h" if run is None else "all")
    loaded = load(config, overrides, run)
    versions, awaited = figures.read(loaded, shown, model)
    if as_json:
        print_json(figures.as_json(versions, shown, awaited))
    else:
        notes = [figures.note_of(loaded, awaited)] if awaited else []
        print_tables(lambda width: figures.tables(versions, width), "\n".join([*notes, figures.LEGEND]))


@app.command()
def compare(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    challenger: Annotated[str | None, typer.Option(help="only this challenger", metavar="NAME")] = None,
    every: Annotated[bool, typer.Option("--all", help="also the versions that were replaced")] = False,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which model is better on the same events: each challenger against the champion.

    The verdict and the intervals hold however often they are looked at. Positive differences mean that the challenger
    is better. docs/compare.md explains the test.

    With --json, one object per challenger on a line of its own: champion, champion_version, challenger,
    challenger_version, n (events with a label that both scored), n10 and n01 (only the challenger, only the champion
    right), difference (of accuracy: value, low, high), log_loss_difference, brier_difference, e_value, p_value, alpha,
    verdict (better, worse, equal or null), verdict_events (with how many events it fell), topic.

    Exit code 3: nothing was compared; 2: no such run, or elasticsearch.enabled is false; 5: no answer.
    """
    from streamscore.cli import comparisons

    settings = load(config, overrides, run)
    found = comparisons.read(settings, challenger, every=every)
    if as_json:
        for each in found:
            print_json(comparisons.as_json(each, settings.compare.margin), indent=None)
    else:
        print_tables(lambda _width: [comparisons.table(found, settings.compare.margin)], comparisons.LEGEND)


@app.command(name="labels")
def late_labels(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    time_range: Annotated[
        TimeRange,
        typer.Option("--range", help="how far back coverage and lag go: the last minutes, hours, days, or all"),
    ] = "all",
    as_json: JsonOption = False,
) -> None:
    """Show what became of the labels that arrive after their events, how many events have one, and how long they take.

    With --json: range; counts: received, which is the sum of matched, duplicate, superseded, pending, expired and
    rejected, and ambiguous; models, each with name, version, scored, labelled and coverage (labelled ÷ scored, null if
    nothing was scored); lag_ms, with p50, p90 and p99 (null without late labels). docs/labels.md explains them.

    Exit code 2: elasticsearch.enabled is false; 5: no answer.
    """
    from streamscore.cli import labels

    state = labels.read(configuration.load(config, overrides), time_range)
    if as_json:
        print_json(labels.as_json(state, time_range))
    else:
        print_tables(lambda _width: labels.tables(state), labels.LEGEND)


@app.command()
def jars(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    cluster: Annotated[bool, typer.Option("--cluster", help="print spark-submit's line for a cluster instead")] = False,
) -> None:
    """Fetch and verify the jobs' jars and print them in the format of spark-submit's --jars."""
    from streamscore.launch import submit
    from streamscore.local import artifacts, java

    if cluster:
        typer.echo(submit.cluster_command())
        return
    settings = configuration.load(config, overrides)
    paths = artifacts.spark_jars(settings.local.artifacts_dir, java.find())
    typer.echo(",".join(map(str, paths)))


@app.command(name="config")
def show_config(*, config: ConfigOption = "local", overrides: SetOption) -> None:
    """Print the configuration in force, with secrets masked."""
    typer.echo(configuration.shown(configuration.load(config, overrides)), nl=False)


@app.command()
def dashboard(*, config: ConfigOption = "local", overrides: SetOption, run: RunOption = None) -> None:
    """Serve the live page until Ctrl-C; needs the packages of the extra "dashboard"."""
    from streamscore.dashboard import server

    settings = configuration.load(config, overrides)
    pairs = [*overrides, *of_run(settings, run)]
    log.info("the live page: %s", server.address(settings))
    server.become(settings, ["--config", config, *(word for pair in pairs for word in ("--set", pair))])


@app.command()
def report(
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="the file to write")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    time_range: Annotated[
        TimeRange, typer.Option("--range", help="how far back to go: the last minutes, hours, days, or all")
    ] = "all",
    run: RunOption = None,
) -> None:
    """Write a report of a run to a single file that needs no network: it can be mailed and opened from disk."""
    from streamscore.dashboard import report as writer

    size = writer.write(load(config, overrides, run), time_range, out)
    print_line(f"{out} ({size / 1024:,.0f} kB)")


@app.command(context_settings=_PASS_ON, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train the models, register them and export the test set. Options: streamscore train --help."""
    from streamscore import train_models

    submit_job(train_models.JOB, context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def seed(context: typer.Context) -> None:
    """Send a data set to the input topic. Options: streamscore seed --help."""
    from streamscore import seed_topic

    submit_job(seed_topic.JOB, context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def score(context: typer.Context) -> None:
    """Score the input topic; --restart restarts it after a crash. Options: streamscore score --help."""
    from streamscore import score_stream

    restart = "--restart" in context.args
    argv = [word for word in context.args if word != "--restart"]
    if restart and "--dry-run" not in argv:
        raise typer.Exit(_supervise(score_stream.JOB, argv))
    submit_job(score_stream.JOB, argv)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def label(context: typer.Context) -> None:
    """Join labels that arrive later than their events. Options: streamscore label --help."""
    from streamscore import label_stream

    submit_job(label_stream.JOB, context.args)


@app.command(name="demo")
def run_demo(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    rate: Annotated[float, typer.Option(help="events per second", min=1)] = 500,
    events: Annotated[int, typer.Option(help="number of events, from the start of the test set", min=1)] = 20_000,
    candidate: Annotated[
        bool, typer.Option("--candidate/--no-candidate", help="train a third model too, and compare it")
    ] = True,
    late_labels: Annotated[
        bool, typer.Option("--late-labels", help="send the labels some seconds after their events, and some never")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop/--keep", help="stop the servers at the end")] = not sys.stdout.isatty(),
) -> None:
    """Run the whole flow on this machine: servers, training, a paced stream, live scores and a check of the counts."""
    from streamscore.cli import demo

    argv = ["--config", config]
    # The demo's models stay local: MLFLOW_TRACKING_URI may name a registry that others score from.
    registry = "mlflow.tracking_uri=sqlite:///{state_dir}/mlflow/mlflow.db"
    overrides += [registry, "stream.synthetic=true", f"seed.rate={rate}", f"seed.limit={events}"]
    if candidate:
        overrides += demo.with_candidate(configuration.load(config, overrides))
    if late_labels:
        overrides += demo.LATE_LABELS
    for override in overrides:
        argv += ["--set", override]
    demo.run(configuration.load(config, overrides), argv, keep=not stop)


@app.command(name="doctor")
def check_all(*, config: ConfigOption = "local", overrides: SetOption, as_json: JsonOption = False) -> None:
    """Check everything that scoring depends on and say what to do; exit code 1 if something is wrong.

    With --json: ok (whether there is no fault); findings, each with subject, status (ok, note or fault) and text.
    """
    from streamscore.cli import doctor

    findings = []

    def rows() -> Iterator[tuple[str, str, str]]:
        for finding in doctor.examine(configuration.load(config, overrides)):
            findings.append(finding)
            yield "FAULT" if finding.status == "fault" else finding.status, finding.subject, finding.text

    if as_json:
        findings += doctor.examine(configuration.load(config, overrides))
    else:
        print_table({"status": 5, "subject": 14, "finding": 0}, rows())
    ok = all(finding.status != "fault" for finding in findings)
    if as_json:
        print_json({"ok": ok, "findings": [finding._asdict() for finding in findings]})
    raise typer.Exit(0 if ok else 1)


def _supervise(job: Job, argv: list[str]) -> int:
    """Run a job's spark-submit as a child process and restart it after a transient fault; return its exit code."""
    from streamscore.launch import submit, supervisor

    settings = job.parse(argv).config
    try:
        job.check(settings)
    except RefusedError:
        raise
    except ServerError as error:  # the server may still be starting; the job checks again
        log.warning("%s", error)
    environment = submit.prepare(settings)
    return supervisor.supervise(lambda: submit.start(job, settings, argv, environment), settings.stream.max_restarts)
