"""Functions of the session's JVM that PySpark lacks: its process, queries, signals and trust stores."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamscore.config import Config
from streamscore.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


STORE_PASSWORD: Final = "changeit"  # noqa: S105 (Java requires one, although the store holds public certificates only)


def jvm_pid(spark: SparkSession) -> int:
    """Return the process id of the session's JVM; the JVM may outlive this process."""
    return int(spark.sparkContext._gateway.jvm.java.lang.ProcessHandle.current().pid())  # type: ignore[union-attr]  # noqa: SLF001


def runs_query(spark: SparkSession, query: str) -> bool:
    """Return whether a streaming query runs in any session of this session's JVM."""
    from py4j.protocol import Py4JError

    jvm: Any = spark._jvm  # noqa: SLF001 (a session lists only its own queries)
    try:
        active = spark._jsparkSession.sharedState().activeStreamingQueries()  # noqa: SLF001 (as above)
        return bool(active.containsKey(jvm.java.util.UUID.fromString(query)))
    except Py4JError:  # a platform's own Spark may lack it
        return any(one.id == query for one in spark.streams.active)


def java_version(spark: SparkSession) -> str:
    """Return the version and the architecture of the session's Java, without a Spark job."""
    java: Any = spark._jvm.java.lang.System  # type: ignore[union-attr]  # noqa: SLF001
    return f"{java.getProperty('java.version')} {java.getProperty('os.arch')}"


def trust_store(spark: SparkSession, config: Config) -> Path | None:
    """Make a Java trust store of ``elasticsearch.ca_file`` and return its path; None without that setting.

    The store is in the state folder, which the executors read too. Its password is ``STORE_PASSWORD``.

    Raises:
        ConfigError: the file is missing, or holds no PEM certificates.
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


@contextmanager
def cancellable(spark: SparkSession) -> Iterator[Callable[[], None]]:
    """Yield a function that cancels, from any thread, the Spark jobs that this thread runs inside the context."""
    context, group = spark.sparkContext, f"streamscore-{uuid.uuid4()}"
    context.setJobGroup(group, "a batch of streamscore")
    try:
        yield lambda: context.cancelJobGroup(group)
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description"):
            context.setLocalProperty(name, None)  # type: ignore[arg-type]


@contextmanager
def forward_signals(spark: SparkSession, receive: Callable[[str], None]) -> Iterator[None]:
    """Call a function with the name of each SIGINT or SIGTERM to the JVM, until the context ends."""
    from pyspark.java_gateway import ensure_callback_server_started

    class Handler:
        def handle(self, received: Any) -> None:
            receive(f"SIG{received.getName()}")

        class Java:
            implements = ("sun.misc.SignalHandler",)

    gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 (Spark has no public access to the JVM's signals)
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    handler = Handler()  # py4j holds only a weak reference to it
    signals = [gateway.jvm.sun.misc.Signal(name) for name in ("INT", "TERM")]
    before = [gateway.jvm.sun.misc.Signal.handle(number, handler) for number in signals]
    try:
        yield
    finally:
        for number, old in zip(signals, before, strict=True):
            gateway.jvm.sun.misc.Signal.handle(number, old)
