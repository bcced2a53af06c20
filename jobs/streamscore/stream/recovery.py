"""Take up a checkpoint where the last run left it, and find out what that run may have written already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from streamscore.config import Stream
from streamscore.sinks.base import Replay
from streamscore.spark import jvm
from streamscore.stream import checkpoint, folders, notes
from streamscore.stream.checkpoint import State
from streamscore.stream.folders import Folder
from streamscore.stream.stop import StopRequest
from streamscore.system import failpoints

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class HeldCheckpoint:
    """A checkpoint that this job holds, and what it told when the job took it up."""

    files: Folder
    location: str
    past: State

    @property
    def replay(self) -> Replay | None:
        """Which batches an earlier run may have written before; None: nothing was left half done."""
        if self.past.last_replayed < 0 or self.past.since is None:
            return None
        return Replay(self.past.last_replayed, self.past.since, notes.recorded_outputs(self.files))

    @property
    def next_batch(self) -> int:
        """Number of the first batch that was not begun before."""
        return (self.past.committed if self.past.clean else self.past.planned) + 1

    def query_id(self) -> str:
        """Return the identity of the query that runs from here.

        Raises:
            CheckpointError: no query has run from here yet, or the checkpoint is damaged.
        """
        return checkpoint.query_id(self.files, self.location)

    def committed(self) -> int:
        """Return the number of the last batch that is committed; -1 if none is."""
        return checkpoint.inspect(self.files, self.location).committed


@contextmanager
def held(spark: SparkSession, settings: Stream, topic: str, stop: StopRequest) -> Iterator[HeldCheckpoint]:
    """Hold the checkpoint of a streaming job, and take the signals that ask it to stop, until the context ends.

    Args:
        spark: the session of the job.
        settings: where the checkpoint is.
        topic: the topic that is read; a checkpoint of another one is refused.
        stop: receives the signals.

    Raises:
        CheckpointError: the checkpoint is damaged, in use, or another topic's.
        ServerError: its file system cannot be reached.
    """
    process = jvm.jvm_pid(spark)
    failpoints.arm(process)
    location = settings.checkpoint
    files = folders.open_folder(location, spark)
    runs = partial(jvm.runs_query, spark)
    with stop.listening(spark), checkpoint.hold(files, location, process, runs) as past:
        checkpoint.require_topic(files, location, topic)
        yield HeldCheckpoint(files, location, past)
