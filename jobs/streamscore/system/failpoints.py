"""Faults on purpose, for the tests that kill the job: inert unless the environment arms them.

``STREAMSCORE_FAULT=<point>:<action>:<nth>`` strikes when a point is reached for the nth time, and only if
``STREAMSCORE_TEST_FAULTS=1`` is set as well.

Points: ``entry`` (a batch begins), ``<sink>-half`` and ``<sink>`` (half of the rows, all rows are written; the sinks
are ``rejected`` and ``index``, in Elasticsearch, and ``records``, in Kafka), ``delta`` (the rows are in the Delta
table, in one transaction, which has no half), ``committed`` (a batch's commit is in the checkpoint).
Actions: ``kill-group``, ``kill-python``, ``kill-jvm``, ``raise``, ``stop`` (SIGSTOP), ``sleep``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SLEEP_SECONDS = 3.0


@dataclass
class Fault:
    """A fault that waits for its moment."""

    point: str
    action: str
    left: int
    jvm: int

    def strike(self) -> None:
        """Do what was asked for."""
        group = os.getpgid(0)
        if self.action == "sleep":
            time.sleep(SLEEP_SECONDS)
        elif self.action == "raise":
            raise RuntimeError(f"a fault on purpose at {self.point}")
        elif self.action == "stop":
            os.killpg(group, signal.SIGSTOP)
        elif self.action == "kill-jvm":
            os.kill(self.jvm, signal.SIGKILL)
            time.sleep(60)  # the JVM's end ends this process
        elif self.action == "kill-python":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)


_armed: list[Fault] = []


def arm(jvm: int) -> None:
    """Read the environment, once, at the start of the job; ``jvm`` is the process id of its JVM."""
    _armed.clear()
    if os.environ.get("STREAMSCORE_TEST_FAULTS") == "1" and "STREAMSCORE_FAULT" in os.environ:
        point, action, nth = os.environ["STREAMSCORE_FAULT"].split(":")
        _armed.append(Fault(point, action, int(nth), jvm))


def reach(point: str) -> None:
    """Say that a point is reached."""
    for fault in _armed:
        if fault.point == point:
            fault.left -= 1
            if fault.left == 0:
                fault.strike()


def write(point: str, frame: DataFrame, sink: Callable[[DataFrame], None]) -> None:
    """Write a frame to a sink; if a fault is about to strike at its half, half of the rows first."""
    half = f"{point}-half"
    # Not before: a batch that survives would have its half twice, though it was never replayed.
    if any(fault.point == half and fault.left == 1 for fault in _armed):
        from pyspark.sql import functions as F

        sink(frame.filter(F.pmod(F.xxhash64(*frame.columns), F.lit(2)) == 0))
    reach(half)
    sink(frame)
    reach(point)
