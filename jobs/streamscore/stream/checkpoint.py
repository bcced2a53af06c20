"""The checkpoint of a stream: what Spark keeps there, read to tell what a restart will do again.

Spark writes ``offsets/N`` before it runs batch N and ``commits/N`` after it; a batch with the first and without the
second is run again (Spark's MicroBatchExecution). Our own files are in the folder ``streamscore`` beside them: the
lease and the notes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from streamscore.errors import CheckpointError
from streamscore.stream import lease
from streamscore.stream.folders import Folder


@dataclass(frozen=True)
class State:
    """What a checkpoint says about the past; a batch number is -1 where there is no such batch."""

    query: str | None
    planned: int
    committed: int
    since: int | None
    """When the first batch that may run again was planned for the first time, in epoch milliseconds."""
    clean: bool
    """Whether the last run ended in a clean shutdown, and Spark's logs are as it left them."""
    until: int = -1
    """Highest number of a batch that an earlier run may have written, if it is not committed since."""

    @property
    def is_new(self) -> bool:
        """Whether no query has run from it yet."""
        return self.query is None

    @property
    def is_unfinished(self) -> bool:
        """Whether a batch was begun, and perhaps written in part. After a clean shutdown it was only planned."""
        return not self.clean and self.planned > self.committed

    @property
    def last_replayed(self) -> int:
        """Highest number of a batch that may have been written before; -1 if none was.

        After a clean shutdown nothing of a batch without a commit was written: it came up while the job was stopping.
        Otherwise the last planned batch may have been written, and the next one as well: its entry may have been
        damaged and removed, which leaves no trace.
        """
        if self.is_new or self.clean:
            return -1
        return max(self.planned + 1, self.until)


