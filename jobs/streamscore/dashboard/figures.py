"""The statistics of a time range and their figures, as plain data for the page and the report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

from streamscore.dashboard.batches import QUIET_MS, StreamReport, Throughput, Version
from streamscore.dashboard.buckets import Bucket, counted
from streamscore.dashboard.comparisons import Card
from streamscore.quality import confusion, figures
from streamscore.quality.attribution import AT_ONCE, Attribution
from streamscore.quality.confusion import OTHER, Confusion
from streamscore.quality.estimates import Estimate, Figure
from streamscore.quality.evaluation import FIGURES, Evaluation, evaluate
from streamscore.quality.figures import BASELINE
from streamscore.quality.statistic import Statistic, combined
from streamscore.quality.windows import Period, Window

SHOWN: Final = ("accuracy", "rig", "log_loss", "auc", "calibration_ratio")
"""The figures of the table and of the chart over time, by their names in ``quality.evaluation.FIGURES``."""

REFERENCES: Final = {
    "accuracy": BASELINE,
    "auc": "chance",
    "rig": "rate of class 1 alone",
    "calibration_ratio": "predicted = observed",
}
"""Name of a figure's reference line."""


@dataclass(frozen=True)
class ModelFigures:
    """The results of a model, or of one version of it."""

    name: str
    statistic: Statistic
    version: str = ""
    """Version; empty for all versions of the time range."""
    min_labelled: int = 1
    """Fewest labelled events for which figures are shown."""

    @property
    def events(self) -> int:
        """Number of scored events."""
        return self.statistic.scored

    @property
    def confusion(self) -> Confusion:
        """Number of labelled events by label and prediction."""
        return self.statistic.confusion

    @property
    def correct(self) -> int:
        """Number of events whose prediction equals the label."""
        return self.statistic.correct

    @property
    def incorrect(self) -> int:
        """Number of events whose prediction differs from the label."""
        return self.statistic.incorrect

    @property
    def labelled(self) -> int:
        """Number of events with a label."""
        return self.statistic.labelled

    @property
    def unlabelled(self) -> int:
        """Number of scored events without a label."""
        return self.events - self.labelled

    @cached_property
    def evaluation(self) -> Evaluation:
        """All figures of the scored events."""
        return evaluate(self.statistic, self.min_labelled)

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the labelled events; None with too few labels."""
        return _value(self.evaluation.figures["accuracy"])

    @property
    def baseline(self) -> float | None:
        """Majority-class baseline of this model's events; None with too few labels."""
        return _value(self.evaluation.figures["baseline"])

    @property
    def classes(self) -> list[float]:
        """The labels and predictions that occur, in ascending order."""
        return confusion.classes(self.confusion)


