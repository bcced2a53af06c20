"""The jobs' reports of their batches: throughput, lag, and model versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import Final

QUIET_MS: Final = 30_000
"""Milliseconds without a new event or batch after which the stream counts as quiet."""


@dataclass(frozen=True)
class BatchReport:
    """A job's report of a batch."""

    at: int
    """Start of the batch, in epoch milliseconds."""
    milliseconds: int
    events: int
    lag: int
    """Number of events in the topic that were not scored yet."""
    topic: str = ""
    """The input topic; empty in reports of earlier versions, which lack it."""
    refused: tuple[str, ...] = ()
    """Refused new versions of models, as ``name:version: reason``."""


@dataclass(frozen=True)
class Version:
    """A version of a model, with the first and the last of its consecutive batches in the window.

    Times are epoch milliseconds.
    """

    model: str
    version: str
    first: int
    last: int


@dataclass(frozen=True)
class StreamReport:
    """The reports of all jobs; there is one job per input topic."""

    batches: tuple[BatchReport, ...]
    """The last batches of each topic, in order of time."""
    synthetic: bool
    """Whether the events are synthetic."""

    @property
    def latest(self) -> BatchReport | None:
        """The last batch of all topics; None without any batch."""
        return self.batches[-1] if self.batches else None

    def running(self, now: int) -> list[BatchReport]:
        """Return the last batch of each topic whose stream runs, or, if none runs, the last batch of all topics.

        Args:
            now: the current time, in epoch milliseconds.
        """
        running = [batches[-1] for batches in self._per_topic() if not _is_paused(batches, now)]
        return running or list(self.batches[-1:])

    def lag(self, now: int) -> int | None:
        """Return the number of events of all topics that are not scored yet; None without any batch.

        Args:
            now: the current time, in epoch milliseconds.
        """
        return sum(batch.lag for batch in self.running(now)) if self.batches else None

    def refused(self, now: int) -> list[str]:
        """Return the refused new versions, as ``name:version: reason``.

        Args:
            now: the current time, in epoch milliseconds.
        """
        return sorted({version for batch in self.running(now) for version in batch.refused})

    def rate(self, now: int) -> float | None:
        """Return the events per second of the last batches of all topics; None without any batch.

        A batch holds the events since the start of the previous batch. So the events of all batches but the first are
        divided by the time from the first start to the last, which is right for long and for rare batches. Batches
        before a pause do not count, and the rate is 0 during a pause.

        Args:
            now: the current time, in epoch milliseconds.
        """
        return sum(_rate(batches, now) for batches in self._per_topic()) if self.batches else None

    def _per_topic(self) -> list[list[BatchReport]]:
        topics: defaultdict[str, list[BatchReport]] = defaultdict(list)
        for batch in self.batches:
            topics[batch.topic].append(batch)
        return list(topics.values())


@dataclass(frozen=True)
class Throughput:
    """Totals of the batches of a bucket; the first batch started at ``first`` (epoch milliseconds)."""

    first: int
    events: int
    """Number of scored and rejected events."""
    milliseconds: int
    """Total duration of the batches."""


def _pause(batches: Sequence[BatchReport]) -> int:
    """Return the milliseconds without a batch after which a stream counts as paused: at least three usual intervals."""
    starts = [batch.at for batch in batches]
    usual = median_low(after - before for before, after in pairwise(starts)) if len(starts) > 1 else 0
    return max(QUIET_MS, 3 * usual)


def _is_paused(batches: Sequence[BatchReport], now: int) -> bool:
    return now - batches[-1].at - batches[-1].milliseconds > _pause(batches)


def _rate(batches: Sequence[BatchReport], now: int) -> float:
    """Return the events per second of one topic's batches."""
    if _is_paused(batches, now):
        return 0.0
    latest, pause = batches[-1], _pause(batches)
    first, *others = (batch for batch in batches if latest.at - batch.at <= pause)
    if not others:
        return first.events * 1_000 / max(1_000, first.milliseconds)
    return sum(batch.events for batch in others) * 1_000 / max(1, latest.at - first.at)
