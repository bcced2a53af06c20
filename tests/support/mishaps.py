"""What befalls a job in a soak test: its processes killed, its servers frozen, its disk full, its data deleted."""

from __future__ import annotations

import errno
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import oracle
import psutil

from streamscore.clients import elasticsearch, kafka
from streamscore.config import Config
from streamscore.errors import CheckpointError
from streamscore.local.process import Running
from streamscore.system.console import log

if TYPE_CHECKING:
    from cluster import Cluster
    from jobs import Job

DISK_MIB = 64
"""Size of the disk that holds the checkpoints; an empty checkpoint takes some 100 KiB."""


@dataclass
class Load:
    """Sends messages at a steady rate from a thread, but for the pauses that a mishap asks for."""

    config: Config
    ledger: oracle.Ledger
    rate: int
    """Messages per second."""
    stopped: threading.Event = field(default_factory=threading.Event)
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Send until stopped."""
        last = time.monotonic()
        while not self.stopped.wait(0.2):
            with self._sending:
                now = time.monotonic()
                oracle.send(self.config, self.ledger.next_messages(int((now - last) * self.rate)))
                last = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let all that was sent arrive, and send nothing until the end."""
        with self._sending:
            yield


@dataclass
class Scene:
    """The job under load, its servers and its disk."""

    config: Config
    cluster: Cluster
    elasticsearch: Running
    load: Load
    start: Callable[..., Job]
    """Starts the job with more arguments."""
    generator: random.Random
    has_own_disk: bool
    arguments: list[str] = field(default_factory=list)
    """What every start of the job is given: its present checkpoint."""

    def befall(self, ending: str, job: Job) -> None:
        """Let one thing happen to a running job; it may have ended afterwards, or not.

        Args:
            ending: a name of ``ENDINGS``.
            job: the job.
        """
        ENDINGS[ending][1](self, job)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return Path(self.config.stream.checkpoint).parent

    def kill_member(self, job: Job, name: str) -> None:
        """Kill one process of the job."""
        for member in job.members():
            if name in member.name():
                member.kill()
                return


def kill_group(_scene: Scene, job: Job) -> None:
    """Kill the job and all its processes at once."""
    job.kill()


def kill_jvm(scene: Scene, job: Job) -> None:
    """Kill its JVM alone."""
    scene.kill_member(job, "java")


def kill_python(scene: Scene, job: Job) -> None:
    """Kill its Python alone; its JVM may go on writing for a moment, while the next job starts."""
    scene.kill_member(job, "python")


def stop(_scene: Scene, job: Job) -> None:
    """Ask it to stop."""
    job.signal(signal.SIGTERM)
    job.wait()


def freeze_elasticsearch(scene: Scene, _job: Job) -> None:
    """Freeze Elasticsearch for a while."""
    leader = psutil.Process(scene.elasticsearch.pid)
    members = [leader, *leader.children(recursive=True)]
    for member in members:
        member.suspend()
    time.sleep(scene.generator.uniform(1, 5))
    for member in members:
        member.resume()


def freeze_kafka(scene: Scene, _job: Job) -> None:
    """Freeze the broker that leads all partitions for a while."""
    with scene.cluster.leader_frozen():
        time.sleep(scene.generator.uniform(1, 5))


def freeze_followers(scene: Scene, job: Job) -> None:
    """Freeze the brokers that follow, so that what is appended meanwhile stays hidden, and kill the job amid that.

    They go on while the next job starts, or has begun to compare what is there.
    """
    scene.cluster.freeze()
    time.sleep(scene.generator.uniform(0.5, 3))
    job.kill()
    threading.Timer(scene.generator.uniform(1, 15), scene.cluster.thaw).start()


def delete_index(scene: Scene, job: Job) -> None:
    """Delete the index of outcomes under the job, which must not write to one that somebody else has made.

    Documents of events before that are gone; those of events since must be there.
    """
    with elasticsearch.client(scene.config.elasticsearch) as client:
        client.indices.delete(index=scene.config.elasticsearch.index)
    scene.load.ledger.begin_index()
    with suppress(subprocess.TimeoutExpired):
        job.wait(60)


def fill_disk(scene: Scene, job: Job) -> None:
    """Fill the disk of the checkpoint until the job ends by itself, or for some seconds."""
    if not scene.has_own_disk:
        job.kill()
        return
    ballast = scene.checkpoints / "ballast"
    with suppress(subprocess.TimeoutExpired):
        _fill(ballast)
        job.wait(scene.generator.uniform(2, 20))
    job.kill()
    ballast.unlink()


def _fill(ballast: Path) -> None:
    """Write a file until its disk is full."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def recreate_topic(scene: Scene, job: Job) -> None:
    """Make the input topic anew once all of it is scored, and follow the advice that the refused start gives.

    The new topic's events have the event ids of the old one's, and so the same documents.
    """
    topic = scene.config.kafka.topics.input
    with scene.load.paused():
        job.kill()
        _require(scene.start("--available-now", *scene.arguments), 0)
        kafka.delete(scene.config.kafka, topic)
        scene.cluster.make(topic)
        scene.load.ledger.begin_topic()
    time.sleep(scene.generator.uniform(1, 10))  # the new topic may be shorter than the old one was, or longer
    _require(scene.start(*scene.arguments), CheckpointError.exit_code)
    scene.arguments = ["--checkpoint", str(scene.checkpoints / str(scene.load.ledger.sent))]
    # Killed amid its first batches, so that the comparison sees the outcomes of both topics.
    first = scene.start("--new-checkpoint", *scene.arguments)
    first.wait_for("scoring the topic")
    time.sleep(scene.generator.uniform(0.2, 3))
    first.kill()
    _require(
        scene.start("--new-checkpoint", "--available-now", *scene.arguments), 0
    )  # the old topic's statistics go first


def _require(job: Job, code: int) -> None:
    found = job.wait(1800)
    assert found == code, f"exit code {found} in the place of {code}\n{job.output}"


ENDINGS: dict[str, tuple[int, Callable[[Scene, Job], None]]] = {
    "kill-group": (12, kill_group),
    "kill-jvm": (4, kill_jvm),
    "kill-python": (4, kill_python),
    "sigterm": (2, stop),
    "freeze-elasticsearch": (2, freeze_elasticsearch),
    "freeze-kafka": (2, freeze_kafka),
    "freeze-followers": (4, freeze_followers),
    "delete-index": (1, delete_index),
    "fill-disk": (2, fill_disk),
    "recreate-topic": (1, recreate_topic),
}
"""How a job's life ends, or what befalls it meanwhile: how often, and the function that does it."""


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Make a small disk of its own at a folder, and tell whether this user may: it takes the rights to mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    is_mounted = shutil.which("mount") is not None and subprocess.run(command, check=False).returncode == 0
    if not is_mounted:
        log.warning("no disk can be mounted here: the disk is never full")
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)
