"""Write the batches of a query to its sinks, in their order, each row computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from streamscore.errors import StreamscoreError
from streamscore.sinks.base import Batch, Replay, Sink, SinkWork
from streamscore.system import failpoints

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from streamscore.stream.stop import StopRequest


class BatchTurnedAway(Exception):  # noqa: N818 (it is a way to stop, not an error)
    """Raised inside a batch that came up while the job was stopping: nothing of it was written."""


class Phase(Enum):
    """How far a writer is in its life; it only moves forward."""

    OPEN = "takes batches"
    CLOSED = "takes no further batch"
    FINISHED = "has written its last batch"
    TURNED_AWAY = "has turned a batch away, which ends the query"


@dataclass
class Progress:
    """What a writer has done so far: what its query's end is judged by."""

    phase: Phase = Phase.OPEN
    begun: int = -1
    """The last batch of which something may have been written."""
    sink: Sink | None = None
    """The sink that is being written to."""
    fault: StreamscoreError | None = None
    """The error of ours that a batch failed with: Spark passes on its text among a hundred lines."""


@dataclass
class BatchWriter:
    """Writes each batch of a query's rows to its sinks; hand it to ``foreachBatch``.

    If it raises, the batch is not committed: it is replayed, in whole, when the stream starts again.
    """

    sinks: Sequence[Sink]
    """In the order in which a batch is written."""
    stop: StopRequest
    query: Callable[[], str]
    """Returns the identity of the query, once it runs."""
    replay: Replay | None = None
    """Which batches an earlier run may have written before."""
    last_batch: int | None = None
    """The last batch to write; None: there is no last one."""
    work: dict[str, SinkWork] = field(default_factory=dict)
    """What the sinks have done so far, by their labels; other threads read it meanwhile."""
    progress: Progress = field(default_factory=Progress, init=False)
    _since: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Make an entry for each sink."""
        for sink in self.sinks:
            self.work.setdefault(sink.label, SinkWork())

    def __call__(self, rows: DataFrame, number: int) -> None:
        """Write one batch of what ``shape`` returned.

        Raises:
            BatchTurnedAway: the job is stopping, or the last batch is written; nothing of this one was.
        """
        if self.stop or self.progress.phase is not Phase.OPEN:
            self.progress.phase = Phase.TURNED_AWAY
            raise BatchTurnedAway
        self.progress.begun = number
        failpoints.reach("entry")
        if not self._shapes_stream:
            # Sinks that read the batch one after the other would read Kafka, and compute every row, once each.
            rows.persist()
        try:
            replay = self.replay if self.replay and number <= self.replay.last_batch else None
            aggregates = {} if self._shapes_stream else aggregated(self.sinks, rows)
            for sink in self.sinks:
                self.progress.sink = sink
                batch = self._batch(number, sink, aggregates.get(sink.label, {}))
                self._write(sink, rows if self._shapes_stream else sink.shape(rows), batch, replay)
            self.progress.sink = None
        except StreamscoreError as error:
            self.progress.fault = error
            raise
        finally:
            if not self._shapes_stream:
                rows.unpersist()
        if number == self.last_batch:
            self.progress.phase = Phase.FINISHED

    def _batch(self, number: int, sink: Sink, aggregates: Mapping[str, Any]) -> Batch:
        failed = partial(self._note, sink, errors=1)
        return Batch(number, self.query, lambda: bool(self.stop), self.stop.wait, failed, aggregates)

    def _write(self, sink: Sink, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        self._since = time.monotonic()
        try:
            sink.write(shaped, batch, replay)
        except Exception:
            batch.failed()
            raise
        self._note(sink)

    def _note(self, sink: Sink, errors: int = 0) -> None:
        """Add the time since the last note, and the errors, to what the sink has done."""
        before, now = self.work[sink.label], time.monotonic()
        self.work[sink.label] = SinkWork(before.seconds + now - self._since, before.errors + errors)
        self._since = now

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the stream to run: a single sink's shape is planned once with it, not again for each batch."""
        return self.sinks[0].shape(rows) if self._shapes_stream else rows

    def close(self) -> None:
        """Let no further batch begin."""
        if self.progress.phase is Phase.OPEN:
            self.progress.phase = Phase.CLOSED

    @property
    def _shapes_stream(self) -> bool:
        """Whether the stream itself has the only sink's shape; aggregates need the rows before they take it."""
        return len(self.sinks) == 1 and type(self.sinks[0]).aggregates is Sink.aggregates


def aggregated(sinks: Sequence[Sink], rows: DataFrame) -> dict[str, dict[str, Any]]:
    """Return the values of the aggregates that sinks ask for, by label of the sink and name; one pass over the rows.

    Args:
        sinks: the sinks.
        rows: a batch.
    """
    asked = [
        (sink.label, name, aggregate)
        for sink in sinks
        for name, aggregate in sink.aggregates(rows.sparkSession).items()
    ]
    found: dict[str, dict[str, Any]] = {}
    if asked:
        (values,) = rows.agg(*(aggregate for *_, aggregate in asked)).collect()
        for (label, name, _), value in zip(asked, values, strict=True):
            found.setdefault(label, {})[name] = value
    return found
