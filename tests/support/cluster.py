"""A Kafka cluster of three brokers: the first leads, and tests may freeze the two followers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.cimpl import NewTopic

from streamscore.clients import kafka as client
from streamscore.config import Config
from streamscore.local import java as javas
from streamscore.local import kafka as local
from streamscore.local import process
from streamscore.local.ports import free_port

# The timeouts exceed a test's length, so that the leader, the only controller, waits for a frozen broker.
PATIENCE = """
min.insync.replicas=2
replica.lag.time.max.ms=300000
broker.session.timeout.ms=300000
log.cleaner.dedupe.buffer.size=4194304
"""

FOLLOWER = """\
process.roles=broker
node.id={node}
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
"""


class Cluster:
    """Three brokers for one configuration, which has the address of the first."""

    def __init__(self, config: Config) -> None:
        """Start the first broker, which is also the controller, and the two others."""
        self.config = config
        java = javas.find()
        first = local.server(config, java)
        settings = Path(first.command[-1])
        settings.write_text(settings.read_text() + PATIENCE)
        self._servers = [process.start(first)]
        properties = dict(line.split("=", 1) for line in settings.read_text().splitlines() if "=" in line)
        controller = properties["controller.quorum.voters"].rpartition(":")[2]
        identity = (settings.parent / "data" / "meta.properties").read_text()
        for node in (2, 3):
            folder = settings.parent / str(node)
            (folder / "data").mkdir(parents=True)
            kept = [line for line in identity.splitlines() if line.startswith(("version", "cluster.id"))]
            (folder / "data" / "meta.properties").write_text("\n".join([*kept, f"node.id={node}", ""]))
            (folder / "server.properties").write_text(
                FOLLOWER.format(node=node, controller=controller, port=free_port(), data=folder / "data") + PATIENCE
            )
            command = [*first.command[:-1], str(folder / "server.properties")]
            log = folder / "kafka.log"
            self._servers.append(
                process.start(process.Server(f"kafka-{node}", command, first.environment, "", log, first.probe))
            )

    def wait(self) -> None:
        """Wait until all brokers are registered."""
        deadline = time.monotonic() + self.config.local.start_seconds
        admin = client.admin(self.config.kafka)
        while True:
            with suppress(KafkaException):
                if len(admin.list_topics(timeout=5).brokers) == len(self._servers):
                    return
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def make(self, *topics: str, partitions: int = 2) -> None:
        """Create topics that the first broker leads, with replicas on all three."""
        new = [NewTopic(topic, partitions, replica_assignment=[[1, 2, 3]] * partitions) for topic in topics]
        admin = client.admin(self.config.kafka)  # must live until the answers have arrived
        for future in admin.create_topics(new).values():
            future.result()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the two followers until the context ends."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def freeze(self) -> None:
        """Freeze the two followers."""
        self._signal(signal.SIGSTOP, self._servers[1:])

    @contextmanager
    def leader_frozen(self) -> Iterator[None]:
        """Freeze the leader of all partitions until the context ends."""
        self._signal(signal.SIGSTOP, self._servers[:1])
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Resume all brokers."""
        self._signal(signal.SIGCONT, self._servers)

    def stop(self) -> None:
        """Stop all brokers."""
        self.thaw()
        for server in reversed(self._servers):
            process.stop(server)

    def _signal(self, number: signal.Signals, servers: list[process.Running]) -> None:
        for server in servers:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(server.pid).send_signal(number)
