"""How well a model's scores tell the classes apart, and whether they can be read as probabilities.

The server counts the scores in narrow bins by label; the curves follow from the counts, so that no score is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from streamscore.config import Elasticsearch
from streamscore.dashboard.queries import Search, aggregate, aggregations_of, buckets_of, since, terms
from streamscore.dashboard.windows import Window

BINS: Final = 500
"""Bins with equally many events each, whatever the scores are: of equal width, those of a rare class share a few."""
GROUPS: Final = 10
"""Groups of the calibration curve, of equal width."""


@dataclass(frozen=True)
class Span:
    """The lowest and the highest score of a model, and how they lie between."""

    model: str
    low: float
    high: float
    edges: tuple[float, ...] = ()
    """Scores between which equally many events lie, in ascending order."""

    @property
    def probability(self) -> bool:
        """Whether the scores can be probabilities; a margin goes beyond 0 and 1."""
        return self.low >= 0.0 and self.high <= 1.0


@dataclass(frozen=True)
class Bin:
    """The events whose score lies in a narrow range: how many were of class 1, how many not, the sum of the scores."""

    positive: int
    negative: int
    total: float


@dataclass(frozen=True)
class Group:
    """A point of the calibration curve."""

    score: float
    """Mean score of the events of the group."""
    share: float
    """Share of them that were of class 1."""
    events: int


@dataclass(frozen=True)
class Curves:
    """What a model's scores are worth."""

    model: str
    roc: tuple[tuple[float, float], ...]
    """False and true positive rate, from (0, 0) to (1, 1)."""
    auc: float
    calibration: tuple[Group, ...]
    """Empty if the scores are not probabilities."""


def spans(settings: Elasticsearch, window: Window) -> Search:
    """Ask for the range of each model's scores, and for the edges of the bins."""
    percents = [100 * number / BINS for number in range(1, BINS)]
    ends = {
        "low": {"min": {"field": "score"}},
        "high": {"max": {"field": "score"}},
        "edges": {"percentiles": {"field": "score", "percents": percents, "keyed": False}},
    }
    return aggregate(settings.index, {"models": terms("model", **ends)}, _labelled(window))


def read_spans(answer: Mapping[str, Any]) -> list[Span]:
    """Return the range of the scores of each model that has any."""
    return [
        Span(bucket["key"], bucket["low"]["value"], bucket["high"]["value"], _edges(bucket["edges"]["values"]))
        for bucket in buckets_of(aggregations_of(answer), "models")
        if bucket["low"]["value"] is not None
    ]


def bins(settings: Elasticsearch, window: Window, span: Span) -> Search:
    """Ask for the number of a model's events by score and label."""
    ends = [None, *span.edges, None]
    ranges = [
        {name: end for name, end in (("from", low), ("to", high)) if end is not None} for low, high in pairwise(ends)
    ]
    inner = {"positive": {"filter": {"term": {"label": 1.0}}}, "total": {"sum": {"field": "score"}}}
    query = _labelled(window, {"term": {"model": span.model}}, {"exists": {"field": "score"}})
    scores = {"range": {"field": "score", "ranges": ranges}, "aggs": inner}
    return aggregate(settings.index, {"scores": scores}, query)


def read_bins(answer: Mapping[str, Any]) -> list[Bin]:
    """Return the bins that are not empty, from the lowest score to the highest."""
    return [
        Bin(
            bucket["positive"]["doc_count"],
            bucket["doc_count"] - bucket["positive"]["doc_count"],
            bucket["total"]["value"],
        )
        for bucket in buckets_of(aggregations_of(answer), "scores")
        if bucket["doc_count"]
    ]


def curves(span: Span, bins: Sequence[Bin]) -> Curves | None:
    """Return the curves of a model, or None if its events are all of one class, so that there is nothing to tell apart.

    Scores within a bin count as equal. With so many bins, and equally many events in each, the area under the curve is
    right to about three digits.
    """
    positive, negative = sum(entry.positive for entry in bins), sum(entry.negative for entry in bins)
    if not positive or not negative:
        return None
    falling = list(reversed(bins))
    true = [0, *accumulate(entry.positive for entry in falling)]
    false = [0, *accumulate(entry.negative for entry in falling)]
    roc = tuple((wrong / negative, right / positive) for wrong, right in zip(false, true, strict=True))
    area = sum((right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairwise(roc))
    return Curves(span.model, roc, area, _calibration(bins) if span.probability else ())


def _edges(values: Sequence[Mapping[str, float | None]]) -> tuple[float, ...]:
    """Return the edges of the bins: many equal scores make some of them equal."""
    return tuple(sorted({entry["value"] for entry in values if entry["value"] is not None}))


def _calibration(bins: Sequence[Bin]) -> tuple[Group, ...]:
    groups: dict[int, list[Bin]] = {}
    for entry in bins:
        mean = entry.total / (entry.positive + entry.negative)
        groups.setdefault(min(GROUPS - 1, int(mean * GROUPS)), []).append(entry)
    found = []
    for _, members in sorted(groups.items()):
        events = sum(entry.positive + entry.negative for entry in members)
        positive = sum(entry.positive for entry in members)
        found.append(Group(sum(entry.total for entry in members) / events, positive / events, events))
    return tuple(found)


def _labelled(window: Window, *filters: dict[str, Any]) -> dict[str, Any]:
    start = since(window)
    time = [] if start is None else [start]
    return {"bool": {"filter": [{"exists": {"field": "label"}}, *time, *filters]}}
