"""The checkpoint of a stream: what Spark keeps there, read to tell what a restart will do again, and notes of our own.

Spark writes ``offsets/N`` before it runs batch N and ``commits/N`` after it; a batch with the first and without the
second is run again (Spark's MicroBatchExecution). Notes of ours are in the folder ``streamscore`` beside them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from streamscore.errors import CheckpointError, ServerError, StreamError
from streamscore.spark.errors import translate_spark_errors
from streamscore.spark.hadoop_fs import HadoopRoot
from streamscore.system import processes
from streamscore.system.console import log
from streamscore.system.files import write_atomically
from streamscore.system.paths import is_local, local_path

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOTES: Final = "streamscore"
LEASE: Final = f"{NOTES}/lease.json"
LOCK: Final = f"{NOTES}/lock"
TOPIC: Final = f"{NOTES}/topic.json"
MODELS: Final = f"{NOTES}/models.json"
OUTPUTS: Final = f"{NOTES}/outputs.json"

PATIENCE: Final = 30.0
"""Seconds to wait for a killed job's JVM, which goes on for a moment after its Python is gone."""


class Folder(Protocol):
    """The operations on a checkpoint's files."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        ...

    def read(self, name: str) -> str | None:
        """Return a file's text; None if it does not exist."""
        ...

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all."""
        ...

    def locked(self, wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the folder's lock, if its file system has locks; call ``wait`` again and again until it is free."""
        ...


class LocalFolder:
    """A checkpoint on a file system that this machine has mounted."""

    def __init__(self, location: str) -> None:
        self._root = local_path(location)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        path = self._root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def read(self, name: str) -> str | None:
        """Return a file's text; None if it does not exist."""
        path = self._root / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all.

        Raises:
            StreamError: the disk is full, which may pass.
        """
        path = self._root / name
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the folder's lock, if its file system has locks; call ``wait`` again and again until it is free."""
        path = self._root / LOCK
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = path.open("w")
        with opened as file:
            while not _is_locked_by(file):
                wait()
            yield

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name the checkpoint if its disk is full; of a write the system's own error names no file."""
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise StreamError(
                f"the disk of the checkpoint {self._root} is full ({error.strerror}): make room there"
            ) from None


