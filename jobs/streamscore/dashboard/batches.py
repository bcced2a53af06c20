"""What the jobs report of their batches: how fast they are, how far behind, and which versions scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import Final

QUIET_MS: Final = 30_000
"""After so many milliseconds without a new event or batch the stream counts as quiet."""


@dataclass(frozen=True)
class BatchReport:
    """What a job reported of a batch."""

    at: int
    """Its start, in epoch milliseconds."""
    milliseconds: int
    events: int
    lag: int
    """Events in the topic that were not scored yet."""
    topic: str = ""
    """The input topic; empty in reports of earlier versions, which do not have it."""
    refused: tuple[str, ...] = ()
    """New versions that were not let in while the old ones serve, as ``name:version: reason``."""


@dataclass(frozen=True)
class Version:
    """A version of a model, and the first and the last batch that it scored without another one between them.

    Both in the window, in epoch milliseconds.
    """

    model: str
    version: str
    first: int
    last: int


@dataclass(frozen=True)
class StreamReport:
    """What the jobs report about how they run; there is one job per input topic."""

    batches: tuple[BatchReport, ...]
    """The last batches of each topic, all in order of time."""
    synthetic: bool
    """Whether the events are synthetic."""

    @property
    def latest(self) -> BatchReport | None:
        """The last batch of all topics; None if none was ever reported."""
        return self.batches[-1] if self.batches else None

    def running(self, now: int) -> list[BatchReport]:
        """Return the last batch of each topic whose stream runs, or, if none does, the last batch of all.

        Args:
            now: this moment, in epoch milliseconds.
        """
        running = [batches[-1] for batches in self._per_topic() if not _is_paused(batches, now)]
        return running or list(self.batches[-1:])

    def lag(self, now: int) -> int | None:
        """Return the events that are not scored yet, of all topics; None if no batch was ever reported.

        Args:
            now: this moment, in epoch milliseconds.
        """
        return sum(batch.lag for batch in self.running(now)) if self.batches else None

    def refused(self, now: int) -> list[str]:
        """Return the new versions that were not let in, as ``name:version: reason``.

        Args:
            now: this moment, in epoch milliseconds.
        """
        return sorted({version for batch in self.running(now) for version in batch.refused})

    def rate(self, now: int) -> float | None:
        """Return the events per second of the last batches, of all topics; None if none was ever reported.

        A batch holds what has come since the start of the one before. So the events of all but the first are divided by
        the time between the first start and the last, which is right for long batches and for rare ones. Batches from
        before a pause do not count, and when none has come for as long as a pause, the rate is 0.

        Args:
            now: this moment, in epoch milliseconds.
        """
        return sum(_rate(batches, now) for batches in self._per_topic()) if self.batches else None

    def _per_topic(self) -> list[list[BatchReport]]:
        topics: defaultdict[str, list[BatchReport]] = defaultdict(list)
        for batch in self.batches:
            topics[batch.topic].append(batch)
        return list(topics.values())


@dataclass(frozen=True)
class Throughput:
    """What the batches of a bucket did; the first of them started at ``first`` (epoch milliseconds)."""

    first: int
    events: int
    """Scored or rejected."""
    milliseconds: int
    """How long the batches took, one after the other."""


def _pause(batches: Sequence[BatchReport]) -> int:
    """Return the milliseconds without a batch after which a stream counts as paused: three usual intervals at least."""
    starts = [batch.at for batch in batches]
    usual = median_low(after - before for before, after in pairwise(starts)) if len(starts) > 1 else 0
    return max(QUIET_MS, 3 * usual)


def _is_paused(batches: Sequence[BatchReport], now: int) -> bool:
    return now - batches[-1].at - batches[-1].milliseconds > _pause(batches)


def _rate(batches: Sequence[BatchReport], now: int) -> float:
    """Return the events per second of the batches of one topic."""
    if _is_paused(batches, now):
        return 0.0
    latest, pause = batches[-1], _pause(batches)
    first, *others = (batch for batch in batches if latest.at - batch.at <= pause)
    if not others:
        return first.events * 1_000 / max(1_000, first.milliseconds)
    return sum(batch.events for batch in others) * 1_000 / max(1, latest.at - first.at)
