"""The only place that creates a SparkSession, and that talks to the operating system on its behalf."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamscore.config import CONF_DIR, Config
from streamscore.errors import ConfigError, SetupError, reason
from streamscore.spark import tmpdir
from streamscore.system.console import log
from streamscore.system.paths import is_local
from streamscore.system.processes import handled

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Spark's own patterns miss sasl.jaas.config, es.net.http.auth.pass and the Authorization header.
_REDACTED = "(?i)secret|password|passwd|token|access[.]?key|account[.]key|jaas|auth[.]pass|authorization|api_?key"


DELTA_SETTINGS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # What is in a table is worked out anew at each commit, by default in 50 tasks: more than a small table needs.
    "spark.databricks.delta.snapshotPartitions": "4",
}
"""Only for a session that has Delta's jars: without them the catalog breaks every query."""

_ONE_ATTEMPT: Final = {"spark.task.maxFailures": "1", "spark.speculation": "false"}
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

_FOREIGN: Final = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR")
"""Environment variables that name folders of settings, on a machine of a cluster for instance."""

STORE_PASSWORD: Final = "changeit"  # noqa: S105 (Java wants one, though the store holds public certificates only)

_FRUGAL: Final = "-XX:GCTimeRatio=19 -XX:NewRatio=4"
"""The collector may take a twentieth of the time, before it makes the heap larger; by default a hundredth. And what is
new gets a fifth of the heap at most, not a third: hardly anything of a batch outlives it, however little that is."""

_COMPILED: Final = "-XX:-DontCompileHugeMethods"
"""A JVM only interprets methods of more than 8,000 bytes by default. Spark makes one method of all models, and that of
a dozen is longer."""

_IN_PARTS: Final = {"spark.sql.codegen.hugeMethodLimit": "8000"}
"""Where the JVMs' options are not ours: of what would be too long Spark makes a method per step, which is not as fast
as a long one that is compiled, but faster than one that is not."""


def is_on_one_machine(config: Config) -> bool:
    """Tell whether Spark has all its parts in one process, here."""
    return re.match(r"local($|\[)", config.spark.master or "") is not None


def on_databricks() -> bool:
    """Tell whether this process runs on Databricks: the session, its JVM and its jars are the platform's there."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def spark_settings(config: Config, job: str) -> dict[str, str]:
    """Return the Spark settings of a job, for ``spark-submit --conf`` and for a session made in this process alike.

    Args:
        config: the configuration.
        job: name of the job: ``train_models``, ``seed_topic`` or ``score_stream``.
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
        settings |= _IN_PARTS
    if config.delta.table is not None and not on_databricks():
        settings |= DELTA_SETTINGS
    if job == "train_models":
        # By default the number of cores at the moment, from which each query would divide a file's rows anew.
        settings["spark.sql.files.minPartitionNum"] = "8"
    if job in {"seed_topic", "score_stream"}:
        settings |= _ONE_ATTEMPT
    if job == "score_stream":
        settings |= {**_COUNTED, **_FEW_KEPT, "spark.sql.streaming.numRecentProgressUpdates": "50"}
        # Looking for the best compression of a batch in memory, which lives a second, costs more than it saves.
        settings["spark.sql.inMemoryColumnarStorage.compressed"] = "false"
        if is_local(config.stream.checkpoint) and not on_databricks():  # there, /Volumes is an object store
            # The default manager starts some 40 processes per batch on a local disk; wrong for object stores.
            settings["spark.sql.streaming.checkpointFileManagerClass"] = (
                "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
            )
    return settings | config.spark.conf


def create(config: Config, job: str, jars: Sequence[Path] = ()) -> SparkSession:
    """Return the session of a job: the one that exists (notebook, Databricks), or a new one.

    One that exists gets the settings that can change while it runs; its master, memory and jars are its owner's
    business. Under spark-submit the settings and jars of its command line win. Without it, in plain Python, ``jars``
    are what the session's JVM starts with.

    Raises:
        SetupError: the session does not start.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    settings = spark_settings(config, job)
    existing = _existing()
    if existing is not None:
        _adapt(existing, _IN_PARTS | settings)
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
def opened(config: Config, job: str) -> Iterator[SparkSession]:
    """Give a job its session and stop it afterwards, unless it was there before: then others go on with it."""
    from py4j.protocol import Py4JError

    ours = _existing() is None
    spark = create(config, job)
    try:
        yield spark
    finally:
        if ours:
            with suppress(OSError, Py4JError):  # Ctrl-C reaches the JVM too: it may be gone
                spark.stop()


def jvm_pid(spark: SparkSession) -> int:
    """Return the process id of the session's JVM, which may outlive this process."""
    return int(spark.sparkContext._gateway.jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]  # noqa: SLF001


def runs_query(spark: SparkSession, query: str) -> bool:
    """Tell whether a streaming query runs in the session's JVM, in whatever session."""
    from py4j.protocol import Py4JError

    jvm: Any = spark._jvm  # noqa: SLF001 (a session itself knows only its own queries)
    try:
        active = spark._jsparkSession.sharedState().activeStreamingQueries()  # noqa: SLF001 (as above)
        return bool(active.containsKey(jvm.java.util.UUID.fromString(query)))
    except Py4JError:  # a platform's own Spark may lack it
        return any(one.id == query for one in spark.streams.active)


def java_version(spark: SparkSession) -> str:
    """Return the version and the architecture of the session's Java; SQL would take a Spark job to say it."""
    java: Any = spark._jvm.java.lang.System  # type: ignore[union-attr]  # noqa: SLF001
    return f"{java.getProperty('java.version')} {java.getProperty('os.arch')}"


