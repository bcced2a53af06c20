"""The running totals of the scoring job, as people read them: a table, a line in a log, a summary."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from streamscore.listeners.base import BatchListener
from streamscore.quality import figures
from streamscore.quality.confusion import Confusion, label_counts, labelled, total
from streamscore.quality.packed import unpack
from streamscore.quality.statistic import EMPTY, Statistic
from streamscore.system.console import as_markup

if TYPE_CHECKING:
    from streamscore.scoring.served import ServedModel
    from streamscore.stream.progress import CommittedBatch

SUMS: Final = "sums"
"""Name of the metric with the packed statistics of a batch."""


@dataclass
class Totals(BatchListener):
    """Counts of all batches of this run, from what the stream itself observed."""

    models: Sequence[ServedModel]
    synthetic: bool
    refused: Callable[[], Mapping[str, str]] = dict
    """Returns the versions of models that are refused while older ones serve, with the reason of each."""
    events: int = 0
    rejected: int = 0
    batches: int = 0
    lag: int = 0
    """Events in the topic that are not scored yet, as of the last batch for which Spark asked Kafka."""
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
        for _, position, statistic in unpack(base64.b64decode(observed[SUMS]), kinds):
            key = (self.models[position].name, self.models[position].version)
            self.of_version[key] = self.of_version.get(key, EMPTY) + statistic
        self.batches += 1
        self.batch_ms = batch.milliseconds
        self._recent = [*self._recent[-20:], (time.monotonic(), self.events)]

    @property
    def scored(self) -> int:
        """Events that were scored."""
        return self.events - self.rejected

    @property
    def labelled(self) -> int:
        """Events with a label."""
        return labelled(self._confusion)

    @property
    def _confusion(self) -> Confusion:
        """Confusion counts of the first model; all models score the same events."""
        name = self.models[0].name
        return total(statistic.confusion for (model, _), statistic in self.of_version.items() if model == name)

    @property
    def rate(self) -> float:
        """Events per second over the last batches, up to this moment."""
        if len(self._recent) <= 1:
            return self.events / max(0.001, time.monotonic() - self.started)
        (start, before), (_, after) = self._recent[0], self._recent[-1]
        return (after - before) / max(0.001, time.monotonic() - start)

    @property
    def baseline(self) -> float | None:
        """Accuracy of always predicting the most frequent class; None without labels."""
        classes = max(model.classes for model in self.models)
        counts = (events for label, events in label_counts(self._confusion).items() if label < classes)
        return figures.baseline(counts, self.labelled)

    def of_model(self, name: str, version: str) -> dict[str, Any]:
        """Return what one version of a model has done: ``scored``, ``correct`` and ``accuracy``, None without labels.

        Args:
            name: name of the model.
            version: its version.
        """
        statistic = self.of_version.get((name, version), EMPTY)
        accuracy = figures.accuracy(statistic.correct, statistic.labelled)
        return {"version": version, "scored": statistic.scored, "correct": statistic.correct, "accuracy": accuracy}

    def summary(self) -> dict[str, Any]:
        """Return the totals as plain data; of each model, what its present version and those before it have done."""
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
        }

    def line(self) -> str:
        """Return the totals as one line for a log."""
        accuracies = ((model.name, self.of_model(model.name, model.version)["accuracy"]) for model in self.models)
        models = ", ".join(f"{name} {_percent(accuracy)}" for name, accuracy in accuracies)
        return (
            f"events {self.events:,} ({self.rate:,.0f}/s), rejected {self.rejected:,}, lag {self.lag:,}, "
            f"batch {self.batch_ms:,} ms; {figures.ACCURACY} {models}, {figures.BASELINE} {_percent(self.baseline)}"
        )

    def table(self) -> Table:
        """Return the totals as a table for a terminal."""
        title = (
            f"{self.events:,} events   {self.rate:,.0f}/s   batch {self.batch_ms:,} ms   lag {self.lag:,}   "
            f"rejected {self.rejected:,}"
        )
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("model")
        for heading in ("version", "scored", "correct", figures.ACCURACY, figures.BASELINE_SHORT):
            table.add_column(heading, justify="right")
        baseline = self.baseline
        for name, version in dict.fromkeys([*self.of_version, *((model.name, model.version) for model in self.models)]):
            done = self.of_model(name, version)
            accuracy = done["accuracy"]
            style = "green" if (figures.above_baseline(accuracy, baseline) or 0) > 0 else "yellow"
            table.add_row(
                name,
                as_markup(version),
                f"{done['scored']:,}",
                f"{done['correct']:,}",
                f"[{style}]{_percent(accuracy)}[/{style}]",
                _percent(baseline),
            )
        return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
