"""The spark-submit command of each job, for the verbs train, seed and score, and for a cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from streamscore.config import Config
from streamscore.errors import SetupError
from streamscore.launch.job import Job
from streamscore.local import artifacts, java
from streamscore.spark import maven
from streamscore.spark.settings import DELTA_SETTINGS, ON_ONE_MACHINE, is_on_one_machine, spark_settings
from streamscore.spark.spark_home import spark_home
from streamscore.system.console import TERMINAL_VARIABLE


def command(job: Job, config: Config, argv: Sequence[str]) -> list[str]:
    """Return the command that runs a job on this machine with the verified jars.

    Args:
        job: the job.
        config: the configuration; its secrets never appear in the command.
        argv: the job's own arguments.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    jars = artifacts.spark_jar_paths(config.local.artifacts_dir)
    master = [] if config.spark.master is None else ["--master", config.spark.master]
    settings = DELTA_SETTINGS | spark_settings(config, job.name, job.settings(config))
    return [
        str(scripts / "spark-submit"),
        *master,
        *("--driver-memory", config.spark.driver_memory),
        *("--jars", ",".join(map(str, jars))),
        *(word for name, value in settings.items() for word in ("--conf", f"{name}={value}")),
        str(scripts / f"{job.name}.py"),
        *argv,
    ]


def cluster_command() -> str:
    """Return the command that scores on a cluster: the cluster fetches all jars but the decoder's, which is shipped."""
    return " \\\n  ".join(
        [
            "spark-submit --master yarn",
            f"--packages {','.join(map(str, maven.SPARK_JARS))}",
            f"--exclude-packages {','.join(maven.SPARK_EXCLUDES)}",
            "--jars streamscore-decoder.jar --py-files streamscore.zip",
            "jobs/score_stream.py --config my.yml",
        ]
    )


def prepare(config: Config) -> dict[str, str]:
    """Fetch and verify the command's jars, make its folders, and return its environment.

    Raises:
        SetupError: there is no Java, or a jar is missing and cannot be fetched.
    """
    found = java.find()
    artifacts.spark_jars(config.local.artifacts_dir, found)
    for name in ("tmp", "logs"):
        (config.state_dir / name).mkdir(parents=True, exist_ok=True)
    environment = java.environment(found)
    # spark-submit finds Spark with the first python3 on PATH.
    environment["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{environment['PATH']}"
    environment |= {
        "SPARK_HOME": str(spark_home()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    if is_on_one_machine(config):
        environment = ON_ONE_MACHINE | environment
    if sys.stdout.isatty():
        with suppress(OSError):  # in some containers the terminal has no name
            environment[TERMINAL_VARIABLE] = os.ttyname(sys.stdout.fileno())
    return environment


def become(job: Job, config: Config, argv: Sequence[str]) -> NoReturn:
    """Replace this process with the job's spark-submit, so that the job receives this process's signals.

    Args:
        job: the job.
        config: the configuration.
        argv: the job's own arguments.

    Raises:
        SetupError: there is no Java, a jar cannot be fetched, or spark-submit cannot be run.
    """
    environment = prepare(config)
    words = command(job, config, argv)
    try:
        os.execve(words[0], words, environment)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        raise SetupError(
            f"{words[0]} cannot be run ({error.strerror}); is streamscore installed in this Python?"
        ) from None


def start(
    job: Job, config: Config, argv: Sequence[str], environment: Mapping[str, str], log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a job's spark-submit as a child process.

    Args:
        job: the job.
        config: the configuration.
        argv: the job's own arguments.
        environment: what ``prepare`` returned.
        log: file for the job's output; with a file, the job is detached from this terminal and its Ctrl-C.
    """
    words = command(job, config, argv)
    if log is None:
        return subprocess.Popen(words, env=dict(environment), stdin=subprocess.DEVNULL)
    apart = {name: value for name, value in environment.items() if name != TERMINAL_VARIABLE}
    with log.open("wb") as output:
        return subprocess.Popen(
            words,
            env=apart,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def shown(words: Sequence[str]) -> str:
    """Return a command as text for a shell, one option per line."""
    return " ".join(("\\\n  " if word.startswith("--") else "") + shlex.quote(word) for word in words)