def inspect(files: Folder, location: str) -> State:
    """Read a checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged; the message names the file and the repair.
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
            "batch is planned again; what it has written already will not be written again"
        )
    recorded = lease.read(files)
    # Without an entry in offsets, the job was killed before its first batch, or the entry was removed.
    begun = None if query is None else int((recorded or {}).get("since", 0))
    since = _planned_at(files, location, planned) if planned >= 0 else begun
    is_clean = planned == committed if recorded is None else recorded == lease.of_clean_shutdown(planned, committed)
    until = int((recorded or {}).get("until", -1))
    if recorded and committed < until:  # the first of these batches may have been removed and planned again
        return State(query, planned, committed, min(since or 0, int(recorded["since"])), is_clean, until)
    return State(query, planned, committed, since, is_clean)


@contextmanager
def hold(files: Folder, location: str, jvm: int, runs: Callable[[str], bool] = lambda _: False) -> Iterator[State]:
    """Acquire the checkpoint's lock and lease and yield its state. A clean shutdown replaces the lease.

    After a fault the lease stays. While a batch that an earlier run may have written is not committed, the lease says
    since when it may have been written, even after a clean shutdown: the entry in ``offsets`` that says so first may be
    damaged, removed, and written again with a later time. Before the first batch that time is the start of the first
    run: what is older belongs to another stream.

    Args:
        files: the checkpoint.
        location: its name, for messages.
        jvm: process id of this job's JVM, which writes, and which may outlive its Python.
        runs: returns whether the query of an id runs in that JVM, which in a notebook may have other queries too.

    Raises:
        CheckpointError: another job holds the checkpoint and does not end, or the checkpoint is damaged.
    """
    wait = lease.Waiting(files, location, jvm)

    def own_is_running() -> bool:
        query = _query(files, location, planned=-1)
        return query is not None and runs(query)

    with files.locked(wait):
        lease.await_end_of_holder(files, jvm, own_is_running, wait)
        past = inspect(files, location)
        suspect = {"since": past.since, "until": past.last_replayed} if past.last_replayed >= 0 else {}
        first = {"since": round(time.time() * 1_000)} if past.planned < 0 else {}
        lease.write(files, {**lease.of_process(jvm), **first, **suspect})
        yield past
        committed = _highest(files, "commits")
        is_settled = committed >= past.last_replayed
        lease.write(files, lease.of_clean_shutdown(_highest(files, "offsets"), committed) if is_settled else suspect)


def query_id(files: Folder, location: str) -> str:
    """Return the identity of the query that runs from a checkpoint, which lasts as long as the checkpoint does.

    Raises:
        CheckpointError: no query has run from the checkpoint, or it is damaged.
    """
    found = _query(files, location, planned=-1)
    if found is None:
        raise CheckpointError(f"{location}/metadata is missing: no query has run from here")
    return found


def offsets(files: Folder, batch: int) -> dict[str, dict[int, int]]:
    """Return the offsets at which a batch ended, by topic and partition; empty if the batch has no entry."""
    lines = (files.read(f"offsets/{batch}") or "").splitlines()
    ended = json.loads(lines[2]) if len(lines) > 2 else {}  # noqa: PLR2004 (version, metadata, then one line per source)
    return {topic: {int(partition): offset for partition, offset in parts.items()} for topic, parts in ended.items()}


def next_offsets(files: Folder, committed: int) -> dict[str, dict[int, int]]:
    """Return the offsets that come after the last committed batch, by topic and partition.

    Args:
        files: the checkpoint.
        committed: number of the last committed batch; -1: none is, and Spark recorded where the first one begins.
    """
    if committed >= 0:
        return offsets(files, committed)
    # Spark's Kafka source writes a zero byte, its version and the offsets.
    recorded = (files.read("sources/0/0") or "").rpartition("\n")[2]
    began = json.loads(recorded) if recorded.startswith("{") else {}
    return {topic: {int(partition): offset for partition, offset in parts.items()} for topic, parts in began.items()}


def planned_offsets(files: Folder, past: State) -> dict[tuple[str, int], tuple[int, int]]:
    """Return, by topic and partition, the first offset of a batch that is not committed, and the one after its last.

    A partition of which the batch reads nothing is left out, as is a new one, whose first offset nothing tells.

    Args:
        files: the checkpoint.
        past: its state.
    """
    if past.planned <= past.committed:
        return {}
    begins = next_offsets(files, past.committed)
    return {
        (topic, partition): (begins[topic][partition], end)
        for topic, ends in offsets(files, past.planned).items()
        for partition, end in sorted(ends.items())
        if begins.get(topic, {}).get(partition, end) < end
    }


def begin(files: Folder) -> None:
    """Give a new checkpoint the identity of a query, for a query that Spark does not run as a stream."""
    files.write("metadata", json.dumps({"id": str(uuid.uuid4())}))


def plan(files: Folder, batch: int, topic: str, ends: Mapping[int, int]) -> None:
    """Write the log entry of a batch before it runs, in Spark's format.

    Args:
        files: the checkpoint.
        batch: number of the batch.
        topic: the topic.
        ends: the offsets at which the batch ends, by partition.
    """
    times = {"batchWatermarkMs": 0, "batchTimestampMs": round(time.time() * 1_000), "conf": {}}
    files.write(f"offsets/{batch}", "\n".join(["v1", json.dumps(times), json.dumps({topic: ends})]))


def cut(files: Folder, batch: int, topic: str, ends: Mapping[int, int]) -> None:
    """Let a planned batch end at other offsets; when it was planned stays.

    Args:
        files: the checkpoint.
        batch: number of the batch.
        topic: the topic.
        ends: the offsets at which the batch ends, by partition.
    """
    version, metadata, *_ = (files.read(f"offsets/{batch}") or "").splitlines()
    files.write(f"offsets/{batch}", "\n".join([version, metadata, json.dumps({topic: ends})]))


def commit(files: Folder, batch: int) -> None:
    """Write the log entry of a batch after it has run, in Spark's format."""
    files.write(f"commits/{batch}", "\n".join(["v1", json.dumps({"nextBatchWatermarkMs": 0})]))


def require_topic(files: Folder, location: str, topic: str) -> None:
    """Raise if another topic is scored from a checkpoint.

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
        "and the batch is planned again; what it has written already will not be written again"
    )
