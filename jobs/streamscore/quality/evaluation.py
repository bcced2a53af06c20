"""All figures of a model at once, by name: what page, report, terminal, command line and notebooks show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamscore.quality import confusion, figures, probabilistic, ranking
from streamscore.quality.estimates import Comparison, Estimate, Figure, Value, compare, wilson
from streamscore.quality.statistic import Statistic


@dataclass(frozen=True)
class Definition:
    """A figure: how it is called and computed, and how to read it."""

    name: str
    """As people read it."""
    of: Callable[[Statistic], Figure | None]
    reference: float | None = None
    """What a model has that knows nothing, or, of the calibration ratio, one that is right."""
    wide: float | None = None
    """An interval at least that wide allows no verdict; None if the figure has no interval."""
    is_share: bool = False
    """Whether it is a share of events, shown as a percentage."""


def _baseline(statistic: Statistic) -> Value | None:
    value = figures.baseline(confusion.class_counts(statistic.confusion).values(), statistic.labelled)
    return None if value is None else Value(value)


FIGURES: Final[Mapping[str, Definition]] = {
    "accuracy": Definition(figures.ACCURACY, lambda it: wilson(it.correct, it.labelled), None, 0.1, is_share=True),
    "auc": Definition(ranking.AUC, ranking.auc, 0.5, 0.1),
    "average_precision": Definition(ranking.AVERAGE_PRECISION, ranking.average_precision),
    "log_loss": Definition(probabilistic.LOG_LOSS, probabilistic.log_loss),
    "rig": Definition(probabilistic.RIG, probabilistic.relative_information_gain, 0.0, 0.1),
    "brier": Definition(probabilistic.BRIER, probabilistic.brier_score),
    "calibration_ratio": Definition(probabilistic.CALIBRATION_RATIO, probabilistic.calibration_ratio, 1.0, 0.2),
    "precision": Definition(figures.PRECISION, lambda it: figures.precision(it.confusion), None, 0.1, is_share=True),
    "recall": Definition(figures.RECALL, lambda it: figures.recall(it.confusion), None, 0.1, is_share=True),
    "f1": Definition(figures.F1, lambda it: figures.f1(it.confusion), None, 0.1),
    "mcc": Definition(figures.MCC, lambda it: figures.matthews_correlation(it.confusion), 0.0, 0.2),
    "balanced_accuracy": Definition(
        figures.BALANCED_ACCURACY, lambda it: figures.balanced_accuracy(it.confusion), None, 0.1, is_share=True
    ),
    "baseline": Definition(figures.BASELINE, _baseline, is_share=True),
}
"""The figures by their names in JSON."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of a statistic, by the names of ``FIGURES``; None where one is undefined."""

    statistic: Statistic
    figures: Mapping[str, Figure | None]

    def compare(self, name: str) -> Comparison:
        """Return where a figure lies beside what a model has that knows nothing; ``unclear`` if its interval holds it.

        The accuracy is compared with the majority-class baseline of the same events, another figure with its
        ``Definition.reference``. Only ``above`` and ``below`` may be shown in colour.
        """
        baseline = self.figures["baseline"]
        reference = FIGURES[name].reference
        if name == "accuracy" and baseline is not None:
            reference = baseline.value
        return compare(self.figures[name], reference)

    def is_uncertain(self, name: str) -> bool:
        """Return whether a figure's interval is too wide for a verdict, or cannot be told from so few events."""
        figure, wide = self.figures[name], FIGURES[name].wide
        if wide is None or not isinstance(figure, Estimate):
            return False
        return figure.width is None or figure.width + 2 * figure.error >= wide

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """Return the figures as a JSON object.

        Args:
            name: name of the model.
            version: its version.
        """
        return {
            "name": name,
            "version": version,
            "score_kind": self.statistic.score_kind,
            "scored": self.statistic.scored,
            "declined": self.statistic.declined,
            "labelled": self.statistic.labelled,
            "figures": {key: figure and figure.to_json() for key, figure in self.figures.items()},
        }


def evaluate(statistic: Statistic, min_labelled: int = 1) -> Evaluation:
    """Return all figures of a statistic.

    Args:
        statistic: the sums over the events.
        min_labelled: with fewer labelled events every figure is undefined.
    """
    enough = statistic.labelled >= min_labelled
    return Evaluation(statistic, {key: figure.of(statistic) if enough else None for key, figure in FIGURES.items()})
