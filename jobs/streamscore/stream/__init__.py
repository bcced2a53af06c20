"""One life of the streaming query: started, watched, drained, and its fault told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.live import Live

from streamscore import messages, scoring
from streamscore.clients import elasticsearch
from streamscore.config import Config
from streamscore.errors import StreamError, root_cause, told_in_one_line
from streamscore.messages import decoder
from streamscore.sinks import BatchWriter, StatusWriter
from streamscore.spark import session, sources
from streamscore.spark.session import StopRequest
from streamscore.stream.progress import Totals
from streamscore.system import failpoints
from streamscore.system.console import log, terminal
from streamscore.system.paths import as_spark_takes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from streamscore.scoring import ServedModel

NAME = "score_stream"
POLL_SECONDS = 0.5


class Stream:
    """Runs the query of a job, again with other models if need be; the totals go on from one life to the next."""

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        stop: StopRequest,
        totals: Totals,
        watch: Callable[[Totals], None] | None = None,
    ) -> None:
        self.spark = spark
        self.config = config
        self.stop = stop
        self._totals = totals
        self._watch = watch
        self._ended: float | None = None
        self._noted = False

    def run(self, writer: BatchWriter, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Run the query until it ends or is asked to stop, its last batch is written, or it is interrupted.

        However it ends, no batch is broken off, unless it fails or is stopped urgently.

        Args:
            writer: writes the batches, and knows the models.
            interrupted: asked between two looks at the query, twice a second.

        Raises:
            StreamError: the query stopped on a fault; its last batch was not committed and will be replayed.
            RejectedShareError: too many of the last messages were rejected.
        """
        config, totals = self.config, self._totals
        totals.models = writer.models
        status = StatusWriter(config.elasticsearch)
        query = self._start(writer)
        with _stopped_at_last(query), _shown(totals, config, self._watch) as refresh:
            self._note(query)
            while self._goes_on(query, writer) and not interrupted():
                _take(query, totals, status)
                refresh()
                self.stop.wait(POLL_SECONDS)
            self._drain(query, writer)
            _take(query, totals, status)
            refresh()
        status.close()
        _raise_fault(query, writer, config)
        totals.require_few_rejected(config.stream, config.kafka.topics.rejected)

    def _start(self, writer: BatchWriter) -> StreamingQuery:
        settings = self.config.stream
        judged = scored_events(self.spark, self.config, writer.models)
        stream = writer.rows(judged).writeStream.queryName(NAME).foreachBatch(writer)
        stream = stream.option("checkpointLocation", as_spark_takes(settings.checkpoint))
        if settings.available_now:
            stream = stream.trigger(availableNow=True)
        else:
            stream = stream.trigger(processingTime=f"{settings.trigger_seconds * 1000:.0f} milliseconds")
        with told_in_one_line(StreamError, f"no stream can be started from {settings.checkpoint}"):
            query = stream.start()
        if self._ended is not None:
            log.info("going on after a pause of %.1f s", time.monotonic() - self._ended)
        return query

    def _note(self, query: StreamingQuery) -> None:
        """Note in the index which stream writes to it: once, for a later life is that of the same stream."""
        if self.config.elasticsearch.enabled and not self._noted:
            elasticsearch.note_checkpoint(self.config.elasticsearch, self.config.kafka.topics.input, str(query.id))
            self._noted = True

    def _goes_on(self, query: StreamingQuery, writer: BatchWriter) -> bool:
        too_many = self._totals.too_many_rejected(self.config.stream)
        return bool(query.isActive and not self.stop and not writer.finished and not too_many)

    def _drain(self, query: StreamingQuery, writer: BatchWriter) -> None:
        """Let the batch in flight be committed, then stop; ``stop()`` alone would break off between two sinks."""
        asked: float | None = None
        writer.closing = True
        while query.isActive and query.status["isTriggerActive"] and not writer.not_started:
            if asked is None and self.stop:  # for another model or a fault upstream nobody is in a hurry
                asked = time.monotonic()
            late = asked is not None and time.monotonic() > asked + self.config.stream.drain_seconds
            if self.stop.urgent or late:
                query.stop()
                raise StreamError(
                    "stopped in the middle of a batch; it is not committed and will be replayed at the next start"
                )
            time.sleep(0.02)
        self._ended = time.monotonic()
        query.stop()


def scored_events(spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> DataFrame:
    """Return the stream of judged rows: decoded, scored by every model, compared with the label, counted."""
    decoder.register(spark, messages.DECODER, config.message, served[0].size)
    decoder.register_text(spark, messages.JSON_TEXT)
    decoded = messages.decode(sources.events(spark, config))
    judged = messages.judge(scoring.apply(decoded, served), served)
    return judged.observe("quality", *messages.quality(served))


def _take(query: StreamingQuery, totals: Totals, status: StatusWriter) -> None:
    """Add the batches that have ended to the totals and tell of them."""
    taken = totals.take(query)
    status.write(taken)
    for _ in taken:
        failpoints.reach("committed")


def _raise_fault(query: StreamingQuery, writer: BatchWriter, config: Config) -> None:
    fault = query.exception()
    if fault is None or writer.not_started:
        return
    place = f" while writing to {writer.sink}" if writer.sink else ""
    spark_log = session.log_file(config, NAME)  # where a cluster or a platform set Spark up, the driver's output has it
    raise StreamError(
        f"the stream stopped{place}: {root_cause(fault)}\n"
        "The batch in flight is not committed and will be replayed at the next start. "
        f"Spark's log: {spark_log if spark_log.is_file() else 'that of the driver'}"
    )


@contextmanager
def _stopped_at_last(query: StreamingQuery) -> Iterator[None]:
    """Stop a query on the way out: a session that lives on, a notebook's, must not go on with it after an error."""
    try:
        yield
    finally:
        query.stop()


@contextmanager
def _shown(totals: Totals, config: Config, watch: Callable[[Totals], None] | None) -> Iterator[Callable[[], None]]:
    """Keep the totals in view: with whoever watches, in a live table on a terminal, in a log line per interval."""
    if watch is not None:
        yield lambda: watch(totals)
        return
    console = terminal()
    if console is None:
        last = time.monotonic()

        def log_line() -> None:
            nonlocal last
            if time.monotonic() - last >= config.stream.report_seconds:
                last = time.monotonic()
                log.info("%s", totals.line())

        yield log_line
        return
    live = Live(totals.table(), console=console, auto_refresh=False, transient=True)

    def show(draw: Callable[[], None]) -> None:
        with suppress(OSError):  # the terminal may go while the job stays
            draw()

    show(live.start)
    try:
        yield lambda: show(lambda: live.update(totals.table(), refresh=True))
    finally:
        show(live.stop)
