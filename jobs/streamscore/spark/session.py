"""Create and stop the SparkSession; no other module does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamscore.config import Config
from streamscore.errors import SetupError
from streamscore.spark import tmpdir
from streamscore.spark.errors import reason
from streamscore.spark.settings import (
    DELTA_SETTINGS,
    IN_PARTS,
    ON_ONE_MACHINE,
    ONE_ATTEMPT,
    is_on_one_machine,
    log_file,
    on_databricks,
    spark_settings,
)
from streamscore.system.console import log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_FOREIGN: Final = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR")
"""Environment variables that name folders of settings, for instance on a machine of a cluster."""


_CANCEL_SECONDS: Final = 10.0
_STATUS_SECONDS: Final = 0.25
"""Seconds; longer than the delay of Spark's task status (``spark.ui.liveUpdate.period``)."""
_IDLE_LOOKS: Final = 2
"""Repeated because a query may start its next job just after a cancellation."""


def create(config: Config, job: str, own: Mapping[str, str] | None = None, jars: Sequence[Path] = ()) -> SparkSession:
    """Return the session of a job: the existing one (notebook, Databricks), or a new one.

    An existing session gets the settings that can change while it runs, and keeps its master, memory and jars. Under
    spark-submit the settings and jars of the command line win. In plain Python the session's JVM starts with ``jars``.

    Args:
        config: the configuration.
        job: name of the job, which becomes the application's name and that of Spark's log file.
        own: Spark settings that this kind of job needs.
        jars: verified jars of a new JVM, for a process without a session and without spark-submit.

    Raises:
        SetupError: the session does not start.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    settings = spark_settings(config, job, own)
    existing = _existing()
    if existing is not None:
        _adapt(existing, IN_PARTS | settings)
        return existing
    builder = SparkSession.builder.appName(f"streamscore {job}")
    if config.spark.master is not None:
        folder = config.state_dir / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        if is_on_one_machine(config):  # on a cluster other machines may have files there
            tmpdir.use(folder)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        if config.spark.master is not None:
            builder = builder.master(config.spark.master).config("spark.driver.memory", config.spark.driver_memory)
        if jars:
            settings |= DELTA_SETTINGS | {"spark.jars": ",".join(map(str, jars))}
        if is_on_one_machine(config):
            os.environ.update(ON_ONE_MACHINE | os.environ)
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError, RuntimeError) as error:
        others = [name for name in _FOREIGN if name in os.environ]
        hint = f" It reads the settings in {' and '.join(others)}: are they meant for it?" if others else ""
        raise SetupError(f"Spark did not start: {reason(error)}; see {log_file(config, job)}.{hint}") from None


@contextmanager
def opened(config: Config, job: str, own: Mapping[str, str] | None = None) -> Iterator[SparkSession]:
    """Yield the session of a job, and stop it afterwards unless it existed before.

    Args:
        config: the configuration.
        job: name of the job.
        own: Spark settings that this kind of job needs.

    Raises:
        SetupError: the session does not start.
    """
    from py4j.protocol import Py4JError

    ours = _existing() is None
    spark = create(config, job, own)
    try:
        yield spark
    finally:
        if ours:
            with suppress(OSError, Py4JError):  # Ctrl-C reaches the JVM too, which may have ended
                _cancel_jobs(spark)
                spark.stop()


def _cancel_jobs(spark: SparkSession) -> None:
    """Cancel the running Spark jobs and wait up to ten seconds for their tasks to end.

    A session's stop begins with its executor and scheduler, and logs a stack trace (``RejectedExecutionException``) for
    each task that starts or ends afterwards.
    """
    context = spark.sparkContext
    jobs = context.statusTracker()
    if not jobs.getActiveJobsIds():
        return
    executors: Any = context._jsc.sc().statusTracker()  # noqa: SLF001 (Python's status tracker lacks them)
    deadline = time.monotonic() + _CANCEL_SECONDS
    idle = 0
    while idle < _IDLE_LOOKS and time.monotonic() < deadline:
        context.cancelAllJobs()
        time.sleep(_STATUS_SECONDS)
        is_busy = any(executor.numRunningTasks() for executor in executors.getExecutorInfos())
        idle = 0 if is_busy or jobs.getActiveJobsIds() else idle + 1


def _existing() -> SparkSession | None:
    """Return this process's existing session, if any; Databricks always has one."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate() if on_databricks() else SparkSession.getActiveSession()


def _adapt(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Apply the settings that a running session accepts, and warn about guarantees that the session lacks."""
    for name, value in settings.items():
        if spark.conf.isModifiable(name):
            spark.conf.set(name, value)
    lacking = [name for name in ONE_ATTEMPT if name in settings and spark.conf.get(name, None) != settings[name]]
    if lacking and not str(spark.sparkContext.master).startswith("local["):  # a local master never retries tasks
        log.warning(
            "this session lacks %s: Spark may repeat a task and send some records twice. Set it where the "
            "session is started, on Databricks in the cluster's Spark configuration",
            " and ".join(f"{name}={settings[name]}" for name in lacking),
        )
