"""A Kafka broker with its own controller (KRaft) on loopback, from the jars on Maven Central."""

from __future__ import annotations

import base64
import subprocess
import uuid
from functools import partial
from pathlib import Path

from streamscore.clients import kafka
from streamscore.config import Config
from streamscore.errors import ConfigError, SetupError
from streamscore.local import java as javas
from streamscore.local.artifacts import KAFKA
from streamscore.local.java import Java
from streamscore.local.ports import free_port, require_free, require_loopback
from streamscore.local.process import Server, tail
from streamscore.spark.maven import KAFKA_BROKER

NAME = "kafka"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""

LOGGING = """\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
"""


def server(config: Config, java: Java) -> Server:
    """Write the broker's files and return its server.

    Raises:
        ConfigError: the configured address is not one loopback address.
        SetupError: the port is taken, or the data folder cannot be prepared.
    """
    (host, port), *others = config.kafka.addresses()
    if others:
        raise ConfigError(f"kafka.bootstrap_servers: `streamscore up` starts one broker, found {len(others) + 1}")
    require_loopback(host, "kafka.bootstrap_servers")
    require_free(host, port, f"kafka.bootstrap_servers={host}:{port + 1}")
    folder = config.state_dir / NAME
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    settings = folder / "server.properties"
    data = folder / "data"
    text = PROPERTIES.format(host=host, port=port, controller_port=free_port(), data=_in_properties(str(data)))
    settings.write_text(text, encoding="ascii")
    (folder / "log4j2.properties").write_text(LOGGING)
    run = [
        str(java.executable),
        "-cp",
        f"{config.local.artifacts_dir / KAFKA.name}/*",
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        f"-Xms{config.local.kafka_heap}",
        f"-Xmx{config.local.kafka_heap}",
    ]
    log = folder / "kafka.log"
    if not (data / "meta.properties").is_file():
        _format(run, settings, log, java)
    return Server(
        name=NAME,
        command=[*run, "kafka.Kafka", str(settings)],
        environment=javas.server_environment(java),
        address=f"{host}:{port}",
        log=log,
        probe=partial(probe, config),
    )


def _in_properties(text: str) -> str:
    """Return a text escaped for Java's properties files, which are Latin-1 (java.util.Properties.load)."""
    units = memoryview(text.replace("\\", "\\\\").encode("utf-16-le")).cast("H")
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in units)  # noqa: PLR2004 (ASCII)


def _format(run: list[str], settings: Path, log: Path, java: Java) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    with log.open("wb") as output:
        done = subprocess.run(
            # One argument, because an id may begin with a hyphen.
            [*run, "kafka.tools.StorageTool", "format", f"-t={cluster}", "-c", str(settings), "--ignore-formatted"],
            env=javas.server_environment(java),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise SetupError(f"Kafka's data folder could not be prepared. The end of {log}:\n{tail(log)}")


def probe(config: Config) -> str:
    """Return the version of the running broker; raise any error while the broker does not answer."""
    kafka.names(config.kafka, timeout=1.0)
    return KAFKA_BROKER.version
