"""The only place that creates a SparkSession."""

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
"""Environment variables that name folders of settings, on a machine of a cluster for instance."""


_CANCEL_SECONDS: Final = 10.0
_STATUS_SECONDS: Final = 0.25
"""Longer than what Spark's status of its tasks may be behind (``spark.ui.liveUpdate.period``)."""
_IDLE_LOOKS: Final = 2
"""A job that was cancelled may just have been started again, by a query's next stage."""


def create(config: Config, job: str, own: Mapping[str, str] | None = None, jars: Sequence[Path] = ()) -> SparkSession:
    """Return the session of a job: the one that exists (notebook, Databricks), or a new one.

    One that exists gets the settings that can change while it runs; its master, memory and jars are its owner's
    business. Under spark-submit the settings and jars of its command line win. Without it, in plain Python, ``jars``
    are what the session's JVM starts with.

    Args:
        config: the configuration.
        job: name of the job, which becomes the application's name and that of Spark's log file.
        own: Spark settings that this kind of job needs.
        jars: verified jars to start a JVM with, if there is no session and no spark-submit.

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
        if is_on_one_machine(config):  # else other machines may have their files there
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
    """Create the session of a job and stop it afterwards, unless it existed before: then others go on with it.

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
            with suppress(OSError, Py4JError):  # Ctrl-C reaches the JVM too: it may be gone
                _cancel_jobs(spark)
                spark.stop()


def _cancel_jobs(spark: SparkSession) -> None:
    """Cancel the jobs that still run and wait for the end of their tasks, at most ten seconds.

    Spark stops its executor and its scheduler first: of each task that is started or ends after that, it logs a stack
    trace (``RejectedExecutionException``).
    """
    context = spark.sparkContext
    jobs = context.statusTracker()
    if not jobs.getActiveJobsIds():
        return
    executors: Any = context._jsc.sc().statusTracker()  # noqa: SLF001 (Python's lacks them)
    deadline = time.monotonic() + _CANCEL_SECONDS
    idle = 0
    while idle < _IDLE_LOOKS and time.monotonic() < deadline:
        context.cancelAllJobs()
        time.sleep(_STATUS_SECONDS)
        is_busy = any(executor.numRunningTasks() for executor in executors.getExecutorInfos())
        idle = 0 if is_busy or jobs.getActiveJobsIds() else idle + 1


def _existing() -> SparkSession | None:
    """Return the session that this process has already; on Databricks there always is one."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate() if on_databricks() else SparkSession.getActiveSession()


def _adapt(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Give a session that runs already what can still be given, and say which guarantee it lacks."""
    for name, value in settings.items():
        if spark.conf.isModifiable(name):
            spark.conf.set(name, value)
    lacking = [name for name in ONE_ATTEMPT if name in settings and spark.conf.get(name, None) != settings[name]]
    if lacking and not str(spark.sparkContext.master).startswith("local["):  # that has one attempt in any case
        log.warning(
            "this session lacks %s: Spark may repeat a task and send some records twice. Set it where the "
            "session is started, on Databricks in the cluster's Spark configuration",
            " and ".join(f"{name}={settings[name]}" for name in lacking),
        )
