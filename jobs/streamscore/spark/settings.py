"""The Spark settings of every session, and those of streaming jobs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from streamscore.config import CONF_DIR, Config
from streamscore.config.sections import SECRET_KEY
from streamscore.system.paths import is_local

_REDACTED: Final = (
    f"(?i){SECRET_KEY.pattern.removeprefix('(?i)')}|passwd|access[.]?key|auth[.]pass|authorization|apikey"
)
"""Options whose values Spark must show nowhere: the configuration's secrets, also under Spark's and the connector's
names. Spark's own pattern misses ssl.keystore.key, sasl.jaas.config and es.net.http.auth.pass."""

DELTA_SETTINGS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Delta recomputes a table's state at each commit, by default in 50 tasks: too many for a small table.
    "spark.databricks.delta.snapshotPartitions": "4",
}
"""Settings for a session with Delta's jars; without the jars the catalog breaks every query."""

_ANY_TIME: Final = {
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
}
"""Allow times before 1900, which Spark refuses to write by default because old versions misread them."""

ONE_ATTEMPT: Final = {"spark.task.maxFailures": "1", "spark.speculation": "false"}
"""No task retries or speculation: a repeated task would send some records twice. A failed batch is replayed as a whole
instead, and an interrupted seeding is resumed. A local master never repeats tasks. Both are read at session start."""

_COUNTED: Final = {"spark.rdd.cache.visibilityTracking.enabled": "true"}
"""Hide the cached blocks of failed tasks, whose observed counts are lost (SPARK-41497), from later tasks. Read at
session start."""

_FEW_KEPT: Final = {
    "spark.sql.ui.retainedExecutions": "50",
    "spark.ui.retainedJobs": "100",
    "spark.ui.retainedStages": "100",
    "spark.ui.retainedTasks": "1000",
}
"""Limits on the finished plans and tasks that Spark keeps for its web UI: the default of a thousand queries would fill
the memory of a stream for more than its first quarter of an hour."""

_ONE_MACHINE: Final = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    # On a machine of a Hadoop cluster, a path without a scheme would otherwise be on the cluster's file system.
    "spark.hadoop.fs.defaultFS": "file:///",
}
"""A session on one machine uses local files, and listens on loopback only: Spark's ports ask for no password."""

ON_ONE_MACHINE: Final = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
"""Default environment of that session's JVM: otherwise Spark resolves the machine's host name, and does not start where
the name cannot be resolved; and its workers are the python3 of the path, which may be of another version."""

_FRUGAL: Final = "-XX:GCTimeRatio=19 -XX:NewRatio=4"
"""The garbage collector may use a twentieth of the time before it enlarges the heap; the default is a hundredth. The
young generation gets at most a fifth of the heap, not a third, because hardly any object outlives its batch."""

_COMPILED: Final = "-XX:-DontCompileHugeMethods"
"""By default a JVM does not compile methods of more than 8,000 bytes. Spark generates one method for all models, which
exceeds that limit for a dozen."""

IN_PARTS: Final = {"spark.sql.codegen.hugeMethodLimit": "8000"}
"""For JVMs whose options are not ours: Spark splits a method that would be too long into one per step, which is slower
than a long compiled method but faster than an interpreted one."""


def is_on_one_machine(config: Config) -> bool:
    """Return whether driver and executors run in one process on this machine."""
    return re.match(r"local($|\[)", config.spark.master or "") is not None


def on_databricks() -> bool:
    """Return whether this process runs on Databricks, where the platform owns the session, its JVM and its jars."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def spark_settings(config: Config, job: str, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the Spark settings of a job, for ``spark-submit --conf`` and for a session created in this process.

    Args:
        config: the configuration; its ``spark.conf`` overrides all others.
        job: name of the job, which is part of the name of Spark's log file.
        own: settings that this kind of job needs, such as ``streaming(config)``.
    """
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(config.spark.shuffle_partitions),
        "spark.redaction.regex": _REDACTED,
        "spark.sql.redaction.options.regex": _REDACTED,
    }
    if config.spark.master is not None:
        state = config.state_dir
        scratch = state / "tmp"
        log_name = str(log_file(config, job))
        settings |= {
            "spark.ui.showConsoleProgress": "false",
            "spark.local.dir": str(scratch),
            "spark.sql.warehouse.dir": str(state / "warehouse"),
            # Quoted, because Spark splits this text like a shell and a folder's name may contain a space.
            "spark.driver.extraJavaOptions": " ".join(
                [
                    f'"-Dlog4j2.configurationFile={CONF_DIR / "log4j2.properties"}"',
                    f'"-Dstreamscore.log={log_name}"',
                    f'"-Dstreamscore.log.old={log_name.replace("%", "%%")}.%i"',  # Log4j reads it as a pattern
                    f'"-Djava.io.tmpdir={scratch}"',
                    "-XX:+UseParallelGC",
                    _FRUGAL,
                    "-XX:-UsePerfData",
                    _COMPILED,
                ]
            ),
        }
    if is_on_one_machine(config):
        settings |= _ONE_MACHINE
    else:
        settings |= IN_PARTS
    if config.delta.table is not None and not on_databricks():
        settings |= DELTA_SETTINGS
    return settings | dict(own or {}) | config.spark.conf


def streaming(config: Config) -> dict[str, str]:
    """Return the Spark settings that every streaming job needs.

    Args:
        config: the configuration; the checkpoint's location decides which file manager is used.
    """
    settings = {
        **ONE_ATTEMPT,
        **_COUNTED,
        **_FEW_KEPT,
        **_ANY_TIME,
        "spark.sql.streaming.numRecentProgressUpdates": "50",
        # A search for the best compression costs more than it saves for a batch that is cached for a second.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
    }
    if is_local(config.stream.checkpoint) and not on_databricks():  # on Databricks, /Volumes is an object store
        # The default manager starts some 40 processes per batch on a local disk; this one is wrong for object stores.
        settings["spark.sql.streaming.checkpointFileManagerClass"] = (
            "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
        )
    return settings


def log_file(config: Config, job: str) -> Path:
    """Return the file of Spark's own log, which is too long for the terminal."""
    return config.state_dir / "logs" / f"{job}.spark.log"
