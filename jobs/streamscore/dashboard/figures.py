"""The counts of a time range and the figures that follow from them: plain data for the page and the report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median_low
from typing import Final

from streamscore.quality import confusion, figures
from streamscore.quality.confusion import Confusion
from streamscore.quality.figures import BASELINE
from streamscore.quality.windows import Period, Window

QUIET_MS: Final = 30_000
"""After so many milliseconds without a new event or batch the stream counts as quiet."""

_STEP: Final = 0.05


@dataclass(frozen=True)
class Tally:
    """What one version of a model did in a bucket."""

    model: str
    version: str
    events: int
    confusion: Confusion
    topic: str = ""
    """The input topic; empty in documents of earlier versions, which do not have it."""


@dataclass(frozen=True)
class Bucket:
    """The outcomes of the events of a stretch of time that begins at ``start`` (epoch milliseconds)."""

    start: int
    documents: int
    tallies: tuple[Tally, ...]

    @property
    def events(self) -> int:
        """Events that were scored: of each topic as many as the model scored that scored the most of them."""
        per_model: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for tally in self.tallies:
            per_model[tally.topic][tally.model] += tally.events
        return sum(max(models.values()) for models in per_model.values())

    def labels(self) -> Counter[float]:
        """Return the number of events of each label: of each topic by the model that saw the most labels."""
        per_model: defaultdict[str, defaultdict[str, Counter[float]]] = defaultdict(lambda: defaultdict(Counter))
        for tally in self.tallies:
            per_model[tally.topic][tally.model] += confusion.label_counts(tally.confusion)
        return sum((max(models.values(), key=Counter.total) for models in per_model.values()), Counter())


@dataclass(frozen=True)
class ModelFigures:
    """How one model did."""

    name: str
    events: int
    """Events that it scored."""
    confusion: Confusion

    @property
    def correct(self) -> int:
        """Events whose prediction equals the label."""
        return confusion.correct(self.confusion)

    @property
    def incorrect(self) -> int:
        """Events whose prediction differs from the label."""
        return confusion.incorrect(self.confusion)

    @property
    def labelled(self) -> int:
        """Events with a label."""
        return confusion.labelled(self.confusion)

    @property
    def unlabelled(self) -> int:
        """Events without a label: scored, but neither correct nor incorrect."""
        return self.events - self.labelled

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the labelled events; None without any."""
        return figures.accuracy(self.correct, self.labelled)

    @property
    def baseline(self) -> float | None:
        """Majority-class baseline of the events that this model scored; None without a label."""
        return figures.baseline(confusion.label_counts(self.confusion).values())

    @property
    def classes(self) -> list[float]:
        """The labels and predictions that occur, in ascending order."""
        return confusion.classes(self.confusion)


