"""What a run costs: wall time of its steady state, and CPU time of every process that takes part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from figures import Run

WORKERS = "Python workers"


class Meter:
    """CPU time of some processes, and of what they have started, since it was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """Look at processes, given by name; those that the JVM of Spark has started count apart."""
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = self._now()
        self._started = time.perf_counter()

    def run(self, events: int, steady: tuple[float, float] | None = None) -> Run:
        """Return what happened since: the whole of it for the CPU; for the rate its steady part, if that is given.

        Args:
            events: how many events all of the CPU time was spent on.
            steady: number of events and seconds of the part that the rate is taken from.
        """
        timed, taken = steady or (events, self.seconds)
        now = self._now()
        cpu = {name: 1e6 * (now[name] - self._before.get(name, 0.0)) / events for name in now}
        known = {name: spent for name, spent in cpu.items() if spent >= 0.005}
        return Run(timed, taken, known, events)

    @property
    def seconds(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._started

    def _now(self) -> dict[str, float]:
        spent: dict[str, float] = {}
        for name, process in self._processes.items():
            children = sum(map(_seconds, process.children(recursive=True)))
            if name == "job":
                spent |= {name: _seconds(process), WORKERS: children}
            else:  # a server may be the child of what started it
                spent[name] = _seconds(process) + children
        return spent


def _seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


def events(batch: Mapping[str, Any]) -> int:
    """Return how many events of Kafka a batch has, by its offsets.

    Spark's ``numInputRows`` counts an event once for every time that it is read: twice if two sinks read a batch that
    is not persisted.
    """
    return sum(
        last - (source["startOffset"] or {}).get(topic, {}).get(partition, 0)
        for source in batch["sources"]
        for topic, partitions in source["endOffset"].items()
        for partition, last in partitions.items()
    )


def steady(progress: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return events and seconds of a stream's batches without the first two and the last.

    Of a short stream, with three batches or fewer, the last one stands for all.
    """
    full = [batch for batch in progress if events(batch)]
    counted = full[2:-1] if len(full) > 3 else full[-1:]
    return sum(map(events, counted)), sum(batch["durationMs"]["triggerExecution"] for batch in counted) / 1e3
