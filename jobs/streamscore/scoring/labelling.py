"""Decide which label an outcome gets: pure, so that a replayed batch of labels decides the same again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from streamscore.messages.labels import Label

Origin = Literal["new", "pending", "matched"]
"""Where a label comes from: this batch, or an earlier one, in which no outcome, or not every one, was found."""

Conflict = Literal["last", "first"]


class Prior(NamedTuple):
    """The label that an outcome had before a batch."""

    value: float
    time: int
    partition: int
    offset: int

    @property
    def place(self) -> tuple[int, int, int]:
        """What orders the labels of an event, as that of a label does."""
        return self.time, self.offset, self.partition


@dataclass(frozen=True)
class Candidate:
    """A label that looks for its outcomes."""

    label: Label
    origin: Origin = "new"
    since: int = 0
    """When it was read first, in epoch milliseconds."""


@dataclass(frozen=True)
class Outcome:
    """A document of a model's outcome."""

    id: str
    fields: Mapping[str, Any]
    """The fields of ``schema.OUTCOME_PROPERTIES`` that it has."""


@dataclass(frozen=True)
class Labelled:
    """An outcome and the label that it gets."""

    outcome: Outcome
    label: Label
    prior: Prior | None
    """The label that arrived for it before; None if none did."""

    @property
    def value_before(self) -> float | None:
        """The label that the statistics count for it: the one that arrived before, or the event's own."""
        if self.prior is not None:
            return self.prior.value
        own = self.outcome.fields.get("label")
        return None if own is None else float(own)


@dataclass
class Resolution:
    """What becomes of the labels of a batch."""

    labelled: dict[str, Labelled] = field(default_factory=dict)
    """The outcomes that get a label, by the document's id."""
    unchanged: dict[str, tuple[Outcome, float]] = field(default_factory=dict)
    """The other outcomes of the same events and the labels that they keep, by the document's id."""
    waiting: list[Candidate] = field(default_factory=list)
    """Labels without an outcome so far."""
    incomplete: list[Candidate] = field(default_factory=list)
    """Labels that found an outcome, of which some models' outcomes are not there yet."""
    done: list[Candidate] = field(default_factory=list)
    """Labels that look for nothing any more."""
    counts: Counter[str] = field(default_factory=Counter)
    """The changes of ``schema.LABEL_COUNTS``, except received and rejected."""


def resolve(
    candidates: Iterable[Candidate],
    outcomes: Mapping[str, Sequence[Outcome]],
    priors: Mapping[str, Prior],
    models: Collection[str],
    conflict: Conflict,
    expired: Callable[[Candidate], bool],
    settled: Callable[[Candidate], bool],
) -> Resolution:
    """Decide for each outcome which label it gets, and for each label what becomes of it.

    Args:
        candidates: the labels.
        outcomes: the outcomes of each id.
        priors: the labels that outcomes got in earlier batches, by the document's id.
        models: names of the models whose outcomes an event has.
        conflict: which of several labels counts.
        expired: returns whether a label has waited for an outcome for long enough.
        settled: returns whether a label has waited for the outcomes of further models for long enough.
    """
    of_id: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        of_id[candidate.label.id].append(candidate)
    made = Resolution()
    for identity, rivals in of_id.items():
        best = (max if conflict == "last" else min)(rivals, key=lambda each: each.label.place)
        for rival in rivals:
            if rival is not best:
                is_same = (rival.label.time, rival.label.value) == (best.label.time, best.label.value)
                _close(made, rival, "duplicate" if is_same else "superseded")
        _apply(made, best, outcomes.get(identity, ()), priors, models, conflict, expired, settled)
    return made


def _apply(
    made: Resolution,
    best: Candidate,
    outcomes: Sequence[Outcome],
    priors: Mapping[str, Prior],
    models: Collection[str],
    conflict: Conflict,
    expired: Callable[[Candidate], bool],
    settled: Callable[[Candidate], bool],
) -> None:
    if not outcomes:
        if best.origin != "new" and expired(best):
            _close(made, best, "expired")
        else:
            made.waiting.append(best)
            made.counts["pending"] += best.origin == "new"
        return
    label = best.label
    taken = [each for each in outcomes if _wins(label, priors.get(each.id), conflict)]
    for outcome in taken:
        made.labelled[outcome.id] = Labelled(outcome, label, priors.get(outcome.id))
    if taken:
        kept = {each.id: (each, priors[each.id].value) for each in outcomes if each.id not in made.labelled}
        made.unchanged.update(kept)
    there = [priors[each.id] for each in outcomes if each.id in priors]
    if taken:
        fate = "matched"
    else:
        fate = (
            "duplicate" if any((each.time, each.value) == (label.time, label.value) for each in there) else "superseded"
        )
    if taken and best.origin != "matched" and len({each.fields["event_id"] for each in outcomes}) > 1:
        made.counts["ambiguous"] += 1
    if _is_complete(outcomes, models) or not (taken or best.origin == "matched") or settled(best):
        _close(made, best, fate)
    else:
        _count(made, best, fate)
        made.incomplete.append(best)


def _wins(label: Label, prior: Prior | None, conflict: Conflict) -> bool:
    """Return whether a label replaces the one before; the same label once more, at another offset, does not."""
    if prior is None:
        return True
    if (label.time, label.value) == (prior.time, prior.value):
        return False
    return label.place > prior.place if conflict == "last" else label.place < prior.place


def _is_complete(outcomes: Sequence[Outcome], models: Collection[str]) -> bool:
    """Return whether each event has an outcome of every model: a search may see a part of a batch that is written."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in outcomes:
        found[each.fields["event_id"]].add(each.fields["model"])
    return all(names.issuperset(models) for names in found.values())


def _close(made: Resolution, candidate: Candidate, fate: str) -> None:
    made.done.append(candidate)
    _count(made, candidate, fate)


def _count(made: Resolution, candidate: Candidate, fate: str) -> None:
    """Count what becomes of a label; one that found an outcome before is counted already."""
    if candidate.origin != "matched":
        made.counts[fate] += 1
        made.counts["pending"] -= candidate.origin == "pending"
