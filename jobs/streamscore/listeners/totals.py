"""The running totals of the scoring job, as a table, as lines of a log, and as a summary."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from streamscore.listeners.base import BatchListener
from streamscore.listeners.comparisons import Comparisons
from streamscore.quality import figures, text
from streamscore.quality.confusion import Confusion, class_counts, labelled, total
from streamscore.quality.evaluation import FIGURES, Evaluation, evaluate
from streamscore.quality.packed import unpack
from streamscore.quality.statistic import EMPTY, Statistic, combined
from streamscore.system.console import VERDICTS, as_markup

if TYPE_CHECKING:
    from streamscore.scoring.served import ServedModel
    from streamscore.stream.progress import CommittedBatch

SUMS: Final = "sums"
"""Name of the metric with the packed statistics of a batch."""

SHOWN: Final = ("accuracy", "auc", "rig", "log_loss")
"""Figures in the table and in the log; the first one with its interval."""


@dataclass
class Totals(BatchListener):
    """Counts of all batches of this run, from the stream's own observations."""

    models: Sequence[ServedModel]
    synthetic: bool
    refused: Callable[[], Mapping[str, str]] = dict
    """Returns the refused model versions, whose predecessors still serve, with the reasons."""
    min_labelled: int = 1
    """With fewer labelled events every figure is undefined."""
    comparisons: Comparisons = field(default_factory=Comparisons)
    events: int = 0
    rejected: int = 0
    batches: int = 0
    lag: int = 0
    """Number of events in the topic that are not scored yet, as of Spark's last request to Kafka."""
    batch_ms: int = 0
    of_version: dict[tuple[str, str], Statistic] = field(default_factory=dict)
    """The statistic of quality of each version of each model."""
    started: float = field(default_factory=time.monotonic)
    _recent: list[tuple[float, int]] = field(default_factory=list)

    def committed(self, batch: CommittedBatch) -> None:
        """Add one batch."""
        observed = batch.observed["quality"]
        self.lag = self.lag if batch.lag is None else batch.lag
        self.events += observed["events"]
        self.rejected += observed["rejected"]
        kinds = [model.score_kind for model in self.models]
        of_models, of_pairs = unpack(base64.b64decode(observed[SUMS]), kinds)
        for part in of_models:
            key = (self.models[part.model].name, self.models[part.model].version)
            self.of_version[key] = combined([self.of_version.get(key, EMPTY), part.statistic])
        self.comparisons.add(of_pairs, self.models)
        self.batches += 1
        self.batch_ms = batch.milliseconds
        self._recent = [*self._recent[-20:], (time.monotonic(), self.events)]

    @property
    def scored(self) -> int:
        """Number of scored events."""
        return self.events - self.rejected

    @property
    def labelled(self) -> int:
        """Number of scored events with a label."""
        return labelled(self._confusion)

    @property
    def _confusion(self) -> Confusion:
        """Confusion counts of the first model; all models score the same events."""
        name = self.models[0].name
        return total(statistic.confusion for (model, _), statistic in self.of_version.items() if model == name)

    @property
    def rate(self) -> float:
        """Events per second over the last batches, up to now."""
        if len(self._recent) <= 1:
            return self.events / max(0.001, time.monotonic() - self.started)
        (start, before), (_, after) = self._recent[0], self._recent[-1]
        return (after - before) / max(0.001, time.monotonic() - start)

    @property
    def baseline(self) -> float | None:
        """Accuracy of always predicting the most frequent label; None without labels."""
        return figures.baseline(class_counts(self._confusion).values(), self.labelled)

    def evaluation(self, name: str, version: str) -> Evaluation:
        """Return the current figures of one version of a model.

        Args:
            name: name of the model.
            version: its version.
        """
        return evaluate(self.of_version.get((name, version), EMPTY), self.min_labelled)

    def of_model(self, name: str, version: str) -> dict[str, Any]:
        """Return the results of one version of a model.

        Args:
            name: name of the model.
            version: its version.

        Returns:
            ``version``, ``scored``, ``correct``, ``accuracy`` (None without labels), and ``figures``: all figures by
            name, as ``streamscore quality --json`` prints them.
        """
        evaluation = self.evaluation(name, version)
        statistic = evaluation.statistic
        return {
            "version": version,
            "scored": statistic.scored,
            "correct": statistic.correct,
            "accuracy": figures.accuracy(statistic.correct, statistic.labelled),
            "figures": evaluation.to_json(name, version)["figures"],
        }

    def summary(self) -> dict[str, Any]:
        """Return the totals as plain data, with the results of each model's current and earlier versions."""
        seconds = time.monotonic() - self.started
        return {
            "events": self.events,
            "scored": self.scored,
            "rejected": self.rejected,
            "labelled": self.labelled,
            "majority_rate": self.baseline,
            "batches": self.batches,
            "lag": self.lag,
            "seconds": round(seconds, 3),
            "models": {
                model.name: {
                    **self.of_model(model.name, model.version),
                    "earlier_versions": [
                        self.of_model(name, version)
                        for name, version in self.of_version
                        if name == model.name and version != model.version
                    ],
                }
                for model in self.models
            },
            "comparisons": self.comparisons.summary(),
        }

    def lines(self) -> list[str]:
        """Return the totals as lines for a log: the stream, then each model in use with its figures."""
        stream = (
            f"events {self.events:,} ({self.rate:,.0f}/s), rejected {self.rejected:,}, lag {self.lag:,}, "
            f"batch {self.batch_ms:,} ms; {figures.BASELINE} {_percent(self.baseline)}"
        )
        figures_of_models = (self._line(model.name, model.version) for model in self.models)
        return [stream, *figures_of_models, *self.comparisons.lines(self.models)]

    def _line(self, name: str, version: str) -> str:
        evaluation = self.evaluation(name, version)
        first, *others = SHOWN
        parts = [f"{FIGURES[first].name} {text.described(evaluation, first)}"]
        parts += [f"{FIGURES[key].name} {text.value(evaluation, key)}" for key in others]
        return f"{name} {version}: {', '.join(parts)}"

    def table(self) -> Table:
        """Return the totals as a table for a terminal."""
        title = (
            f"{self.events:,} events   {self.rate:,.0f}/s   batch {self.batch_ms:,} ms   lag {self.lag:,}   "
            f"rejected {self.rejected:,}"
        )
        first, *others = SHOWN
        look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}  # two models fit into 80 columns
        table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left", **look)
        table.add_column("model", overflow="fold")
        table.add_column("scored", justify="right", no_wrap=True)
        table.add_column(FIGURES[first].name, min_width=len("[12.34, 56.78]"))
        for heading in (*(FIGURES[key].name for key in others), figures.BASELINE_SHORT):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, version in dict.fromkeys([*self.of_version, *((model.name, model.version) for model in self.models)]):
            evaluation = self.evaluation(name, version)
            table.add_row(
                f"{name} {as_markup(version)}",
                f"{evaluation.statistic.scored:,}",
                _cell(evaluation, first, text.described(evaluation, first)),
                *(_cell(evaluation, key, text.value(evaluation, key)) for key in others),
                text.value(evaluation, "baseline"),
            )
        table.caption = Text("\n".join(self.comparisons.lines(self.models)))
        return table


def _cell(evaluation: Evaluation, key: str, shown: str) -> Text:
    return Text(shown, style=VERDICTS[text.verdict(evaluation, key)])


def _percent(share: float | None) -> str:
    return text.UNDEFINED if share is None else f"{share:.2%}"
