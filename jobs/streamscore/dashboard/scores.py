"""How well a model's scores tell the classes apart, and, if they are probabilities, how well they are calibrated.

The server counts the scores in narrow bins by label; the curves follow from the counts, so that no score is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from streamscore.config import Elasticsearch
from streamscore.dashboard.queries import Search, aggregate, aggregations_of, buckets_of, since, terms
from streamscore.quality.windows import Window
from streamscore.schema import ScoreKind

BINS: Final = 500
"""Bins with equally many events each, whatever the scores are: of equal width, those of a rare class share a few."""
GROUPS: Final = 10
"""Groups of the calibration curve, of equal width."""


@dataclass(frozen=True)
class ScoreEdges:
    """The edges of the bins of a model's scores."""

    model: str
    edges: tuple[float, ...] = ()
    """Scores between which equally many events lie, in ascending order."""


@dataclass(frozen=True)
class Bin:
    """The events whose score lies in a narrow range: how many were of class 1, how many not, the sum of the scores."""

    positive: int
    negative: int
    total: float


@dataclass(frozen=True)
class CalibrationPoint:
    """A point of the calibration curve: a group of events with similar probabilities."""

    score: float
    """Mean score of the events of the group."""
    share: float
    """Share of them that were of class 1."""
    events: int


@dataclass(frozen=True)
class Curves:
    """The curves of a model's scores."""

    model: str
    kind: ScoreKind | None
    """What the scores are, as the job reported it; None if no batch says it, or if its versions differ."""
    roc: tuple[tuple[float, float], ...]
    """False and true positive rate, from (0, 0) to (1, 1)."""
    auc: float
    calibration: tuple[CalibrationPoint, ...]
    """Empty if the scores are not known to be probabilities."""


def kinds(settings: Elasticsearch) -> Search:
    """Ask what the jobs reported of their models' scores."""
    return aggregate(settings.status_index, {"kinds": terms("score_kinds")})


def read_kinds(answer: Mapping[str, Any]) -> dict[tuple[str, str], ScoreKind | None]:
    """Return what the scores of each model and version are; None if the reports contradict each other."""
    reported: dict[tuple[str, str], ScoreKind | None] = {}
    for bucket in buckets_of(aggregations_of(answer), "kinds"):
        served, _, kind = bucket["key"].rpartition(":")
        model, _, version = served.partition(":")  # a version may contain colons
        reported[model, version] = kind if reported.get((model, version), kind) == kind else None
    return reported


def edges(settings: Elasticsearch, window: Window) -> Search:
    """Ask for the edges of the bins of each model's scores."""
    percents = [100 * number / BINS for number in range(1, BINS)]
    percentiles = {"percentiles": {"field": "score", "percents": percents, "keyed": False}}
    return aggregate(settings.index, {"models": terms("model", edges=percentiles)}, _labelled(window))


def read_edges(answer: Mapping[str, Any]) -> list[ScoreEdges]:
    """Return the edges of the bins of each model that has scores; many equal scores make some edges equal."""
    models = [
        ScoreEdges(
            bucket["key"],
            tuple(sorted({entry["value"] for entry in bucket["edges"]["values"] if entry["value"] is not None})),
        )
        for bucket in buckets_of(aggregations_of(answer), "models")
    ]
    return [model for model in models if model.edges]


def bins(settings: Elasticsearch, window: Window, scores: ScoreEdges) -> Search:
    """Ask for the number of a model's events by score and label.

    Args:
        settings: the index.
        window: the stretch of time.
        scores: the model, and the edges of its bins.
    """
    ends = [None, *scores.edges, None]
    ranges = [
        {name: end for name, end in (("from", low), ("to", high)) if end is not None} for low, high in pairwise(ends)
    ]
    inner = {"positive": {"filter": {"term": {"label": 1.0}}}, "total": {"sum": {"field": "score"}}}
    query = _labelled(window, {"term": {"model": scores.model}}, {"exists": {"field": "score"}})
    by_score = {"range": {"field": "score", "ranges": ranges}, "aggs": inner}
    return aggregate(settings.index, {"scores": by_score}, query)


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


def curves(model: str, kind: ScoreKind | None, bins: Sequence[Bin]) -> Curves | None:
    """Return the curves of a model, or None if its events are all of one class, so that there is nothing to tell apart.

    Scores within a bin count as equal. With so many bins, and equally many events in each, the area under the curve is
    right to about three digits. Only probabilities have a calibration curve.

    Args:
        model: its name.
        kind: what its scores are; None if that is unknown.
        bins: its events by score, from the lowest score to the highest.
    """
    positive, negative = sum(entry.positive for entry in bins), sum(entry.negative for entry in bins)
    if not positive or not negative:
        return None
    falling = list(reversed(bins))
    true = [0, *accumulate(entry.positive for entry in falling)]
    false = [0, *accumulate(entry.negative for entry in falling)]
    roc = tuple((wrong / negative, right / positive) for wrong, right in zip(false, true, strict=True))
    area = sum((right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairwise(roc))
    return Curves(model, kind, roc, area, _calibration(bins) if kind == "probability" else ())


def _calibration(bins: Sequence[Bin]) -> tuple[CalibrationPoint, ...]:
    groups: dict[int, list[Bin]] = {}
    for entry in bins:
        mean = entry.total / (entry.positive + entry.negative)
        groups.setdefault(min(GROUPS - 1, int(mean * GROUPS)), []).append(entry)
    points = []
    for _, members in sorted(groups.items()):
        events = sum(entry.positive + entry.negative for entry in members)
        positive = sum(entry.positive for entry in members)
        points.append(CalibrationPoint(sum(entry.total for entry in members) / events, positive / events, events))
    return tuple(points)


def _labelled(window: Window, *filters: dict[str, Any]) -> dict[str, Any]:
    start = since(window)
    time = [] if start is None else [start]
    return {"bool": {"filter": [{"exists": {"field": "label"}}, *time, *filters]}}
