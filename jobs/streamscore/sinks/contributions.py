"""What a batch adds to the documents of the quality index: statistics, paired statistics, and looks at comparisons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamscore.config import Config
from streamscore.quality import pairs
from streamscore.quality.comparison import NONE, Comparison, Pair, champion_of, share_of_alpha
from streamscore.quality.packed import ModelPart, PairPart, unpack
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.statistic import EMPTY, Statistic, total
from streamscore.schema import TIME

if TYPE_CHECKING:
    from streamscore.scoring.served import ServedModel


@dataclass(frozen=True)
class Contribution(ABC):
    """What a batch adds to one document."""

    header: Mapping[str, Any]
    """The fields that identify the document's events."""

    @abstractmethod
    def after(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the document's additive fields with the batch.

        Args:
            before: the document's fields without the batch; None if there was no document.
        """


@dataclass(frozen=True)
class ModelEvents(Contribution):
    """A batch's events of a version of a model in a window."""

    parts: list[Statistic] = field(default_factory=list)
    """The statistics of the shortest windows inside, to be added up."""

    def after(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the fields of the statistic."""
        return total([EMPTY if before is None else Statistic.from_document(before), *self.parts]).to_document()


@dataclass(frozen=True)
class PairEvents(Contribution):
    """A batch's events of a pair of versions in a window."""

    parts: list[PairStatistic] = field(default_factory=list)
    """The statistics of the shortest windows inside, to be added up."""

    def after(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the fields of the paired statistic."""
        known = [] if before is None else [PairStatistic.from_document(before)]
        return pairs.total([*known, *self.parts]).to_document()


@dataclass(frozen=True)
class Look(Contribution):
    """A batch's events of a pair of versions in all windows: one more look at their comparison."""

    alpha: float
    """The pair's part of α."""
    parts: list[PairPart] = field(default_factory=list)
    """The statistics of the shortest windows, to be added up."""

    def after(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the fields of the comparison, and the start of the pair's last window."""
        known, latest = (NONE, []) if before is None else (Comparison.from_document(before), [before[TIME]])
        compared = known.after(pairs.total(part.statistic for part in self.parts), self.alpha)
        return {TIME: max([*latest, *(part.window for part in self.parts)]), **compared.to_document()}


def of_batch(config: Config, models: Sequence[ServedModel], sums: bytes, stream: str) -> dict[str, Contribution]:
    """Return a batch's contributions by document id.

    Args:
        config: the configuration.
        models: the models that scored the batch.
        sums: the packed statistics of the batch.
        stream: identity of the query.
    """
    of_models, of_pairs = unpack(sums, [served.score_kind for served in models])
    # Pairs first: once label_stream sees the statistic of a version, it expects those of its pairs.
    return {**_of_pairs(config, models, of_pairs, stream), **_of_models(config, models, of_models, stream)}


def _of_models(
    config: Config, models: Sequence[ServedModel], parts: Iterable[ModelPart], stream: str
) -> dict[str, ModelEvents]:
    """Return the contributions to statistics; those of longer windows are sums of the shortest windows."""
    contributions: dict[str, ModelEvents] = {}
    for part in parts:
        model = models[part.model]
        for seconds in config.quality.windows:
            header = model_header(config, stream, model.name, model.version) | window_header(part.window, seconds)
            if model.score_kind == "margin":
                header["margin_scale"] = model.margin_scale
            # A version may come back with another kind of score, and statistics of two kinds do not add up.
            document = f"{stream}-{model.name}-{model.version}-{model.score_kind}-{seconds}-{header[TIME]}"
            contributions.setdefault(document, ModelEvents(header)).parts.append(part.statistic)
    return contributions


def _of_pairs(
    config: Config, models: Sequence[ServedModel], parts: Sequence[PairPart], stream: str
) -> dict[str, Contribution]:
    """Return the contributions to paired statistics and to comparisons."""
    windows: dict[str, PairEvents] = {}
    looks: dict[str, Look] = {}
    first = models[champion_of(config.compare.champion, models)]
    alpha = share_of_alpha(config.compare.alpha, len(models))
    for part in parts:
        model = models[part.challenger]
        versions = Pair.of(first, model)
        identity = pair_header(config, stream, versions, first.origin, model.origin)
        for seconds in config.quality.windows:
            header = identity | window_header(part.window, seconds)
            document = f"{stream}-{versions.id}-{seconds}-{header[TIME]}"
            windows.setdefault(document, PairEvents(header)).parts.append(part.statistic)
        look = looks.setdefault(f"{stream}-{versions.id}", Look(identity | {"seconds": 0}, alpha))
        look.parts.append(part)
    return {**windows, **looks}


def model_header(config: Config, stream: str, model: str, version: str) -> dict[str, Any]:
    """Return the fields that identify a version of a model and the stream that counts its events.

    Args:
        config: names the input topic.
        stream: identity of the query.
        model: name of the model.
        version: its version.
    """
    return {"topic": config.kafka.topics.input, "stream": stream, "model": model, "model_version": version}


def pair_header(config: Config, stream: str, pair: Pair, champion_uri: str, challenger_uri: str) -> dict[str, Any]:
    """Return the fields that identify a pair of versions and the stream that counts its events.

    Args:
        config: names the input topic.
        stream: identity of the query.
        pair: the versions.
        champion_uri: address of the champion's version, without an alias.
        challenger_uri: address of the challenger's version, without an alias.
    """
    return model_header(config, stream, pair.challenger, pair.challenger_version) | {
        "pair": pair.id,
        "champion": pair.champion,
        "champion_version": pair.champion_version,
        "champion_uri": champion_uri,
        "model_uri": challenger_uri,
    }


def window_header(window: int, seconds: int) -> dict[str, Any]:
    """Return the fields that identify the window of a length that contains a shorter one.

    Args:
        window: start of the shorter one, in epoch milliseconds.
        seconds: the length.
    """
    return {TIME: start(window, seconds), "seconds": seconds}


def start(window: int, seconds: int) -> int:
    """Return the start of the window of a length that contains a shorter one, in epoch milliseconds."""
    return window // (1_000 * seconds) * 1_000 * seconds
