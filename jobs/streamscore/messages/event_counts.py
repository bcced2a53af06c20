"""Read the counts of a batch's events that the JVM adds up: bytes in, events by age and by reason out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from streamscore.schema import REASONS

NAME: Final = "counts"
"""Name of the metric with the packed counts of a batch."""

_OF_BATCH: Final = 2
_NARROW: Final = 10
_OF_DECADE: Final = 90


class EventCounts(NamedTuple):
    """The events of a batch."""

    origin: int
    """When the batch was planned, in epoch milliseconds: the time from which ages are counted; 0 without events."""
    ages: Mapping[int, int]
    """Events by age: the largest one of their bin, in milliseconds, at most a tenth above theirs. Future events have
    the lowest, and those older than 115 days have 115 days."""
    age_sum: int
    """Sum of the ages, in milliseconds."""
    reasons: Mapping[str, int]
    """Rejected events by reason; all of ``schema.REASONS``."""


def unpack(data: bytes) -> EventCounts:
    """Return what ``messages/EventCounts.java`` has counted."""
    numbers = np.frombuffer(zlib.decompress(data), ">i8")
    first = _OF_BATCH + len(REASONS)
    reasons = dict(zip(REASONS, numbers[_OF_BATCH:first].tolist(), strict=True))
    bins = numbers[first:]
    ages = {_largest(at, len(bins)): int(bins[at]) for at in np.flatnonzero(bins).tolist()}
    return EventCounts(int(numbers[0]), ages, int(numbers[1]), reasons)


def _largest(at: int, bins: int) -> int:
    """Return the largest age in a bin; the last bin has none, and gets the smallest one."""
    if at < _NARROW:
        return 10 * (at + 1) - 1
    decade, digits = divmod(at - _NARROW, _OF_DECADE)
    width = int(10 ** (decade + 1))
    return (digits + _NARROW) * width if at == bins - 1 else (digits + _NARROW + 1) * width - 1
