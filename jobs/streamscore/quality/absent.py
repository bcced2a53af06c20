"""Events whose label never comes: in streams that send positive labels only, they are the negatives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from streamscore.quality import bins
from streamscore.quality.statistic import Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Key = TypeVar("_Key", int, float)

NEGATIVE: Final = 0.0
"""The label that an absent one stands for."""


def as_negatives(statistic: Statistic) -> Statistic:
    """Return a statistic in which each scored event without a label is one of class 0.

    Nothing is looked up: the counts are those of all scored events minus those of the labelled ones, and the log loss
    is Σ-ln(1 - q) over all events minus Σ ln(q / (1 - q)) over those of class 1. This is exact but for Σl², which only
    intervals need: there an absent label has the middle of its bin for its logit, at most 1/32 off. So have events
    whose label is no class, which are left out of all sums over p.

    A model with more than two classes stays as it is: which of them an absent label stands for is not known.

    Args:
        statistic: sums over events for which no label is awaited any more, with ``predictions``.
    """
    if statistic.score_kind not in {"probability", "margin"}:
        return statistic
    absent = _difference(_by(0, statistic.predictions), _by(0, statistic.labels))
    confusion, labels = Counter(statistic.confusion), Counter(statistic.labels)
    for prediction, events in _difference(_by(1, statistic.predictions), _by(1, statistic.confusion)).items():
        confusion[NEGATIVE, prediction] += events
    for at, events in absent.items():
        labels[at, NEGATIVE] += events
    counted = replace(statistic, confusion=dict(confusion), labels=dict(labels))
    return counted if statistic.score_kind == "margin" else replace(counted, **_sums(statistic, absent))


def _sums(statistic: Statistic, absent: Mapping[int, int]) -> dict[str, Any]:
    """Return the sums over the probabilities of all events but those whose label is no class."""
    negatives, of_negatives = _binned(absent)
    others, of_others = _binned(_by(0, {key: n for key, n in statistic.labels.items() if key[1] not in {0, 1}}))
    p = 1 / (1 + np.exp(-others))
    left_out = math.fsum(of_others * np.logaddexp(0, others))
    return {
        "loss_events": statistic.loss_events + int(of_negatives.sum()),
        "labelled_p": statistic.sum_p - math.fsum(of_others * p),
        "labelled_p_squared": statistic.sum_p_squared - math.fsum(of_others * p**2),
        "loss": math.fsum((statistic.sum_miss, -statistic.logit_times_label, -left_out)),
        "loss_squared": statistic.loss_squared + math.fsum(of_negatives * np.logaddexp(0, negatives) ** 2),
    }


def _binned(events: Mapping[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the logit in the middle of each bin, and its events."""
    has_bin = [at for at in events if at != bins.UNBINNED]
    logits = bins.lower_edges()[has_bin] + 1 / (2 * bins.PER_LOGIT)
    return logits, np.array([events[at] for at in has_bin], dtype=float)


def _by(part: int, counts: Mapping[tuple[Any, float], int]) -> Counter[Any]:
    """Return counts by one part of their keys."""
    summed: Counter[Any] = Counter()
    for key, events in counts.items():
        summed[key[part]] += events
    return summed


def _difference(scored: Mapping[_Key, int], labelled: Mapping[_Key, int]) -> dict[_Key, int]:
    """Return the events without a label; none where labels are of events that are not counted (again) yet."""
    left = {key: events - labelled.get(key, 0) for key, events in scored.items()}
    return {key: events for key, events in left.items() if events > 0}