@dataclass(frozen=True)
class Point:
    """A point of the chart over time, for the bucket that starts at ``at`` (epoch milliseconds)."""

    at: int
    line: str
    """A model, or the reference."""
    value: float | None
    """The figure; None if undefined, or with too few labelled events."""
    labelled: int
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval, widened by the bound of a figure from bins; None without an interval."""


@dataclass(frozen=True)
class Snapshot:
    """The figures of a time range, read at ``read_at`` (epoch milliseconds)."""

    read_at: int
    period: Period | None
    """Times of the first and the last message; None without messages."""
    window: Window
    batch_window: Window
    """Window of the versions and of the throughput, in processing time instead of event time."""
    buckets: tuple[Bucket, ...]
    """The buckets of statistics, in order of time."""
    rejected: dict[str, int]
    """Number of rejected messages by reason, the most common first."""
    stream: StreamReport
    versions: tuple[Version, ...]
    """Versions by model and in order of time; a version that was replaced and restored occurs twice."""
    throughput: tuple[Throughput, ...]
    """The throughput by bucket, in order of time."""
    took: int
    """Elasticsearch's time for the requests, in milliseconds."""
    min_labelled: int = field(default=1, kw_only=True)
    """Fewest labelled events for which figures are shown."""
    comparisons: tuple[Card, ...] = field(default=(), kw_only=True)
    """The comparisons of the models on the same events."""
    attribution: Attribution = field(default=AT_ONCE, kw_only=True)
    """How long labels are awaited."""
    lags: Mapping[int, float | None] = field(default_factory=dict, kw_only=True)
    """Percentiles of how much later than their events labels came, in milliseconds, by percent; None without any."""

    @cached_property
    def _counts(self) -> tuple[tuple[Bucket, ...], frozenset[int]]:
        return counted(self.buckets, self.attribution, self.window.interval, self.read_at)

    @property
    def counted(self) -> tuple[Bucket, ...]:
        """The buckets with the statistics that count, in order of time."""
        return self._counts[0]

    @property
    def awaited(self) -> frozenset[int]:
        """Starts of the buckets that are in no figure yet, since too many labels of their events are awaited."""
        return self._counts[1]

    @cached_property
    def coverage(self) -> float | None:
        """Share of the scored events that have a label by now, in all buckets; None if nothing was scored."""
        every = [tally.statistic for bucket in self.buckets for tally in bucket.tallies]
        return figures.coverage(sum(each.labelled for each in every), sum(each.scored for each in every))

    @cached_property
    def by_version(self) -> tuple[ModelFigures, ...]:
        """The versions with events in this window, by model and in order of their first events."""
        tallies: defaultdict[tuple[str, str], list[Statistic]] = defaultdict(list)
        for bucket in self.counted:
            for tally in bucket.tallies:
                tallies[tally.model, tally.version].append(tally.statistic)
        versions = [
            ModelFigures(name, combined(parts), version, self.min_labelled)
            for (name, version), parts in tallies.items()
        ]
        return tuple(sorted(versions, key=lambda version: version.name))

    @cached_property
    def models(self) -> tuple[ModelFigures, ...]:
        """The models with events in this window, by name."""
        versions: defaultdict[str, list[Statistic]] = defaultdict(list)
        for each in self.by_version:
            versions[each.name].append(each.statistic)
        return tuple(
            ModelFigures(name, combined(parts), min_labelled=self.min_labelled) for name, parts in versions.items()
        )

    @cached_property
    def rejected_total(self) -> int:
        """Number of rejected messages."""
        return sum(self.rejected.values())

    @cached_property
    def scored(self) -> int:
        """Number of good events: the sum over buckets and topics of the largest number that a model answered.

        The number of documents divided by the number of models would be wrong if a model was added, removed or renamed
        in the window.
        """
        return sum(bucket.events for bucket in self.buckets)

    @property
    def until(self) -> int | None:
        """Upper bound of the last message's time, in epoch milliseconds; None without messages.

        It is the end of the last window of statistics, or the current time while that window lasts.
        """
        if self.period is None or self.period.last > self.read_at:
            return None if self.period is None else self.period.last
        return min(self.read_at, self.period.last + self.period.step)

    @property
    def quiet(self) -> bool:
        """Whether no event came lately, nor a batch with others; one that is dated ahead does not say when it came."""
        if self.until is None or abs(self.read_at - self.until) <= QUIET_MS:
            return False
        return not self.stream.rate(self.read_at)

    @property
    def behind(self) -> bool:
        """Whether the newest scored event is not of this moment: no other has come, or none is scored yet."""
        return self.until is not None and self.read_at - self.until > QUIET_MS

    @property
    def events(self) -> int:
        """Number of messages of the input topic, scored or rejected."""
        return self.scored + self.rejected_total

    @cached_property
    def labels(self) -> Counter[float]:
        """Number of scored events per label."""
        return sum((bucket.labels() for bucket in self.counted), Counter())

    @property
    def baseline(self) -> float | None:
        """Majority-class baseline of all scored events; None without a label."""
        counts = (events for label, events in self.labels.items() if label != OTHER)
        return figures.baseline(counts, self.labels.total())

    def lines(self, figure: str, models: Sequence[str]) -> list[Point]:
        """Return the points of a figure's chart over time, by bucket: the reference and the given models.

        A bucket that is still filling is omitted: one that has not ended, or, while the stream runs, one that the
        scored events have only just reached. With few events it would be the noisiest point of the chart. A bucket
        whose labels are awaited has points without values.

        Args:
            figure: one of ``SHOWN``.
            models: the names of the models to draw.
        """
        if not self.buckets:
            return []
        by_start = {bucket.start: bucket for bucket in self.counted if bucket.start not in self.awaited}
        interval = self.window.interval
        reached = self.read_at if self.quiet or self.period is None else min(self.read_at, self.period.last)
        ends = min(reached - interval, self.buckets[-1].start)
        points = []
        for start in range(self.buckets[0].start, ends + 1, interval):
            bucket = by_start.get(start, Bucket(start, ()))
            if figure in REFERENCES:
                points.append(self._reference(figure, bucket))
            for name in models:
                statistic = combined(tally.statistic for tally in bucket.tallies if tally.model == name)
                enough = statistic.labelled >= self.min_labelled
                points.append(
                    _point(start, name, FIGURES[figure].of(statistic) if enough else None, statistic.labelled)
                )
        return points

    def _reference(self, figure: str, bucket: Bucket) -> Point:
        """Return a point of a figure's reference: for the accuracy, that of the window's most frequent label."""
        labels = bucket.labels()
        value = FIGURES[figure].reference
        if figure == "accuracy" and labels.total() >= self.min_labelled:
            most_frequent = max(self.labels, key=lambda label: self.labels[label])
            value = figures.accuracy(labels[most_frequent], labels.total())
        return Point(bucket.start, REFERENCES[figure], value, labels.total())

    def events_per_second(self) -> list[tuple[int, float]]:
        """Return start and events per second of each bucket, from the first with a batch to the last.

        The events of a batch are counted at its start; here they are spread evenly over its duration, which may be
        longer than a bucket.
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
        """Return the last version of a model; empty without any batch."""
        versions = [version for version in self.versions if version.model == model]
        return max(versions, key=lambda version: (version.last, version.first)).version if versions else ""

    def marks(self, models: Sequence[str]) -> list[tuple[int, str]]:
        """Return the times and names of new versions, for the marks of the chart over time.

        A version is marked at the first bucket with its events. Its first batch may be much later than these events if
        they waited in the topic.
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
        """Return the versions that replaced another version of the same model within the window of the batches."""
        return [after for before, after in pairwise(self.versions) if before.model == after.model]


