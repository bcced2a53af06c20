"""What labels that arrive after their events add to the statistics of quality, and to those of pairs of models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from streamscore.quality import pairs
from streamscore.quality.confusion import OTHER
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.statistic import EMPTY, Statistic, of_rows
from streamscore.schema import ScoreKind

_CLASSES: Final = 100
"""Labels from this number on are counted together, as those that come with their events."""


class Relabelled(NamedTuple):
    """A scored event whose label has come, or has changed."""

    prediction: float
    score: float
    """NaN if it is not finite."""
    before: float | None
    """The label that the statistics count so far; None if they count none."""
    label: float


class ScoredByBoth(NamedTuple):
    """An event that the champion and a challenger scored, and whose label has come, or has changed."""

    champion: float
    """The champion's prediction."""
    challenger: float
    """The challenger's prediction."""
    champion_score: float
    """NaN if it is not finite."""
    challenger_score: float
    """NaN if it is not finite."""
    before: float | None
    """The label that the paired statistics count so far; None if they count none."""
    after: float | None
    """The label that they count from now on; None while the outcomes of the two have different ones."""


def change(events: Sequence[Relabelled], kind: ScoreKind, scale: float | None) -> Statistic:
    """Return what is to be added to the statistic of events that were scored before, and counted as such.

    The log loss of a model with more than two classes stays that of the labels that came with their events: an outcome
    has the probability of the predicted class alone.

    Args:
        events: the events, none of which was declined.
        kind: what the scores are.
        scale: what margins are divided by; None: it is not known, and the events get no bin.
    """
    has_bin = kind == "probability" or (kind == "margin" and scale is not None)
    now = _labelled(((each, each.label) for each in events), kind, scale, has_bin)
    past = _labelled(((each, each.before) for each in events if each.before is not None), kind, scale, has_bin)
    return now - past


def paired_change(events: Sequence[ScoredByBoth], *, have_probabilities: bool) -> PairStatistic:
    """Return what is to be added to the paired statistic of events that both models scored.

    Args:
        events: the events, none of which was declined.
        have_probabilities: whether the scores of both models are probabilities of class 1.
    """
    now = _paired([(event, event.after) for event in events if event.after is not None], have_probabilities)
    past = _paired([(event, event.before) for event in events if event.before is not None], have_probabilities)
    return now - past


def _paired(rows: Sequence[tuple[ScoredByBoth, float]], have_probabilities: bool) -> PairStatistic:
    events = [event for event, _ in rows]
    whole = pairs.of_rows(
        [label for _, label in rows],
        [event.champion for event in events],
        [event.challenger for event in events],
        [event.champion_score for event in events] if have_probabilities else None,
        [event.challenger_score for event in events] if have_probabilities else None,
    )
    labels: Counter[float] = Counter()
    for label, count in whole.labels.items():
        labels[_class(label, pairs.CLASSES)] += count
    return replace(whole, labels=dict(labels))


def _labelled(
    rows: Iterable[tuple[Relabelled, float]], kind: ScoreKind, scale: float | None, has_bin: bool
) -> Statistic:
    labels, predictions, scores = [], [], []
    for event, label in rows:
        labels.append(_class(label, 2 if kind in {"probability", "margin"} else _CLASSES))
        predictions.append(event.prediction)
        scores.append(event.score if has_bin else math.nan)
    if not labels:
        return EMPTY
    whole = of_rows(labels, predictions, scores, kind, scale or 1.0)
    return replace(whole, scored=0, predictions={}, sum_p=0.0, sum_p_squared=0.0, sum_miss=0.0)


def _class(label: float, classes: int) -> float:
    """Return the label as it is counted: all that are no classes together."""
    return label if label.is_integer() and 0 <= label < classes else OTHER
