"""What late labels add to the documents of the quality index: by model, and by pair of models."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Final, NamedTuple

from streamscore.clients.labels import Compared, Scores
from streamscore.config import Config
from streamscore.quality.comparison import Pair
from streamscore.quality.late import Relabelled, ScoredByBoth, change, paired_change
from streamscore.quality.packed import PairPart
from streamscore.schema import TIME
from streamscore.scoring.labelling import Outcome, Resolution
from streamscore.sinks.contributions import (
    Contribution,
    Look,
    ModelEvents,
    PairEvents,
    model_header,
    pair_header,
    start,
    window_header,
)

if TYPE_CHECKING:
    from streamscore.schema import ScoreKind

_PROBABILITY: Final = "probability"
_LATE: Final = {"late_labels": True}
"""Field of every document that label_stream adds to."""

_Version = tuple[str, str]


class _Seen(NamedTuple):
    """An outcome that was not declined, and its label before and after the batch."""

    outcome: Outcome
    before: float | None
    after: float

    @property
    def version(self) -> _Version:
        return self.outcome.fields["model"], self.outcome.fields["model_version"]

    @property
    def prediction(self) -> float:
        return float(self.outcome.fields["prediction"])

    @property
    def score(self) -> float:
        """The score; NaN if it is not finite."""
        score = self.outcome.fields.get("score")
        return math.nan if score is None else float(score)

    @property
    def time(self) -> int:
        time: int = self.outcome.fields[TIME]
        return time


def contributions(
    config: Config,
    made: Resolution,
    scores: Mapping[_Version, Scores],
    compared: Mapping[Pair, Compared],
    stream: str,
) -> dict[str, Contribution]:
    """Return what the labels of a batch add to the windows of their events, by the document's id.

    Args:
        config: the configuration.
        made: which outcome gets which label.
        scores: what the scores of each version are.
        compared: the pairs of versions to compare.
        stream: identity of the query.
    """
    seen = [_Seen(each.outcome, each.value_before, each.label.value) for each in made.labelled.values()]
    seen += [_Seen(outcome, label, label) for outcome, label in made.unchanged.values()]
    seen = [each for each in seen if each.outcome.fields.get("prediction") is not None]  # not declined
    return {**_of_models(config, seen, scores, stream), **_of_pairs(config, seen, scores, compared, stream)}


def _of_models(
    config: Config, seen: list[_Seen], scores: Mapping[_Version, Scores], stream: str
) -> dict[str, ModelEvents]:
    windows = config.quality.windows
    events: defaultdict[tuple[_Version, int], list[Relabelled]] = defaultdict(list)
    for each in seen:
        if each.before != each.after:
            row = Relabelled(each.prediction, each.score, each.before, each.after)
            events[each.version, start(each.time, windows[0])].append(row)
    added: dict[str, ModelEvents] = {}
    for ((model, version), window), rows in events.items():
        known = scores[model, version]
        kind: ScoreKind = known.kind  # type: ignore[assignment]
        statistic = change(rows, kind, known.scale)
        for seconds in windows:
            header = model_header(config, stream, model, version) | window_header(window, seconds) | _LATE
            document = f"{stream}-{model}-{version}-{kind}-{seconds}-{header[TIME]}"
            added.setdefault(document, ModelEvents(header)).parts.append(statistic)
    return added


def _of_pairs(
    config: Config,
    seen: list[_Seen],
    scores: Mapping[_Version, Scores],
    compared: Mapping[Pair, Compared],
    stream: str,
) -> dict[str, Contribution]:
    windows = config.quality.windows
    of_event: defaultdict[str, dict[_Version, _Seen]] = defaultdict(dict)
    for each in seen:
        of_event[each.outcome.fields["event_id"]][each.version] = each
    events: defaultdict[tuple[Pair, int], list[ScoredByBoth]] = defaultdict(list)
    for outcomes in of_event.values():
        for champion, challenger in permutations(outcomes.values(), 2):
            pair = Pair(*champion.version, *challenger.version)
            if pair not in compared:
                continue
            row = _both(champion, challenger)
            if row.before != row.after:
                events[pair, start(champion.time, windows[0])].append(row)
    added: dict[str, Contribution] = {}
    looks: dict[str, Look] = {}
    for (pair, window), rows in events.items():
        known = compared[pair]
        kinds = {scores[version].kind for version in (pair[:2], pair[2:])}
        statistic = paired_change(rows, have_probabilities=kinds == {_PROBABILITY})
        identity = pair_header(config, stream, pair, known.champion_uri, known.challenger_uri) | _LATE
        for seconds in windows:
            header = identity | window_header(window, seconds)
            document = f"{stream}-{pair.id}-{seconds}-{header[TIME]}"
            part = added.setdefault(document, PairEvents(header))
            part.parts.append(statistic)  # type: ignore[attr-defined]  # of a window, not of a comparison
        look = looks.setdefault(f"{stream}-{pair.id}", Look(identity | {"seconds": 0}, known.alpha))
        look.parts.append(PairPart(window, 0, statistic))
    return {**added, **looks}


def _both(champion: _Seen, challenger: _Seen) -> ScoredByBoth:
    """Return the event of two outcomes; it has a label once both have the same."""
    return ScoredByBoth(
        champion.prediction,
        challenger.prediction,
        champion.score,
        challenger.score,
        champion.before if champion.before == challenger.before else None,
        champion.after if champion.after == challenger.after else None,
    )