def trust_store(spark: SparkSession, config: Config) -> Path | None:
    """Make a store of Java's with the authorities of ``elasticsearch.ca_file`` and return its file; None without one.

    It is below the state folder, which the executors read too. Whoever opens it needs ``STORE_PASSWORD``.

    Raises:
        ConfigError: the file is not there, or holds no certificates in the form PEM.
    """
    from py4j.protocol import Py4JJavaError

    authorities = config.elasticsearch.ca_file
    if authorities is None:
        return None
    path = config.state_dir / "elasticsearch-ca.p12"
    path.parent.mkdir(parents=True, exist_ok=True)
    java: Any = spark._jvm.java  # type: ignore[union-attr]  # noqa: SLF001
    store = java.security.KeyStore.getInstance("PKCS12")
    store.load(None, None)
    characters = java.io.CharArrayWriter()
    characters.write(STORE_PASSWORD)
    try:
        source = java.io.FileInputStream(str(authorities))
        certificates = java.security.cert.CertificateFactory.getInstance("X.509").generateCertificates(source)
        source.close()
    except Py4JJavaError as error:
        raise ConfigError(
            f"elasticsearch.ca_file: {authorities} cannot be read as PEM certificates: {error.java_exception}"
        ) from None
    for number, certificate in enumerate(certificates):
        store.setCertificateEntry(f"ca-{number}", certificate)
    target = java.io.FileOutputStream(str(path))
    store.store(target, characters.toCharArray())
    target.close()
    return path


def log_file(config: Config, job: str) -> Path:
    """Return the file of Spark's own log, which would drown ours on the terminal."""
    return config.state_dir / "logs" / f"{job}.spark.log"


def _existing() -> SparkSession | None:
    """Return the session that this process has already; on Databricks there always is one."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate() if on_databricks() else SparkSession.getActiveSession()


def _adapt(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Give a session that runs already what can still be given, and say which guarantee it lacks."""
    for name, value in settings.items():
        if spark.conf.isModifiable(name):
            spark.conf.set(name, value)
    lacking = [name for name in _ONE_ATTEMPT if name in settings and spark.conf.get(name, None) != settings[name]]
    if lacking and not str(spark.sparkContext.master).startswith("local["):  # that has one attempt in any case
        log.warning(
            "this session lacks %s: Spark may repeat a task and send some records twice. Set it where the "
            "session is started, on Databricks in the cluster's Spark configuration",
            " and ".join(f"{name}={settings[name]}" for name in lacking),
        )


class StopRequest:
    """A wish to stop, from Ctrl-C or SIGTERM, whichever process of the job it reaches, or because the time is up.

    Under spark-submit the JVM is the process that a terminal, a supervisor or a container signals, and by default it
    ends at once, in the middle of a batch. So both the JVM and Python take the signal, and neither dies of it.
    """

    _SAME_KEYSTROKE = 1.0
    """Seconds within which a second signal is the same one, delivered to both processes."""

    def __init__(self, seconds: float | None = None) -> None:
        """Make a request that comes by itself so many seconds after the first ``wait``, if a number is given."""
        self._seconds = seconds
        self._deadline: float | None = None
        self._wanted = threading.Event()
        self._first = 0.0
        self.urgent = False
        """Whether it was asked for again: stop now, do not wait for the batch in flight."""

    def __bool__(self) -> bool:
        return self._wanted.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the wish, at most so many seconds; return whether it is there."""
        if self._seconds is not None:
            now = time.monotonic()
            self._deadline = now + self._seconds if self._deadline is None else self._deadline
            if now >= self._deadline and not self:
                self.ask(f"{self._seconds:g} s are over")
        return self._wanted.wait(seconds)

    @contextmanager
    def listening(self, spark: SparkSession) -> Iterator[None]:
        """Take SIGINT and SIGTERM for a while; call it after Spark has set up its own handlers.

        Python gives signals to its main thread only: in another one they stay with whoever has them. The JVM's are
        taken where it is ours, not on Databricks, which runs it for other notebooks too.
        """
        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                numbers = (signal.SIGINT, signal.SIGTERM)
                stack.enter_context(handled(numbers, lambda number, _: self.ask(signal.Signals(number).name)))
            if not on_databricks():
                stack.enter_context(_jvm_listening(spark, self))
            yield

    def ask(self, source: str) -> None:
        """Ask to stop; a second time, more than a moment later, makes it urgent."""
        now = time.monotonic()
        if not self._wanted.is_set():
            self._first = now
            self._wanted.set()
            log.info("%s: finishing the batch in flight, then stopping; once more to stop at once", source)
        elif now - self._first > self._SAME_KEYSTROKE:
            self.urgent = True


@contextmanager
def _jvm_listening(spark: SparkSession, request: StopRequest) -> Iterator[None]:
    """Hand the JVM's SIGINT and SIGTERM to a request for a while."""
    from pyspark.java_gateway import ensure_callback_server_started

    class Handler:
        def handle(self, received: Any) -> None:
            request.ask(f"SIG{received.getName()}")

        class Java:
            implements = ("sun.misc.SignalHandler",)

    gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 (Spark has no public way to the JVM's signals)
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    handler = Handler()  # py4j holds only a weak reference to it
    signals = [gateway.jvm.sun.misc.Signal(name) for name in ("INT", "TERM")]
    before = [gateway.jvm.sun.misc.Signal.handle(number, handler) for number in signals]
    try:
        yield
    finally:
        for number, old in zip(signals, before, strict=True):
            gateway.jvm.sun.misc.Signal.handle(number, old)
