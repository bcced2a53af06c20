"""The faults of a soak test: killed processes, frozen servers, a full disk, deleted data."""

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
"""Size of the checkpoints' disk in bytes; an empty checkpoint takes some 100 KiB."""


@dataclass
class Load:
    """A thread that sends messages at a steady rate, except in pauses."""

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
        """Flush all sent messages, and send nothing until the context ends."""
        with self._sending:
            yield


@dataclass
class Scene:
    """The job under load, with its servers and its disk."""

    config: Config
    cluster: Cluster
    elasticsearch: Running
    load: Load
    start: Callable[..., Job]
    """Starts the job with further arguments."""
    generator: random.Random
    has_own_disk: bool
    arguments: list[str] = field(default_factory=list)
    """Arguments of every start of the job, with the current checkpoint."""

    def befall(self, ending: str, job: Job) -> None:
        """Cause one fault of a running job, after which the job may or may not have ended.

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
    """Kill the job's JVM alone."""
    scene.kill_member(job, "java")


def kill_python(scene: Scene, job: Job) -> None:
    """Kill the job's Python alone; the JVM may write for a moment more, while the next job starts."""
    scene.kill_member(job, "python")


def stop(_scene: Scene, job: Job) -> None:
    """Ask the job to stop."""
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
    """Freeze the leader of all partitions for a while."""
    with scene.cluster.leader_frozen():
        time.sleep(scene.generator.uniform(1, 5))


def freeze_followers(scene: Scene, job: Job) -> None:
    """Freeze the followers, so that appended records stay hidden, and kill the job meanwhile.

    The followers resume while the next job starts or compares its outputs.
    """
    scene.cluster.freeze()
    time.sleep(scene.generator.uniform(0.5, 3))
    job.kill()
    threading.Timer(scene.generator.uniform(1, 15), scene.cluster.thaw).start()


def delete_index(scene: Scene, job: Job) -> None:
    """Delete the index of outcomes during the run; the job must not write to an index that it did not create.

    Only the documents of later events must exist.
    """
    with elasticsearch.client(scene.config.elasticsearch) as client:
        client.indices.delete(index=scene.config.elasticsearch.index)
    scene.load.ledger.begin_index()
    with suppress(subprocess.TimeoutExpired):
        job.wait(60)


def fill_disk(scene: Scene, job: Job) -> None:
    """Fill the checkpoint's disk until the job ends, or for some seconds."""
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
    """Write a file until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def recreate_topic(scene: Scene, job: Job) -> None:
    """Recreate the input topic once it is scored, and follow the advice of the refused start.

    The new topic's events have the old topic's event ids, and so the same documents.
    """
    topic = scene.config.kafka.topics.input
    with scene.load.paused():
        job.kill()
        _require(scene.start("--available-now", *scene.arguments), 0)
        kafka.delete(scene.config.kafka, topic)
        scene.cluster.make(topic)
        scene.load.ledger.begin_topic()
    time.sleep(scene.generator.uniform(1, 10))  # the new topic may be shorter or longer than the old one
    _require(scene.start(*scene.arguments), CheckpointError.exit_code)
    scene.arguments = ["--checkpoint", str(scene.checkpoints / str(scene.load.ledger.sent))]
    # Killed during its first batches, so that the comparison reads the outcomes of both topics.
    first = scene.start("--new-checkpoint", *scene.arguments)
    first.wait_for("scoring the topic")
    time.sleep(scene.generator.uniform(0.2, 3))
    first.kill()
    # Without the flag a start is refused until the statistics of the old topic are deleted.
    _require(scene.start("--new-checkpoint", "--available-now", *scene.arguments), 0)


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
"""The faults by name, each with its weight and its function."""


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk at a folder, and yield whether this user was allowed to."""
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