def stripes(starts: Iterable[int], interval: int) -> list[tuple[float, float]]:
    """Return the begins and ends of the stripes that hatch buckets: four to a bucket, with gaps as wide as they are.

    Args:
        starts: the starts of the buckets.
        interval: length of a bucket in milliseconds.
    """
    width = interval / 8
    return [(start + 2 * at * width, start + (2 * at + 1) * width) for start in sorted(starts) for at in range(4)]


def span(points: Iterable[Point]) -> list[float]:
    """Return the ends of an axis for points and their intervals, both multiples of a round step."""
    known = [value for point in points for value in (point.low, point.value, point.high) if value is not None]
    if not known:
        return [0.0, 1.0]
    low, high = min(known), max(known)
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6))) / 2
    return [round(math.floor(low / step) * step, 10), round(math.ceil(high / step) * step, 10)]


def in_order(models: Iterable[ModelFigures], first: Sequence[str]) -> list[ModelFigures]:
    """Return models in the order of the configuration, followed by the others by name."""
    rank = {name: position for position, name in enumerate(first)}
    return sorted(models, key=lambda model: (rank.get(model.name, len(rank)), model.name))


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _point(at: int, line: str, figure: Figure | None, labelled: int) -> Point:
    if not isinstance(figure, Estimate) or figure.low is None or figure.high is None:
        return Point(at, line, _value(figure), labelled)
    return Point(at, line, figure.value, labelled, figure.low - figure.error, figure.high + figure.error)
