"""Failpoints: faults on purpose, for the tests that kill the job. They are inert unless the environment arms one.

``STREAMSCORE_FAULT=<point>:<action>:<nth>`` strikes when a point is reached for the nth time, and only if
``STREAMSCORE_TEST_FAULTS=1`` is set as well.

Points: ``entry`` (a batch begins), ``<sink>-half`` and ``<sink>`` (half of the rows, all rows are written; the sinks
are ``rejected``, ``index`` and ``quality`` in Elasticsearch, and ``records`` in Kafka; those of label_stream
``labelled``, ``labels-quality`` and ``labels-pending`` in Elasticsearch, and ``labels-records`` in Kafka), ``delta``
(the rows are in the Delta table; one transaction has no half), ``committed`` (a batch's commit is in the checkpoint).
Actions: ``kill-group``, ``kill-python``, ``kill-jvm``, ``raise``, ``stop`` (SIGSTOP), ``sleep``.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from streamscore.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_Part = TypeVar("_Part")

SLEEP_SECONDS = 3.0


@dataclass
class Failpoint:
    """An armed failpoint, which strikes when its point is reached for the ``left``-th time from now on."""

    point: str
    action: str
    left: int
    jvm: int

    def strike(self) -> None:
        """Carry out the action."""
        _ACTIONS[self.action](self)


def _kill_java(failpoint: Failpoint) -> None:
    os.kill(failpoint.jvm, signal.SIGKILL)
    time.sleep(60)  # this process ends with the JVM


def _raise(failpoint: Failpoint) -> None:
    raise RuntimeError(f"a fault on purpose at {failpoint.point}")


_ACTIONS: Final[dict[str, Callable[[Failpoint], None]]] = {
    "kill-group": lambda _: os.killpg(os.getpgid(0), signal.SIGKILL),
    "kill-jvm": _kill_java,
    "kill-python": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "raise": _raise,
    "sleep": lambda _: time.sleep(SLEEP_SECONDS),
    "stop": lambda _: os.killpg(os.getpgid(0), signal.SIGSTOP),
}

_armed: list[Failpoint] = []


def arm(jvm: int) -> None:
    """Arm the environment's failpoint, once, at the start of the job; ``jvm`` is the process id of the job's JVM.

    Raises:
        ConfigError: ``STREAMSCORE_FAULT`` is malformed, or names an unknown action.
    """
    _armed.clear()
    if os.environ.get("STREAMSCORE_TEST_FAULTS") == "1" and "STREAMSCORE_FAULT" in os.environ:
        _armed.append(_parse(os.environ["STREAMSCORE_FAULT"], jvm))


def _parse(text: str, jvm: int) -> Failpoint:
    match = re.fullmatch(r"([^:]+):([^:]+):([1-9][0-9]*)", text)
    if match is None:
        raise ConfigError(f"STREAMSCORE_FAULT={text}: expected <point>:<action>:<nth>, nth from 1")
    point, action, nth = match.groups()
    if action not in _ACTIONS:
        raise ConfigError(f"STREAMSCORE_FAULT={text}: unknown action {action!r}; there are {', '.join(_ACTIONS)}")
    return Failpoint(point, action, int(nth), jvm)


def reach(point: str) -> None:
    """Report that a point is reached; an armed failpoint may strike."""
    for failpoint in _armed:
        if failpoint.point == point:
            failpoint.left -= 1
            if failpoint.left == 0:
                failpoint.strike()


def write(point: str, frame: DataFrame, sink: Callable[[DataFrame], None]) -> None:
    """Write a frame to a sink; if a failpoint is armed at its half, write half of the rows first.

    Args:
        point: the sink's point.
        frame: the rows.
        sink: writes a frame.
    """
    write_parts(point, frame, sink, _half_of_rows)


def write_parts(point: str, whole: _Part, sink: Callable[[_Part], None], half_of: Callable[[_Part], _Part]) -> None:
    """Write data to a sink; if a failpoint is armed at its half, write half of the data first.

    Args:
        point: the sink's point.
        whole: the data.
        sink: writes the data, or a part of it.
        half_of: returns half of the data.
    """
    half = f"{point}-half"
    # Only when the failpoint strikes: otherwise the half would be written twice without a replay.
    if any(failpoint.point == half and failpoint.left == 1 for failpoint in _armed):
        sink(half_of(whole))
    reach(half)
    sink(whole)
    reach(point)


def _half_of_rows(frame: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    return frame.filter(F.pmod(F.xxhash64(*frame.columns), F.lit(2)) == 0)
