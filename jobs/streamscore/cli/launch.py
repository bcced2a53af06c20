"""Run a job's spark-submit in the place of the command line."""

from __future__ import annotations

import typer

from streamscore.launch.job import Job


def submit_job(job: Job, argv: list[str]) -> None:
    """Check a job's arguments and data, then become its spark-submit; with --dry-run, only print that line.

    Args:
        job: the job.
        argv: the job's arguments.
    """
    from streamscore.launch import submit

    dry = "--dry-run" in argv
    argv = [word for word in argv if word != "--dry-run"]
    arguments = job.parse(argv)
    if dry:
        typer.echo(submit.shown(submit.command(job, arguments.config, argv)))
        return
    job.check(arguments.config)
    submit.become(job, arguments.config, argv)
