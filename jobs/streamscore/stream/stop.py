"""The request to stop a streaming job."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from streamscore.spark import jvm
from streamscore.spark.settings import on_databricks
from streamscore.system.console import log
from streamscore.system.processes import handled

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class StopRequest:
    """A request to stop: SIGINT or SIGTERM to either process of the job, or a time limit.

    Under spark-submit the JVM is the process that a terminal, a supervisor or a container signals, and by default it
    ends at once, in the middle of a batch. So both the JVM and Python take the signal, and neither dies of it.
    """

    _SAME_KEYSTROKE = 1.0
    """Seconds within which a second signal is the same one, delivered to both processes."""

    def __init__(self, seconds: float | None = None) -> None:
        """Make a request that comes by itself so many seconds after the first ``wait``, if a number is given."""
        self._seconds = seconds
        self._deadline: float | None = None
        self._asked = threading.Event()
        self._first = 0.0
        self.urgent = False
        """Whether it was asked for again: stop now, do not wait for the batch in flight."""

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the request, at most so many seconds; return whether it is there."""
        if self._seconds is not None:
            now = time.monotonic()
            self._deadline = now + self._seconds if self._deadline is None else self._deadline
            if now >= self._deadline and not self:
                self.ask(f"{self._seconds:g} s are over")
        return self._asked.wait(seconds)

    @contextmanager
    def listening(self, spark: SparkSession) -> Iterator[None]:
        """Take SIGINT and SIGTERM for a while; call it after Spark has set up its own handlers.

        Python gives signals to its main thread only: in another one they stay with whoever has them. The JVM's are
        taken where it is ours, not on Databricks, which runs it for other notebooks too.
        """
        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                numbers = (signal.SIGINT, signal.SIGTERM)
                stack.enter_context(handled(numbers, lambda number, _: self.ask(signal.Signals(number).name)))
            if not on_databricks():
                stack.enter_context(jvm.forward_signals(spark, self.ask))
            yield

    def ask(self, source: str) -> None:
        """Ask to stop; a second time, more than a moment later, makes it urgent."""
        now = time.monotonic()
        if not self._asked.is_set():
            self._first = now
            self._asked.set()
            log.info("%s: finishing the batch in flight, then stopping; once more to stop at once", source)
        elif now - self._first > self._SAME_KEYSTROKE:
            self.urgent = True
