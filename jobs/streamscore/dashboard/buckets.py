"""The statistics of stretches of time, and which of them count already."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamscore.quality import confusion

if TYPE_CHECKING:
    from streamscore.quality.attribution import Attribution
    from streamscore.quality.statistic import Statistic


@dataclass(frozen=True)
class Tally:
    """The statistics of one version of a model in a bucket."""

    model: str
    version: str
    statistic: Statistic
    topic: str = ""
    """The input topic."""


@dataclass(frozen=True)
class Bucket:
    """The statistics of the events of a time interval that starts at ``start`` (epoch milliseconds)."""

    start: int
    tallies: tuple[Tally, ...]

    @property
    def events(self) -> int:
        """Number of good events: the sum over topics of the largest number that a model scored or declined."""
        per_model: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for tally in self.tallies:
            per_model[tally.topic][tally.model] += tally.statistic.scored + tally.statistic.declined
        return sum(max(models.values()) for models in per_model.values())

    def labels(self) -> Counter[float]:
        """Return the number of events per label, taken for each topic from the model with the most labels."""
        per_model: defaultdict[str, defaultdict[str, Counter[float]]] = defaultdict(lambda: defaultdict(Counter))
        for tally in self.tallies:
            per_model[tally.topic][tally.model] += confusion.label_counts(tally.statistic.confusion)
        return sum((max(models.values(), key=Counter.total) for models in per_model.values()), Counter())


def counted(
    buckets: Iterable[Bucket], attribution: Attribution, interval: int, now: int
) -> tuple[tuple[Bucket, ...], frozenset[int]]:
    """Return the buckets as they count, and the starts of those of which a topic's labels are awaited.

    Args:
        buckets: the buckets, in order of time.
        attribution: how long labels are awaited.
        interval: length of a bucket, in milliseconds.
        now: the current time, in epoch milliseconds.
    """
    if attribution.window is None:
        return tuple(buckets), frozenset()
    counting, awaited = [], set()
    for bucket in buckets:
        topics: defaultdict[str, dict[tuple[str, str], Statistic]] = defaultdict(dict)
        for tally in bucket.tallies:
            topics[tally.topic][tally.model, tally.version] = tally.statistic
        tallies: list[Tally] = []
        for topic, statistics in topics.items():
            found = attribution.counted(statistics, bucket.start + interval, now)
            if found is None:
                awaited.add(bucket.start)
            tallies += [Tally(*of, statistic, topic) for of, statistic in (found or {}).items()]
        counting.append(Bucket(bucket.start, tuple(tallies)))
    return tuple(counting), frozenset(awaited)