class HadoopFolder(HadoopRoot):
    """A checkpoint on any other file system, reached as Spark reaches it."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if it does not exist."""
        path = self._path(folder)
        return (
            sorted(entry.getPath().getName() for entry in self._files.listStatus(path))
            if self._files.exists(path)
            else []
        )

    def read(self, name: str) -> str | None:
        """Return a file's text; None if it does not exist."""
        content = self._content_if_any(name)
        return None if content is None else content.decode(errors="replace")

    def write(self, name: str, text: str) -> None:
        """Write a file, whole or not at all.

        Raises:
            CheckpointError: it cannot be written.
        """
        with translate_spark_errors(CheckpointError, f"{self.location}/{name} cannot be written"):
            self._replace(name, text.encode())

    def locked(self, _wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Do nothing: Hadoop's file systems have no locks."""
        return nullcontext()


def folder(location: str, spark: SparkSession | None = None) -> Folder:
    """Return the files of a checkpoint; one that is not local needs a session.

    Raises:
        CheckpointError: it is not local, and there is no session.
        ServerError: its file system cannot be reached.
    """
    if is_local(location):
        return LocalFolder(location)
    if spark is None:
        raise CheckpointError(f"{location}: only Spark reaches this file system")
    with translate_spark_errors(ServerError, f"the checkpoint {location} cannot be reached"):
        files = HadoopFolder(spark, location)
        files.names("")  # most connect with the first question only
    return files


@dataclass(frozen=True)
class State:
    """What a checkpoint tells about the past; a batch number is -1 where there is none."""

    query: str | None
    planned: int
    committed: int
    since: int | None
    """Epoch milliseconds at which the first batch that may run again was planned for the first time."""
    clean: bool
    """Whether the last job ended in an orderly way, and Spark's logs are as it left them."""
    until: int = -1
    """Highest number of a batch that an earlier start had to take for written, if it is not committed since."""

    @property
    def is_new(self) -> bool:
        """Whether nothing has run from it yet."""
        return self.query is None

    @property
    def is_unfinished(self) -> bool:
        """Whether a batch was begun, and perhaps written in part; after an orderly end it was planned only."""
        return not self.clean and self.planned > self.committed

    @property
    def last_replayed(self) -> int:
        """Highest number of a batch that may have been written before; -1 if none was.

        After an orderly end nothing of a batch without a commit was written: it came up while the job was stopping.
        Otherwise it is the last batch that was planned, and the one after it as well: a last entry that was damaged
        and removed leaves no trace.
        """
        if self.is_new or self.clean:
            return -1
        return max(self.planned + 1, self.until)


def inspect(files: Folder, location: str) -> State:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is damaged; the message names the file and the repair.
    """
    planned, committed = _highest(files, "offsets"), _highest(files, "commits")
    query = _query(files, location, planned)
    if committed >= 0 and len((files.read(f"commits/{committed}") or "").splitlines()) < 2:  # noqa: PLR2004 (version, content)
        raise CheckpointError(
            f"{location}/commits/{committed} is damaged: delete it and its checksum .{committed}.crc, and the batch is "
            "run again; what it has written already will not be written again"
        )
    if committed > planned:
        raise CheckpointError(
            f"{location}/commits/{committed} has no offsets: delete it and its checksum .{committed}.crc, and the "
            "batch is planned anew; what it has written already will not be written again"
        )
    lease = _lease(files)
    # Without an entry it was killed before its first batch, or that batch's entry is gone.
    begun = None if query is None else int((lease or {}).get("since", 0))
    since = _planned_at(files, location, planned) if planned >= 0 else begun
    clean = planned == committed if lease is None else lease == _ended(planned, committed)
    until = int((lease or {}).get("until", -1))
    if lease and committed < until:  # the batch that was begun first may have been removed and planned anew
        return State(query, planned, committed, min(since or 0, int(lease["since"])), clean, until)
    return State(query, planned, committed, since, clean)


@contextmanager
def hold(files: Folder, location: str, jvm: int, runs: Callable[[str], bool] = lambda _: False) -> Iterator[State]:
    """Acquire a checkpoint's lock and lease and yield its state; a clean shutdown replaces the lease.

    After a fault the holder's note stays. If a batch that an earlier job may have written has not been committed
    since, the end is no end in order either. Until it is, every note tells since when it may have been written: the
    entry of Spark's log that tells it first may be damaged, removed, and written anew with a later time. Before the
    first batch that is the time at which the first holder came: what is older is of another stream.

    Args:
        files: the checkpoint.
        location: its name, for messages.
        jvm: process id of this job's JVM: it may outlive its Python, and it is the one that writes.
        runs: tells whether the query of an id runs in that JVM; a notebook's may be that of others too.

    Raises:
        CheckpointError: another job holds it and does not end, or it is damaged.
    """
    wait = _Patience(files, location, jvm)
    with files.locked(wait):
        _await_holder(files, location, jvm, runs, wait)
        past = inspect(files, location)
        suspect = {"since": past.since, "until": past.last_replayed} if past.last_replayed >= 0 else {}
        first = {"since": round(time.time() * 1_000)} if past.planned < 0 else {}
        lease = {"host": socket.gethostname(), "pid": jvm, "birth": processes.birth(jvm), **first, **suspect}
        files.write(LEASE, json.dumps(lease))
        yield past
        committed = _highest(files, "commits")
        settled = committed >= past.last_replayed
        files.write(LEASE, json.dumps(_ended(_highest(files, "offsets"), committed) if settled else suspect))


def holder(files: Folder) -> int | None:
    """Return the process that holds a checkpoint; None if no living process of this machine does."""
    noted = _lease(files) or {}
    return int(noted["pid"]) if _is_alive(noted) else None


def query_id(files: Folder, location: str) -> str:
    """Return the identity of the query that runs from a checkpoint, which lasts as long as the checkpoint does.

    Raises:
        CheckpointError: no query has run from it, or it is damaged.
    """
    found = _query(files, location, planned=-1)
    if found is None:
        raise CheckpointError(f"{location}/metadata is missing: no query has run from here")
    return found


def offsets(files: Folder, batch: int) -> dict[str, dict[int, int]]:
    """Return the offsets at which a batch ended, by topic and partition; empty if it is not on record."""
    lines = (files.read(f"offsets/{batch}") or "").splitlines()
    ended = json.loads(lines[2]) if len(lines) > 2 else {}  # noqa: PLR2004 (version, metadata, then one line per source)
    return {topic: {int(partition): offset for partition, offset in parts.items()} for topic, parts in ended.items()}


def require_topic(files: Folder, location: str, topic: str) -> None:
    """Refuse a checkpoint from which another topic is scored.

    Args:
        files: the checkpoint.
        location: its name, for messages.
        topic: the topic that the job is to score.

    Raises:
        CheckpointError: it is another topic's, or its last entry is damaged.
    """
    last = _highest(files, "offsets")
    try:
        scored = offsets(files, last)
    except ValueError:
        raise CheckpointError(_damaged(location, last)) from None
    if scored and topic not in scored:
        raise CheckpointError(
            f"the checkpoint {location} is that of the topic {', '.join(map(repr, scored))}, not of {topic!r}: "
            "give each stream a checkpoint of its own (stream.checkpoint, --checkpoint)"
        )


def require_same_topic(files: Folder, location: str, topic: str, topic_id: str | None) -> None:
    """Refuse a topic that was deleted and created again since its events were scored from a checkpoint.

    Its new events are at offsets that count as scored, and would be left out.

    Args:
        files: the checkpoint.
        location: its name, for the message.
        topic: the input topic.
        topic_id: Kafka's id of the topic now; None if the brokers have no ids.

    Raises:
        CheckpointError: the checkpoint has another id of this topic on record.
    """
    noted = _noted_topic_id(files, topic)
    if None not in {noted, topic_id} and noted != topic_id:
        raise CheckpointError(
            f"the topic {topic!r} was deleted and created again since its events were scored from the checkpoint "
            f"{location} (its id was {noted}, now it is {topic_id}): events at offsets that were scored before would "
            "be left out. To score the new topic from its beginning, start with a new --checkpoint and "
            "--new-checkpoint"
        )


def note_topic(files: Folder, topic: str, topic_id: str | None) -> None:
    """Record Kafka's id of the topic that is scored from a checkpoint, unless it is on record or there is none.

    Args:
        files: the checkpoint.
        topic: name of the topic.
        topic_id: Kafka's id of it; None: the broker tells none.
    """
    if topic_id is not None and topic_id != _noted_topic_id(files, topic):
        files.write(TOPIC, json.dumps({"name": topic, "id": topic_id}))


def note_outputs(files: Folder, ends: Mapping[str, Mapping[str, Any]]) -> None:
    """Record where the output topics ended before anything was written from a checkpoint, by topic."""
    files.write(OUTPUTS, json.dumps(ends))


def noted_outputs(files: Folder) -> dict[str, dict[str, Any]]:
    """Return what ``note_outputs`` recorded; nothing if the checkpoint is older than such records.

    Raises:
        CheckpointError: the record is damaged.
    """
    try:
        return dict(json.loads(files.read(OUTPUTS) or "{}"))
    except (ValueError, TypeError):
        raise CheckpointError(
            f"{OUTPUTS} in the checkpoint is damaged: delete it, if the input topic was not created again since the "
            "output topics were"
        ) from None


def note_models(files: Folder, first_batch: int, models: Sequence[dict[str, str]]) -> None:
    """Record which models are in force from a batch on; an entry for that or a later batch is replaced.

    Args:
        files: the checkpoint.
        first_batch: number of the first batch that they score.
        models: ``identity`` of each model.
    """
    earlier = [entry for entry in _noted(files) if entry["first_batch"] < first_batch]
    entries = [*earlier[-9:], {"first_batch": first_batch, "models": list(models)}]
    files.write(MODELS, json.dumps(entries, indent=1))


def noted_models(files: Folder, batch: int) -> list[dict[str, str]] | None:
    """Return the models that were in force at a batch; None if there is no record."""
    entries = [entry for entry in _noted(files) if entry["first_batch"] <= batch]
    return list(entries[-1]["models"]) if entries else None


def _ended(planned: int, committed: int) -> dict[str, int]:
    """Return what an orderly end notes in the place of its holder: where Spark's logs ended."""
    return {"planned": planned, "committed": committed}


def _lease(files: Folder) -> dict[str, Any] | None:
    """Return what the last holder noted; None if there was none, nothing if a note of its is damaged."""
    text = files.read(LEASE)
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def _noted(files: Folder) -> list[dict[str, Any]]:
    text = files.read(MODELS)
    try:
        return list(json.loads(text)) if text else []
    except ValueError:
        raise CheckpointError(
            f"{MODELS} in the checkpoint is damaged: delete it, and a batch that has begun is finished with the "
            "present models"
        ) from None


def _noted_topic_id(files: Folder, topic: str) -> str | None:
    try:
        noted = json.loads(files.read(TOPIC) or "{}")
        return str(noted["id"]) if noted.get("name") == topic else None
    except (ValueError, KeyError, AttributeError):
        raise CheckpointError(
            f"{TOPIC} in the checkpoint is damaged: delete it, if the topic {topic!r} was not created again since its "
            "events were scored"
        ) from None


def _highest(files: Folder, log_name: str) -> int:
    return max((int(name) for name in files.names(log_name) if name.isdigit()), default=-1)


def _query(files: Folder, location: str, planned: int) -> str | None:
    text = files.read("metadata")
    if text is None:
        if planned >= 0:
            raise CheckpointError(
                f"{location}/metadata is missing, though batch {planned} was planned: Spark would take this for "
                "another stream. Restore the file, or start with a new --checkpoint and --new-checkpoint"
            )
        return None
    try:
        return str(json.loads(text)["id"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{location}/metadata is damaged: restore the file, or start with a new --checkpoint and --new-checkpoint"
        ) from None


def _planned_at(files: Folder, location: str, batch: int) -> int:
    text = files.read(f"offsets/{batch}") or ""
    try:
        return int(json.loads(text.splitlines()[1])["batchTimestampMs"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise CheckpointError(_damaged(location, batch)) from None


def _damaged(location: str, batch: int) -> str:
    return (
        f"{location}/offsets/{batch} is damaged: delete it and its checksum .{batch}.crc, and those of commits, "
        "and the batch is planned anew; what it has written already will not be written again"
    )


class _Patience:
    """Waits for the job that holds a checkpoint, a moment with each call, and gives up after a while."""

    def __init__(self, files: Folder, location: str, jvm: int) -> None:
        self._files = files
        self._location = location
        self._process = jvm
        self._deadline = time.monotonic() + PATIENCE
        self._has_waited = False

    def __call__(self) -> None:
        """Wait a moment.

        Raises:
            CheckpointError: this has been going on for too long.
        """
        holder = self._holder()
        if time.monotonic() > self._deadline:
            raise CheckpointError(
                f"{self._location} is in use by {holder}: stop that job, or choose another --checkpoint"
            )
        if not self._has_waited:
            log.info("waiting for the job that holds the checkpoint, %s, to end", holder)
            self._has_waited = True
        time.sleep(0.2)

    def _holder(self) -> str:
        lease = _lease(self._files) or {}
        if "pid" not in lease:
            return "another job"  # which has the lock, and has not written its lease yet
        if lease.get("host") != socket.gethostname():
            return f"process {lease['pid']} on {lease.get('host')!r}"
        if lease["pid"] == self._process:
            return "another session of this Spark application"
        return f"process {lease['pid']} on this machine"


def _await_holder(
    files: Folder, location: str, own: int, runs: Callable[[str], bool], wait: Callable[[], None]
) -> None:
    """Wait until the JVM that holds a checkpoint is gone; this job's own is, unless its query runs.

    The lock of a job whose Python was killed is free, but its JVM lives on for a moment and writes.
    """

    def is_gone(process: int | None) -> bool:
        query = _query(files, location, planned=-1) if process == own else None
        return process is None or (process == own and not (query and runs(query)))

    while not is_gone(holder(files)):
        wait()


def _is_locked_by(file: IO[str]) -> bool:
    """Return whether an open file has its lock now, or is on a file system that has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # some file systems that are mounted from elsewhere have no locks
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EINTR}
    return True


def _is_alive(holder: dict[str, Any]) -> bool:
    if holder.get("host") != socket.gethostname():
        return False  # another machine's or an earlier container's: its processes cannot be looked at
    return holder.get("birth") is not None and processes.birth(holder["pid"]) == holder["birth"]
