"""The paired statistic of two models: what both made of the same events; sums that add up.

The models are a champion, which serves, and a challenger. A difference is positive where the challenger is better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streamscore.quality import bins
from streamscore.quality.statistic import log_losses

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

COUNTS: Final = ("events", "both_right", "only_challenger", "only_champion", "probability_events")
SUMS: Final = ("loss_difference", "loss_difference_squared", "brier_difference", "brier_difference_squared")

CLASSES: Final = 100
"""Labels from this number on, and fractions, are counted together."""


@dataclass(frozen=True)
class PairStatistic:
    """Sums over the events with a label that both models scored."""

    events: int = 0
    """Events with a label that both scored."""
    only_challenger: int = 0
    """Those that only the challenger predicted right."""
    only_champion: int = 0
    """Those that only the champion predicted right."""
    labels: Mapping[float, int] = field(default_factory=dict)
    """Events by label."""
    both_right: int = 0
    """Events that both predicted right."""
    probability_events: int = 0
    """Events of label 0 or 1 to which both gave a probability; the sums below are over these."""
    loss_difference: float = 0.0
    """Σd of the log losses, in nats: d = champion's - challenger's."""
    loss_difference_squared: float = 0.0
    """Σd² of the log losses."""
    brier_difference: float = 0.0
    """Σd of the squared errors: d = champion's - challenger's, in [-1, 1]."""
    brier_difference_squared: float = 0.0
    """Σd² of the squared errors."""

    @property
    def discordant(self) -> int:
        """Events that one of them predicted right and the other wrong."""
        return self.only_challenger + self.only_champion

    @property
    def champion_right(self) -> int:
        """Events that the champion predicted right."""
        return self.both_right + self.only_champion

    @property
    def challenger_right(self) -> int:
        """Events that the challenger predicted right."""
        return self.both_right + self.only_challenger

    def __add__(self, other: PairStatistic) -> PairStatistic:
        return total([self, other])

    def __sub__(self, other: PairStatistic) -> PairStatistic:
        """Take events out again, for instance those whose label is corrected; sums differ in their last bits."""
        return total([self, _negative(other)])

    def to_document(self) -> dict[str, Any]:
        """Return the statistic as a JSON object: numbers, and ``labels`` with the events of each label."""
        numbers = {name: getattr(self, name) for name in (*COUNTS, *SUMS)}
        return {**numbers, "labels": {repr(label): events for label, events in sorted(self.labels.items())}}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PairStatistic:
        """Return the statistic of a document of ``to_document``, in which other fields may stand besides."""
        numbers: dict[str, Any] = {name: document[name] for name in COUNTS}
        numbers |= {name: float(document[name]) for name in SUMS}
        return cls(labels={float(label): events for label, events in document["labels"].items()}, **numbers)


def total(parts: Iterable[PairStatistic]) -> PairStatistic:
    """Return the sum of paired statistics of the same two models and versions, whose order does not matter."""
    parts = list(parts)
    labels: Counter[float] = Counter()
    for part in parts:
        labels.update(part.labels)
    labels = Counter({label: events for label, events in labels.items() if events})
    numbers: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in COUNTS}
    numbers |= {name: math.fsum(getattr(part, name) for part in parts) for name in SUMS}
    return PairStatistic(labels=dict(labels), **numbers)


def _negative(pair: PairStatistic) -> PairStatistic:
    numbers: dict[str, Any] = {name: -getattr(pair, name) for name in (*COUNTS, *SUMS)}
    return PairStatistic(labels={label: -events for label, events in pair.labels.items()}, **numbers)


def of_rows(
    labels: ArrayLike,
    champion: ArrayLike,
    challenger: ArrayLike,
    champion_probabilities: ArrayLike | None = None,
    challenger_probabilities: ArrayLike | None = None,
) -> PairStatistic:
    """Return the paired statistic of single events: the reference for whatever adds it up elsewhere.

    Args:
        labels: label of each event, NaN without one; shape (events,), as all below.
        champion: the champion's predictions, NaN for an event that it declined.
        challenger: the challenger's predictions, as above.
        champion_probabilities: its probabilities of class 1; None if it has none.
        challenger_probabilities: those of the challenger.
    """
    every, first, second = (np.asarray(column, dtype=float) for column in (labels, champion, challenger))
    is_compared = ~(np.isnan(every) | np.isnan(first) | np.isnan(second))
    y = every[is_compared]
    champion_right, challenger_right = (column[is_compared] == y for column in (first, second))
    values, events = np.unique(y, return_counts=True)
    sums: dict[str, Any] = {}
    if champion_probabilities is not None and challenger_probabilities is not None:
        pair = (champion_probabilities, challenger_probabilities)
        p, r = (np.asarray(column, dtype=float)[is_compared] for column in pair)
        valid = bins.is_probability(p) & bins.is_probability(r) & np.isin(y, (0, 1))
        p, r, y = p[valid], r[valid], y[valid]
        loss, brier = log_losses(p, y) - log_losses(r, y), (p - y) ** 2 - (r - y) ** 2
        sums = {
            "probability_events": len(y),
            "loss_difference": math.fsum(loss),
            "loss_difference_squared": math.fsum(loss**2),
            "brier_difference": math.fsum(brier),
            "brier_difference_squared": math.fsum(brier**2),
        }
    return PairStatistic(
        events=int(is_compared.sum()),
        both_right=int((challenger_right & champion_right).sum()),
        only_challenger=int((challenger_right & ~champion_right).sum()),
        only_champion=int((champion_right & ~challenger_right).sum()),
        labels=dict(zip(values.tolist(), events.tolist(), strict=True)),
        **sums,
    )
