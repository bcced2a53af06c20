"""One life of a streaming query: started, watched, drained, and its fault reported."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from streamscore.config import Stream
from streamscore.errors import StreamError
from streamscore.listeners.base import BatchListener
from streamscore.sinks.base import Sink, SinkWork
from streamscore.spark.errors import root_cause, translate_spark_errors
from streamscore.stream.batch import BatchWriter, Phase
from streamscore.stream.progress import ProgressReader
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest
from streamscore.system import failpoints
from streamscore.system.console import log
from streamscore.system.paths import as_spark_takes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

POLL_SECONDS = 0.5
_FULL = re.compile("No space left on device|Disk quota exceeded")
_READING = re.compile(
    r"at org\.apache\.spark\.sql\.kafka010\.(?:consumer\.|KafkaBatchPartitionReader|KafkaSourceRDD|KafkaOffsetReader)"
    "|OffsetOutOfRangeException"
)
_SCORING = re.compile(r"at org\.apache\.spark\.ml\.(?:\w+\.)*?([A-Z]\w*)")


def _never() -> bool:
    return False


@dataclass
class QueryRunner:
    """Runs the query of a job, again with other rows if need be; its listeners go on from one life to the next."""

    name: str
    """Name of the query, and of the job."""
    settings: Stream
    held: HeldCheckpoint
    stop: StopRequest
    listeners: Sequence[BatchListener]
    spark_log: Path
    """File of Spark's own log, for the message about a fault."""
    _progress: ProgressReader = field(default_factory=ProgressReader, init=False)
    _work: dict[str, SinkWork] = field(default_factory=dict, init=False)
    _ended: float | None = field(default=None, init=False)

    def run(
        self,
        rows: DataFrame,
        sinks: Sequence[Sink],
        last_batch: int | None = None,
        interrupted: Callable[[], bool] = _never,
    ) -> int:
        """Run a query until it ends or is asked to stop, its last batch is written, or it is interrupted.

        However it ends, no batch is broken off, unless it fails or is stopped urgently.

        Args:
            rows: the streaming rows, before any sink shapes them.
            sinks: where they go, in the order in which a batch is written.
            last_batch: the number of the last batch to write; None: there is no last one.
            interrupted: asked between two looks at the query, twice a second.

        Returns:
            The number of the last batch that is committed.

        Raises:
            StreamError: the query stopped on a fault, or someone else stopped it in the middle of a batch; that batch
                was not committed and will be replayed.
            StreamscoreError: a listener's reason to end the stream.
        """
        writer = BatchWriter(sinks, self.stop, self.held.query_id, self.held.replay, last_batch, self._work)
        query = self._start(writer.shape(rows), writer)
        try:
            while self._goes_on(query, writer) and not interrupted():
                self._tell(query)
                self.stop.wait(POLL_SECONDS)
            self._drain(query, writer)
            self._tell(query)
        finally:
            query.stop()  # a session that lives on, a notebook's, must not go on with it after an error
        self._raise_fault(query, writer)
        committed = self.held.committed()
        if writer.progress.begun > committed:
            # A notebook's button, a platform, a second run from the same checkpoint: Spark reports no error.
            raise StreamError(
                f"the query was stopped by someone else in the middle of batch {writer.progress.begun}; it is not "
                "committed and will be replayed at the next start"
            )
        return committed

    def _start(self, rows: DataFrame, writer: BatchWriter) -> StreamingQuery:
        location = self.settings.checkpoint
        stream = rows.writeStream.queryName(self.name).foreachBatch(writer)
        stream = stream.option("checkpointLocation", as_spark_takes(location))
        if self.settings.available_now:
            stream = stream.trigger(availableNow=True)
        else:
            stream = stream.trigger(processingTime=f"{self.settings.trigger_seconds * 1000:.0f} milliseconds")
        with translate_spark_errors(StreamError, f"no stream can be started from {location}"):
            query = stream.start()
        if self._ended is not None:
            log.info("going on after a pause of %.1f s", time.monotonic() - self._ended)
        return query

    def _goes_on(self, query: StreamingQuery, writer: BatchWriter) -> bool:
        return bool(
            query.isActive
            and not self.stop
            and writer.progress.phase is Phase.OPEN
            and all(listener.fault() is None for listener in self.listeners)
        )

    def _tell(self, query: StreamingQuery) -> None:
        """Tell the listeners of the batches that were committed since the last time."""
        batches = self._progress.take(query)
        self._note_answer()
        for batch in batches:
            for listener in self.listeners:
                listener.committed(batch)
        for listener in self.listeners:
            listener.refresh()
        for _ in batches:
            failpoints.reach("committed")

    def _note_answer(self) -> None:
        for listener in self.listeners:
            listener.polled(self._progress.has_reported)
            listener.wrote(self._work)

    def _drain(self, query: StreamingQuery, writer: BatchWriter) -> None:
        """Let the batch in flight be committed, then stop; ``stop()`` alone would break off between two sinks.

        Raises:
            StreamError: the stop became urgent, or the batch took longer than ``stream.drain_seconds``.
        """
        asked: float | None = None
        writer.close()
        while query.isActive and query.status["isTriggerActive"] and writer.progress.phase is not Phase.TURNED_AWAY:
            self._note_answer()
            if asked is None and self.stop:  # for another model or a fault upstream nobody is in a hurry
                asked = time.monotonic()
            late = asked is not None and time.monotonic() > asked + self.settings.drain_seconds
            if self.stop.urgent or late:
                raise StreamError(
                    "stopped in the middle of a batch; it is not committed and will be replayed at the next start"
                )
            time.sleep(0.02)
        self._ended = time.monotonic()
        query.stop()

    def _raise_fault(self, query: StreamingQuery, writer: BatchWriter) -> None:
        fault = query.exception()
        if fault is not None and writer.progress.phase is not Phase.TURNED_AWAY:
            place, reason = place_of(fault, writer.progress.sink), writer.progress.fault or root_cause(fault)
            spark_log = self.spark_log if self.spark_log.is_file() else "that of the driver"  # a platform set Spark up
            raise StreamError(
                f"the stream stopped{place}: {reason}\n{self._full_disk(fault)}"
                "The batch in flight is not committed and will be replayed at the next start. "
                f"Spark's log: {spark_log}"
            )
        for listener in self.listeners:
            refusal = listener.fault()
            if refusal is not None:
                raise refusal

    def _full_disk(self, fault: Exception) -> str:
        """Return a line that names the folders whose disk may be full; nothing if the fault is another."""
        if not _FULL.search(str(fault)):
            return ""
        return (
            f"A disk is full: that of the checkpoint ({self.settings.checkpoint}), of Spark's temporary files "
            f"({gettempdir()}; spark.local.dir) or of Spark's log. Make room there.\n"
        )


def place_of(fault: Exception, sink: Sink | None) -> str:
    """Return what a query was at when it failed, to be put behind "the stream stopped"; nothing if that is not known.

    Rows are read, scored and written in one go, so only the frames of the JVM's stack say which of them failed.

    Args:
        fault: the exception, with a JVM's stack trace in its text.
        sink: the sink that was being written to, if any.
    """
    text = str(fault)
    if _READING.search(text):
        return " while reading the input topic"
    model = _SCORING.search(text)
    if model:
        return f" while applying a model ({model[1]})"
    return f" while writing to {sink.name}" if sink else ""
