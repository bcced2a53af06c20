"""The comparison of a champion with a challenger: their paired sums, and the evidence of every look at them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from streamscore.quality import paired
from streamscore.quality.estimates import Estimate
from streamscore.quality.paired import ALPHA, Evidence
from streamscore.quality.pairs import PairStatistic

Result = Literal["better", "worse", "equal"]
"""What the challenger is, compared with the champion; equal: the difference is within the margin."""

MARGIN: Final = 0.005
"""Largest difference in accuracy that does not matter, unless configured."""


class _Version(Protocol):
    """A version of a model."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


class Pair(NamedTuple):
    """A version of the champion and a version of a challenger."""

    champion: str
    champion_version: str
    challenger: str
    challenger_version: str

    @classmethod
    def of(cls, champion: _Version, challenger: _Version) -> Pair:
        """Return the versions of two models as a pair."""
        return cls(champion.name, champion.version, challenger.name, challenger.version)

    @property
    def id(self) -> str:
        """The pair as one text."""
        return ":".join(self)


@dataclass(frozen=True)
class Comparison:
    """A pair of versions on the events that both scored, from the first event of the pair on."""

    sums: PairStatistic = field(default_factory=PairStatistic)
    evidence: Evidence = field(default_factory=Evidence)
    alpha: float = ALPHA
    """Share of streams without a difference in which this pair may ever have a verdict."""

    def after(self, events: PairStatistic, alpha: float) -> Comparison:
        """Return the comparison with more events, and one more look.

        Args:
            events: the sums over the new events.
            alpha: the pair's part of α, see ``share_of_alpha``.
        """
        sums = self.sums + events
        return Comparison(sums, self.evidence.after(sums, alpha), alpha)

    def with_late_labels(self, late: Comparison) -> Comparison:
        """Return the comparison with the events whose labels came late, and what corrected labels changed.

        If all labels came late, theirs is the evidence. Else it is that of one look at the sums of both: no look has
        seen them together before.

        Args:
            late: the comparison of label_stream, on the same versions.
        """
        sums = self.sums + late.sums
        if not self.sums.events:
            return Comparison(sums, late.evidence, late.alpha)
        return Comparison(sums, Evidence().after(sums, self.alpha), self.alpha)

    @property
    def difference(self) -> Estimate | None:
        """Challenger's accuracy minus the champion's, in [-1, 1], with an interval that holds at every look."""
        return paired.accuracy_difference(self.sums, self.alpha)

    def result(self, margin: float = MARGIN) -> Result | None:
        """Return the verdict, or else whether both are equally good for practical purposes; None: no verdict yet.

        Args:
            margin: largest difference in accuracy that does not matter.
        """
        if self.evidence.verdict is not None:
            return self.evidence.verdict
        return "equal" if paired.is_within(self.difference, margin) else None

    @property
    def events_needed(self) -> int | None:
        """Number of events after which a stream with this difference usually has a verdict; None if beyond 10^12.

        Undefined (None) without a discordant event.
        """
        sums = self.sums
        if not sums.discordant:
            return None
        difference = abs(sums.only_challenger - sums.only_champion) / sums.events
        return paired.typical_events(difference, sums.discordant / sums.events, self.alpha)

    def to_document(self) -> dict[str, Any]:
        """Return the comparison as a JSON object, from which ``from_document`` makes an equal one."""
        evidence = self.evidence
        return {
            **self.sums.to_document(),
            "alpha": self.alpha,
            "log_evidence": evidence.log_maximum,
            "verdict": evidence.verdict,
            "verdict_events": evidence.verdict_events,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Comparison:
        """Return the comparison of a document of ``to_document``, in which other fields may stand besides."""
        evidence = Evidence(float(document["log_evidence"]), document["verdict"], document["verdict_events"])
        return cls(PairStatistic.from_document(document), evidence, float(document["alpha"]))

    def to_json(self, pair: Pair, margin: float = MARGIN) -> dict[str, Any]:
        """Return the comparison as ``streamscore compare --json`` prints it.

        Args:
            pair: the versions.
            margin: largest difference in accuracy that does not matter.
        """
        sums = self.sums
        differences = {
            "difference": self.difference,
            "log_loss_difference": paired.log_loss_difference(sums, self.alpha),
            "brier_difference": paired.brier_difference(sums, self.alpha),
        }
        return {
            **pair._asdict(),
            "n": sums.events,
            "n10": sums.only_challenger,
            "n01": sums.only_champion,
            **{name: None if found is None else found.to_json() for name, found in differences.items()},
            # E itself may exceed every float; its largest value so far gives the p-value.
            "e_value": math.exp(min(paired.log_evidence(sums), math.log(sys.float_info.max))),
            "p_value": self.evidence.p_value,
            "alpha": self.alpha,
            "verdict": self.result(margin),
            "verdict_events": self.evidence.verdict_events,
        }


NONE: Final = Comparison()
"""The comparison without events."""


def champion_of(name: str | None, models: Sequence[_Version]) -> int:
    """Return the champion's position among models.

    It is the first model unless another one is named and there: models of an earlier run may lack it.

    Args:
        name: name of the champion; None: the first model.
        models: the models, at least one.
    """
    names = [model.name for model in models]
    return names.index(name) if name in names else 0


def share_of_alpha(alpha: float, models: int) -> float:
    """Return one pair's part of α: the challengers share it, so that the promise holds for all of them together.

    Args:
        alpha: share of streams without a difference in which there may ever be a verdict for any challenger.
        models: number of models, the champion among them.
    """
    return alpha / max(1, models - 1)
