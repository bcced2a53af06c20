"""The statistic of quality: sums over scored events from which every figure follows, and which add up.

Windows, versions, segments and streams are merged by adding their statistics, never by averaging their figures. A
corrected label is a subtraction and an addition.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from streamscore.quality import bins, confusion
from streamscore.quality.confusion import Confusion
from streamscore.schema import ADDED_FIELDS, ScoreKind

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_Key = TypeVar("_Key")

CLIP: Final = 2.0**-52
"""How far a probability is kept from 0 and 1 before its logarithm is taken, as scikit-learn's ``log_loss`` does."""

SUMS: Final = (
    "sum_p",
    "sum_p_squared",
    "sum_miss",
    "labelled_p",
    "labelled_p_squared",
    "p_times_label",
    "loss",
    "loss_squared",
    "loss_times_label",
    "logit_times_label",
)
"""Names of the sums that are no counts."""


@dataclass(frozen=True)
class Statistic:
    """Sums over the scored events of one model: of a window, or of any number of windows, versions and streams.

    With p the probability of class 1, q = min(max(p, 2^-52), 1 - 2^-52), y the label (1 or 0), and the log loss
    l = -ln q if y = 1, else -ln(1 - q).

    A model with more than two classes has no bins, and no sums over p: l is -ln q of the labelled class.
    """

    score_kind: ScoreKind | None = None
    """What the scores are, a fact of the model; None while there is no event, and for events of several kinds."""

    scored: int = 0
    """All scored events, with a label or without."""
    declined: int = 0
    """Events that the model declined; they are not scored, and in none of the other counts and sums."""
    predictions: Mapping[tuple[int, float], int] = field(default_factory=dict)
    """All scored events by the bin of their score and the prediction. Bins: see ``quality.bins``."""
    sum_p: float = 0.0
    """Σp over the scored events with a bin; 0 unless scores are probabilities, as all sums below."""
    sum_p_squared: float = 0.0
    """Σp² over the scored events with a bin."""
    sum_miss: float = 0.0
    """Σ-ln(1-q) over the scored events with a bin: the log loss if all labels were 0, in nats."""

    confusion: Confusion = field(default_factory=dict)
    """All labelled events by label and prediction."""
    labels: Mapping[tuple[int, float], int] = field(default_factory=dict)
    """All labelled events by the bin of their score and the label."""
    loss_events: int = 0
    """Labelled events of which the log loss is known: the score is a probability, the label a class of the model. The
    sums below are over these."""
    labelled_p: float = 0.0
    """Σp."""
    labelled_p_squared: float = 0.0
    """Σp²."""
    p_times_label: float = 0.0
    """Σp·y."""
    loss: float = 0.0
    """Σl, in nats."""
    loss_squared: float = 0.0
    """Σl²."""
    loss_times_label: float = 0.0
    """Σl·y."""
    logit_times_label: float = 0.0
    """Σy·ln(q / (1 - q)): what the log loss of the events of class 1 would be more if their labels were 0."""

    @property
    def labelled(self) -> int:
        """Events with a label."""
        return confusion.labelled(self.confusion)

    @property
    def correct(self) -> int:
        """Labelled events whose prediction equals their label."""
        return confusion.correct(self.confusion)

    @property
    def incorrect(self) -> int:
        """Labelled events whose prediction differs from their label."""
        return confusion.incorrect(self.confusion)

    @property
    def positives(self) -> int:
        """Labelled events with a bin and the label 1."""
        return sum(events for (at, label), events in self.labels.items() if at != bins.UNBINNED and label == 1)

    def __add__(self, other: Statistic) -> Statistic:
        return total([self, other])

    def __sub__(self, other: Statistic) -> Statistic:
        """Take events out again, for instance those whose label is corrected; sums differ in their last bits."""
        return total([self, _negative(other)])

    def to_document(self) -> dict[str, Any]:
        """Return the statistic as a JSON object with the fields of ``schema.STATISTIC_PROPERTIES``.

        Numbers are fields that can be added; ``counts`` holds the counts by bin, label and prediction that are not 0.
        ``labelled``, ``correct``, ``incorrect`` and ``positives`` follow from these and are there to be added.
        """
        return {
            "score_kind": self.score_kind,
            "scored": self.scored,
            "declined": self.declined,
            "labelled": self.labelled,
            "correct": self.correct,
            "incorrect": self.incorrect,
            "positives": self.positives,
            "loss_events": self.loss_events,
            **{name: getattr(self, name) for name in SUMS},
            "counts": {
                "predictions": _nested({(prediction, at): n for (at, prediction), n in self.predictions.items()}),
                "labels": _nested({(label, at): n for (at, label), n in self.labels.items()}),
                "confusion": _nested(self.confusion),
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Statistic:
        """Return the statistic of a document of ``to_document``; ``predictions`` may be absent from its ``counts``."""
        counts = document["counts"]
        return cls(
            score_kind=document["score_kind"],
            scored=document["scored"],
            declined=document.get("declined", 0),
            predictions={(int(at), prediction): n for prediction, at, n in _flat(counts.get("predictions", {}))},
            confusion={(label, prediction): n for label, prediction, n in _flat(counts["confusion"])},
            labels={(int(at), label): n for label, at, n in _flat(counts["labels"])},
            loss_events=document["loss_events"],
            # Documents of earlier versions lack some, which count as 0.
            **{name: float(document[name]) for name in SUMS if name in document or name not in ADDED_FIELDS},
        )


EMPTY: Final = Statistic()
"""The statistic of no events."""


def total(parts: Iterable[Statistic]) -> Statistic:
    """Return the sum of statistics, whose order does not matter: of several windows, versions or streams.

    Raises:
        ValueError: The scores are of different kinds, and so are the bins: probabilities and margins do not compare.
    """
    parts = [part for part in parts if part != EMPTY]
    if len(parts) == 1:
        return parts[0]
    kinds = sorted({part.score_kind for part in parts if part.score_kind is not None})
    if len(kinds) > 1:
        raise ValueError(
            f"cannot add statistics of different score kinds ({', '.join(kinds)}): evaluate each by itself"
        )
    return Statistic(
        score_kind=kinds[0] if kinds else None,
        scored=sum(part.scored for part in parts),
        declined=sum(part.declined for part in parts),
        predictions=_summed(part.predictions for part in parts),
        confusion=_summed(part.confusion for part in parts),
        labels=_summed(part.labels for part in parts),
        loss_events=sum(part.loss_events for part in parts),
        **{name: math.fsum(getattr(part, name) for part in parts) for name in SUMS},
    )


def combined(parts: Iterable[Statistic]) -> Statistic:
    """Return the sum of statistics; for different kinds of scores only the counts that do not depend on scores.

    The scores of one version of a model change their kind if the model is replaced under the same version.
    """
    parts = [part for part in parts if part != EMPTY]
    if len({part.score_kind for part in parts}) > 1:
        parts = [Statistic(scored=part.scored, declined=part.declined, confusion=part.confusion) for part in parts]
    return total(parts)


def of_rows(
    labels: ArrayLike, predictions: ArrayLike, scores: ArrayLike, kind: ScoreKind, scale: float = 1.0
) -> Statistic:
    """Return the statistic of single events: the reference for whatever adds it up elsewhere.

    Args:
        labels: label of each event, NaN without one; shape (events,), as the next two.
        predictions: predicted class of each event, NaN for one that the model declined.
        scores: by ``kind``: the probability of class 1, the margin of class 1, or, of more than two classes, the
            probability of the labelled one (NaN where it has none).
        kind: what the scores are.
        scale: what a margin is divided by, see ``bins.of_margins``.
    """
    y, predicted, score = (np.asarray(column, dtype=float) for column in (labels, predictions, scores))
    events = len(y)
    y, predicted, score = (column[~np.isnan(predicted)] for column in (y, predicted, score))
    if kind == "probability":
        at = bins.of_probabilities(score)
    elif kind == "margin":
        at = bins.of_margins(score, scale)
    else:
        at = np.full(score.shape, bins.UNBINNED)
    has_label = ~np.isnan(y)
    return Statistic(
        score_kind=kind if events else None,
        scored=len(y),
        declined=events - len(y),
        predictions=_counted(at, predicted),
        confusion=_counted(y[has_label], predicted[has_label]),
        labels=_counted(at[has_label], y[has_label]),
        **_sums(y, score, kind),
    )


def log_losses(probabilities: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return the log loss of each event, in nats.

    Args:
        probabilities: of class 1, in [0, 1]; shape (events,), as the next.
        labels: 0 or 1.
    """
    q = _clipped(probabilities)
    losses: NDArray[Any] = np.where(labels == 1, -np.log(q), -np.log1p(-q))
    return losses


def _sums(y: NDArray[Any], score: NDArray[Any], kind: ScoreKind) -> dict[str, Any]:
    """Return the sums over probabilities and log losses."""
    if kind in {"margin", "class_margin"}:
        return {}
    valid = bins.is_probability(score)
    rated = valid & (~np.isnan(y) if kind == "class_probability" else np.isin(y, (0, 1)))
    if kind == "class_probability":
        loss = -np.log(_clipped(score[rated]))
        return {"loss_events": int(rated.sum()), "loss": math.fsum(loss), "loss_squared": math.fsum(loss**2)}
    every, p, label = score[valid], score[rated], y[rated]
    loss = log_losses(p, label)
    return {
        "sum_p": math.fsum(every),
        "sum_p_squared": math.fsum(every**2),
        "sum_miss": math.fsum(-np.log1p(-_clipped(every))),
        "loss_events": int(rated.sum()),
        "labelled_p": math.fsum(p),
        "labelled_p_squared": math.fsum(p**2),
        "p_times_label": math.fsum(p * label),
        "loss": math.fsum(loss),
        "loss_squared": math.fsum(loss**2),
        "loss_times_label": math.fsum(loss * label),
        "logit_times_label": math.fsum((-np.log1p(-_clipped(p)) - loss) * label),
    }


def _clipped(probabilities: NDArray[Any]) -> NDArray[Any]:
    clipped: NDArray[Any] = np.clip(probabilities, CLIP, 1 - CLIP)
    return clipped


def _counted(first: NDArray[Any], second: NDArray[Any]) -> dict[tuple[Any, float], int]:
    """Return how often each pair occurs."""
    firsts, first_at = np.unique(first, return_inverse=True)
    seconds, second_at = np.unique(second, return_inverse=True)
    if not len(seconds):
        return {}
    pairs, events = np.unique(first_at * len(seconds) + second_at, return_counts=True)
    keys = zip(firsts[pairs // len(seconds)].tolist(), seconds[pairs % len(seconds)].tolist(), strict=True)
    return {(one, _key(other)): n for (one, other), n in zip(keys, events.tolist(), strict=True)}


def _summed(parts: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    """Return counts added by key, without those that are 0."""
    counts: Counter[_Key] = Counter()
    for part in parts:
        counts.update(part)
    return {key: events for key, events in counts.items() if events}


def _negative(statistic: Statistic) -> Statistic:
    return Statistic(
        score_kind=statistic.score_kind,
        scored=-statistic.scored,
        declined=-statistic.declined,
        predictions={key: -events for key, events in statistic.predictions.items()},
        confusion={key: -events for key, events in statistic.confusion.items()},
        labels={key: -events for key, events in statistic.labels.items()},
        loss_events=-statistic.loss_events,
        **{name: -getattr(statistic, name) for name in SUMS},
    )


def _nested(counts: Mapping[tuple[float, float], int]) -> dict[str, dict[str, int]]:
    """Return counts by pair as objects in an object, for JSON's names are text."""
    nested: dict[str, Counter[str]] = {}
    for (outer, inner), events in sorted(counts.items()):
        nested.setdefault(_text(outer), Counter())[_text(inner)] += events
    return {outer: dict(inner) for outer, inner in nested.items()}


def _flat(nested: Mapping[str, Mapping[str, int]]) -> Iterable[tuple[float, float, int]]:
    for outer, inner_counts in nested.items():
        for inner, events in inner_counts.items():
            yield _key(float(outer)), _key(float(inner)), events


def _key(number: float) -> float:
    """Return a number as a key of counts: always the same NaN object, since two NaN objects are different keys."""
    return math.nan if math.isnan(number) else number


def _text(number: float) -> str:
    """Return a number as text from which ``float`` makes the same number again; a whole one without a point."""
    return str(int(number)) if float(number).is_integer() else repr(float(number))
