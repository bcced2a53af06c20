"""The comparisons of the models in use on the events of this run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from streamscore.config import Compare
from streamscore.quality import comparison_text
from streamscore.quality.comparison import MARGIN, NONE, Comparison, Pair, champion_of, share_of_alpha
from streamscore.quality.packed import PairPart
from streamscore.quality.paired import ALPHA
from streamscore.system.console import log

if TYPE_CHECKING:
    from streamscore.scoring.served import ServedModel

DEFAULT: Final = Compare(champion=None, alpha=ALPHA, margin=MARGIN)


@dataclass
class Comparisons:
    """The champion with each challenger; each batch is one more look, and a verdict is logged when it falls."""

    settings: Compare = DEFAULT
    of_pair: dict[Pair, Comparison] = field(default_factory=dict)

    def add(self, parts: Iterable[PairPart], models: Sequence[ServedModel]) -> None:
        """Add a batch.

        Args:
            parts: its paired statistics, by challenger.
            models: the models that scored it.
        """
        first = models[champion_of(self.settings.champion, models)]
        alpha = share_of_alpha(self.settings.alpha, len(models))
        for part in parts:
            pair = Pair.of(first, models[part.challenger])
            before = self.of_pair.get(pair, NONE)
            after = self.of_pair[pair] = before.after(part.statistic, alpha)
            if before.evidence.verdict is None and after.evidence.verdict is not None:
                log.info("verdict: %s", comparison_text.line(pair, after, self.settings.margin))

    def current(self, models: Sequence[ServedModel]) -> dict[Pair, Comparison]:
        """Return the comparisons of the models in use."""
        first = models[champion_of(self.settings.champion, models)]
        pairs = [Pair.of(first, model) for model in models]
        return {pair: self.of_pair[pair] for pair in pairs if pair in self.of_pair}

    def lines(self, models: Sequence[ServedModel]) -> list[str]:
        """Return a line for each comparison of the models in use."""
        margin = self.settings.margin
        return [comparison_text.line(pair, compared, margin) for pair, compared in self.current(models).items()]

    def summary(self) -> list[dict[str, Any]]:
        """Return all comparisons of the run as ``streamscore compare --json`` prints them."""
        return [compared.to_json(pair, self.settings.margin) for pair, compared in self.of_pair.items()]