@dataclass(frozen=True)
class Point:
    """A point of a line of the accuracy chart: the bucket from ``at`` (epoch milliseconds) on."""

    at: int
    line: str
    """A model, or the majority-class baseline."""
    accuracy: float | None
    """None: too few labelled events to say."""
    labelled: int


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


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known at one moment (``read_at``, epoch milliseconds)."""

    read_at: int
    period: Period | None
    """None: there is no message yet."""
    window: Window
    batch_window: Window
    """That of the versions and of the throughput: in the time of the job, not in that of the events."""
    buckets: tuple[Bucket, ...]
    """In order of time."""
    pending: int
    """Documents of the window that are not counted yet."""
    rejected: dict[str, int]
    """Messages that could not be scored, by reason, the most common first."""
    stream: StreamReport
    versions: tuple[Version, ...]
    """By model, and then in order of time; one that was replaced and came back is there twice."""
    throughput: tuple[Throughput, ...]
    """In order of time."""
    took: int
    """Milliseconds that Elasticsearch worked for this."""

    @cached_property
    def models(self) -> tuple[ModelFigures, ...]:
        """The models that scored in this window, by name."""
        names = sorted({tally.model for bucket in self.buckets for tally in bucket.tallies})
        return tuple(_of_model(name, self.buckets) for name in names)

    @cached_property
    def rejected_total(self) -> int:
        """Messages that could not be scored."""
        return sum(self.rejected.values())

    @cached_property
    def scored(self) -> int:
        """Events that were scored: of each bucket and topic as many as the busiest model scored.

        Dividing the number of documents by the number of models would be wrong as soon as one of them was added,
        removed or renamed in the window.
        """
        return sum(bucket.events for bucket in self.buckets)

    @property
    def quiet(self) -> bool:
        """Whether no event came lately, nor a batch with others; one that is dated ahead does not say when it came."""
        if self.period is None or abs(self.read_at - self.period.last) <= QUIET_MS:
            return False
        return not self.stream.rate(self.read_at)

    @property
    def behind(self) -> bool:
        """Whether the newest scored event is not of this moment: no other has come, or none is scored yet."""
        return self.period is not None and self.read_at - self.period.last > QUIET_MS

    @property
    def events(self) -> int:
        """Messages of the input topic: scored or rejected."""
        return self.scored + self.rejected_total

    @cached_property
    def labels(self) -> Counter[float]:
        """How many scored events have which label."""
        return sum((bucket.labels() for bucket in self.buckets), Counter())

    @property
    def baseline(self) -> float | None:
        """Majority-class baseline of all scored events; None without a label."""
        return figures.baseline(self.labels.values())

    def lines(self, min_labelled: int, models: Sequence[str]) -> list[Point]:
        """Return the points of the accuracy chart: the majority-class baseline and some models, bucket by bucket.

        The bucket that is still filling is left out: one that is not over, or, while the stream runs, one that the
        scored events have only just reached. With few of its events it would be the wildest point of the chart.

        Args:
            min_labelled: fewest labelled events that a point may stand for.
            models: the names of the models to draw.
        """
        if not self.buckets:
            return []
        by_start = {bucket.start: bucket for bucket in self.buckets}
        interval = self.window.interval
        reached = self.read_at if self.quiet or self.period is None else min(self.read_at, self.period.last)
        ends = min(reached - interval, self.buckets[-1].start)
        most_frequent = max(self.labels, key=lambda label: self.labels[label], default=None)
        points = []
        for start in range(self.buckets[0].start, ends + 1, interval):
            bucket = by_start.get(start, Bucket(start, 0, ()))
            labels = bucket.labels()
            guessed = labels[most_frequent] if most_frequent is not None else 0
            points.append(_point(start, BASELINE, guessed, labels.total(), min_labelled))
            for name in models:
                model = _of_model(name, [bucket])
                points.append(_point(start, name, model.correct, model.labelled, min_labelled))
        return points

    def events_per_second(self) -> list[tuple[int, float]]:
        """Return the events per second of each bucket, from the first with a batch to the last: its start, the number.

        The events of a batch are counted where it started; here they are spread evenly over the time that it took,
        which may be longer than a bucket.
        """
        interval = self.batch_window.interval
        events: defaultdict[int, float] = defaultdict(float)
        for batches in self.throughput:
            end = batches.first + max(1, batches.milliseconds)
            for start in range(batches.first - batches.first % interval, end, interval):
                part = min(end, start + interval) - max(batches.first, start)
                events[start] += batches.events * part / (end - batches.first)
        ends = range(min(events), max(events) + 1, interval) if events else ()
        return [(start, events[start] * 1_000 / interval) for start in ends]

    def version(self, model: str) -> str:
        """Return the version of a model that scored last; "" if no batch was reported."""
        versions = [version for version in self.versions if version.model == model]
        return max(versions, key=lambda version: (version.last, version.first)).version if versions else ""

    def marks(self, models: Sequence[str]) -> list[tuple[int, str]]:
        """Return the times and names of the versions that took over, to be marked in the accuracy chart.

        A version is marked at the first bucket with its events. Its first batch may be much later than these
        events, if they waited for it.
        """
        before: dict[str, set[str]] = {}
        marks: list[tuple[int, str]] = []
        for bucket in self.buckets:
            scored: defaultdict[str, set[str]] = defaultdict(set)
            for tally in bucket.tallies:
                scored[tally.model].add(tally.version)
            new = [
                f"{model} → {version}"
                for model in models
                for version in sorted(scored[model] - before.get(model, scored[model]))
            ]
            if new:
                marks.append((bucket.start, ", ".join(new)))
            before |= {model: versions for model, versions in scored.items() if versions}
        return marks

    def changes(self) -> list[Version]:
        """Return the versions that took over from another one of the same model within the window of the batches."""
        return [after for before, after in pairwise(self.versions) if before.model == after.model]


def accuracy_span(points: Iterable[Point]) -> list[float]:
    """Return the ends of an axis for these points: multiples of a step, so that the axis stays while the lines move."""
    known = [point.accuracy for point in points if point.accuracy is not None]
    if not known:
        return [0.0, 1.0]
    low, high = math.floor(min(known) / _STEP - 0.1) * _STEP, math.ceil(max(known) / _STEP + 0.1) * _STEP
    return [max(0.0, round(low, 2)), min(1.0, round(high, 2))]


def in_order(models: Iterable[ModelFigures], first: Sequence[str]) -> list[ModelFigures]:
    """Return models in the order of the configuration, those that it does not know by name after them."""
    rank = {name: position for position, name in enumerate(first)}
    return sorted(models, key=lambda model: (rank.get(model.name, len(rank)), model.name))


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


def _of_model(name: str, buckets: Iterable[Bucket]) -> ModelFigures:
    tallies = [tally for bucket in buckets for tally in bucket.tallies if tally.model == name]
    events = sum(tally.events for tally in tallies)
    return ModelFigures(name, events, confusion.total(tally.confusion for tally in tallies))


def _point(at: int, line: str, correct: int, labelled: int, min_labelled: int) -> Point:
    return Point(at, line, figures.accuracy(correct, labelled) if labelled >= min_labelled else None, labelled)
