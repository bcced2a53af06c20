"""The Spark settings that every session of ours has, and those of streaming jobs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from streamscore.config import CONF_DIR, Config
from streamscore.config.keys import SECRET_KEY
from streamscore.system.paths import is_local

_REDACTED: Final = (
    f"(?i){SECRET_KEY.pattern.removeprefix('(?i)')}|passwd|access[.]?key|auth[.]pass|authorization|apikey"
)
"""Options whose values Spark shows nowhere: what the configuration takes for a secret, and under the names that Spark
and the connector have. Spark's own patterns miss ssl.keystore.key, sasl.jaas.config and es.net.http.auth.pass."""

DELTA_SETTINGS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # What is in a table is worked out anew at each commit, by default in 50 tasks: more than a small table needs.
    "spark.databricks.delta.snapshotPartitions": "4",
}
"""Only for a session that has Delta's jars: without them the catalog breaks every query."""

_ANY_TIME: Final = {
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
}
"""By default Spark refuses to write a time before 1900, lest an old Spark reads another one."""

ONE_ATTEMPT: Final = {"spark.task.maxFailures": "1", "spark.speculation": "false"}
"""A task that Spark repeats by itself would send some records twice. A failed batch is replayed as a whole instead, and
an interrupted seeding is resumed. On one machine Spark never repeats any. It reads both once, when a session starts."""

_COUNTED: Final = {"spark.rdd.cache.visibilityTracking.enabled": "true"}
"""What a task that failed had cached is not there for the next: what it had counted is thrown away (SPARK-41497). Spark
reads it once, when a session starts."""

_FEW_KEPT: Final = {
    "spark.sql.ui.retainedExecutions": "50",
    "spark.ui.retainedJobs": "100",
    "spark.ui.retainedStages": "100",
    "spark.ui.retainedTasks": "1000",
}
"""Spark keeps plans and tasks of what it has done for its web page, by default of a thousand queries: a stream would
fill its memory with them for its first quarter of an hour and more."""

_ONE_MACHINE: Final = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    # A machine that belongs to a Hadoop cluster would take every path without a scheme for one of the cluster's.
    "spark.hadoop.fs.defaultFS": "file:///",
}
"""A session on one machine listens there only, for Spark's own ports ask nobody for a password, and takes its files."""

ON_ONE_MACHINE: Final = {"SPARK_LOCAL_IP": "127.0.0.1"}
"""Environment of its JVM, unless it says otherwise itself: else Spark looks up the machine's own name, and does not
start where nobody knows it."""

_FRUGAL: Final = "-XX:GCTimeRatio=19 -XX:NewRatio=4"
"""The collector may take a twentieth of the time, before it makes the heap larger; by default a hundredth. And what is
new gets a fifth of the heap at most, not a third: hardly anything of a batch outlives it, however little that is."""

_COMPILED: Final = "-XX:-DontCompileHugeMethods"
"""A JVM only interprets methods of more than 8,000 bytes by default. Spark makes one method of all models, and that of
a dozen is longer."""

IN_PARTS: Final = {"spark.sql.codegen.hugeMethodLimit": "8000"}
"""Where the JVMs' options are not ours: of what would be too long Spark makes a method per step, which is not as fast
as a long one that is compiled, but faster than one that is not."""


def is_on_one_machine(config: Config) -> bool:
    """Return whether Spark has all its parts in one process, here."""
    return re.match(r"local($|\[)", config.spark.master or "") is not None


def on_databricks() -> bool:
    """Return whether this process runs on Databricks: the session, its JVM and its jars are the platform's there."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def spark_settings(config: Config, job: str, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the Spark settings of a job, for ``spark-submit --conf`` and for a session made in this process alike.

    Args:
        config: the configuration; its ``spark.conf`` overrides all others.
        job: name of the job, which is in the name of Spark's log file.
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
            # Quoted, since Spark splits this text as a shell would and a folder's name may have a space in it.
            "spark.driver.extraJavaOptions": " ".join(
                [
                    f'"-Dlog4j2.configurationFile={CONF_DIR / "log4j2.properties"}"',
                    f'"-Dstreamscore.log={log_name}"',
                    f'"-Dstreamscore.log.old={log_name.replace("%", "%%")}.%i"',  # to Log4j it is a pattern
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
        config: the configuration; where the checkpoint is decides who manages its files.
    """
    settings = {
        **ONE_ATTEMPT,
        **_COUNTED,
        **_FEW_KEPT,
        **_ANY_TIME,
        "spark.sql.streaming.numRecentProgressUpdates": "50",
        # Looking for the best compression of a batch in memory, which lives a second, costs more than it saves.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
    }
    if is_local(config.stream.checkpoint) and not on_databricks():  # there, /Volumes is an object store
        # The default manager starts some 40 processes per batch on a local disk; wrong for object stores.
        settings["spark.sql.streaming.checkpointFileManagerClass"] = (
            "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
        )
    return settings


def log_file(config: Config, job: str) -> Path:
    """Return the file of Spark's own log, which would drown ours on the terminal."""
    return config.state_dir / "logs" / f"{job}.spark.log"
