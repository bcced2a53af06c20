"""A query over a stretch of a topic that is known when it begins: batch by batch, each written once, to its end.

It keeps a checkpoint in Spark's format, so lease, recovery and replay are those of a stream. Spark itself cannot end a
stream at given offsets.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamscore.errors import StreamError, StreamscoreError
from streamscore.listeners.base import BatchListener
from streamscore.sinks.base import Sink
from streamscore.spark import jvm
from streamscore.spark.errors import root_cause
from streamscore.stream import checkpoint
from streamscore.stream.batch import BatchTurnedAway, BatchWriter
from streamscore.stream.folders import Folder
from streamscore.stream.progress import CommittedBatch
from streamscore.stream.query import place_of
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest
from streamscore.system import failpoints

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

OBSERVED: Final = "quality"
"""Name of the observation of each batch."""


def batch_ends(at: Mapping[int, int], end: Mapping[int, int], limit: int) -> dict[int, int]:
    """Return where the next batch ends: partitions advance in proportion to what is left of them.

    Args:
        at: the next offset to read, by partition.
        end: the offset after the last one, by partition.
        limit: most records of a batch; each partition that is not at its end advances by one at least.
    """
    left = {partition: end[partition] - at[partition] for partition in end}
    records = sum(left.values())
    if records <= limit:
        return dict(end)
    return {
        partition: at[partition] + (min(count, max(1, count * limit // records)) if count else 0)
        for partition, count in left.items()
    }


@dataclass
class BoundedQuery:
    """Runs the batches of a stretch that are not committed yet."""

    topic: str
    begin: Mapping[int, int]
    """The first offset of the stretch, by partition."""
    end: Mapping[int, int]
    """The offset after the last one, by partition."""
    batch_records: int
    """Most records of a batch."""
    held: HeldCheckpoint
    stop: StopRequest
    listeners: Sequence[BatchListener]
    spark_log: Path
    """File of Spark's own log, for the message about a fault."""
    drain_seconds: float
    """Seconds that the batch in flight may take after a request to stop."""
    _is_over: bool = field(default=False, init=False)

    @property
    def at(self) -> dict[int, int]:
        """The next offset to read, by partition."""
        return position(self.held.files, self.held.committed(), self.topic, self.begin)

    def run(
        self,
        rows: Callable[[Mapping[int, int], Mapping[int, int]], DataFrame],
        observed: Sequence[Column],
        sinks: Sequence[Sink],
    ) -> bool:
        """Run batch after batch until the end of the stretch, or until the job is asked to stop.

        A batch that an earlier run has planned is run as planned.

        Args:
            rows: returns the rows between two offsets of each partition, before any sink shapes them.
            observed: aggregates of a batch's rows, for the listeners; each with a name.
            sinks: where the rows go, in the order in which a batch is written.

        Returns:
            Whether the end was reached.

        Raises:
            StreamError: a batch failed; it is not committed, and the next run repeats it.
            StreamscoreError: a listener's reason to end.
        """
        files, past = self.held.files, self.held.past
        if past.is_new:
            checkpoint.begin(files)
        number, at, end = past.committed + 1, self.at, dict(self.end)
        while at != end and not self.stop:
            ends = checkpoint.offsets(files, number).get(self.topic) if number <= past.planned else None
            if ends is None:
                ends = batch_ends(at, end, self.batch_records)
                checkpoint.plan(files, number, self.topic, ends)
            began = time.time()
            facts = self._write(rows(at, ends), observed, sinks, number)
            if facts is None:
                return False
            checkpoint.commit(files, number)
            self._tell(number, began, facts, sum(ends.values()) - sum(at.values()), ends)
            number, at = number + 1, ends
        return at == end

    def _write(
        self, rows: DataFrame, observed: Sequence[Column], sinks: Sequence[Sink], number: int
    ) -> dict[str, Any] | None:
        """Write a batch; return what was observed, or None if the job was asked to stop before it began."""
        from pyspark.sql import Observation

        observation = Observation(OBSERVED)
        writer = BatchWriter(sinks, self.stop, self.held.query_id, self.held.replay)
        try:
            with jvm.cancellable(rows.sparkSession) as cancel, self._drained(cancel):
                writer(writer.shape(rows.observe(observation, *observed)), number)
                facts = observation.get
        except BatchTurnedAway:
            return None
        except Exception as error:  # noqa: BLE001 (whatever it is, as in a stream)
            if self._is_over:
                raise StreamError("stopped in the middle of a batch; the same command goes on with it") from None
            reason = str(error) if isinstance(error, StreamscoreError) else root_cause(error)
            raise StreamError(
                f"the replay stopped{place_of(error, writer.progress.sink)}: {reason}\n"
                "The batch in flight is not committed; the same command goes on with it. "
                f"Spark's log: {self.spark_log if self.spark_log.is_file() else 'that of the driver'}"
            ) from None
        # As in the reports of a stream, bytes are base64.
        return {
            name: base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else value
            for name, value in facts.items()
        }

    @contextmanager
    def _drained(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Cancel the batch if the stop becomes urgent, or it takes longer than ``drain_seconds`` after the request."""
        is_written = threading.Event()

        def watch() -> None:
            asked = None
            while not is_written.wait(0.2):
                if self.stop and asked is None:
                    asked = time.monotonic()
                late = asked is not None and time.monotonic() > asked + self.drain_seconds
                if self.stop.urgent or late:
                    self._is_over = True
                    cancel()  # again and again: a batch consists of several jobs

        watching = threading.Thread(target=watch, name="drain", daemon=True)
        watching.start()
        try:
            yield
        finally:
            is_written.set()
            watching.join()

    def _tell(self, number: int, began: float, facts: dict[str, Any], records: int, ends: Mapping[int, int]) -> None:
        """Tell the listeners of a committed batch.

        Raises:
            StreamscoreError: a listener's reason to end.
        """
        seconds = time.time() - began
        batch = CommittedBatch(
            self.held.query_id(),
            number,
            f"{datetime.fromtimestamp(began, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            {OBSERVED: facts},
            sum(self.end.values()) - sum(ends.values()),
            round(seconds * 1_000),
            records / max(seconds, 0.001),
            {(self.topic, partition): end for partition, end in ends.items()},
        )
        for listener in self.listeners:
            listener.committed(batch)
            listener.refresh()
        failpoints.reach("committed")
        for listener in self.listeners:
            fault = listener.fault()
            if fault is not None:
                raise fault


def position(files: Folder, committed: int, topic: str, begin: Mapping[int, int]) -> dict[int, int]:
    """Return the next offset to read, by partition.

    Args:
        files: the checkpoint.
        committed: the last batch that is committed; -1 if none is.
        topic: the topic.
        begin: where the first batch begins.
    """
    ended = checkpoint.offsets(files, committed) if committed >= 0 else {}
    return dict(ended.get(topic, begin))
