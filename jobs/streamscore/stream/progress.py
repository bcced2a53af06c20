"""The running totals of a stream, as people see them: a live table, a line in a log, a summary."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from streamscore.config import Stream
from streamscore.errors import RejectedShareError
from streamscore.schema import TIME

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

    from streamscore.scoring import ServedModel


@dataclass
class Totals:
    """Counts of all batches of this run, from what the stream itself observed."""

    models: Sequence[ServedModel]
    synthetic: bool
    refused: Callable[[], Mapping[str, str]] = dict
    """Tells the versions of models that are refused while older ones serve, with the reason."""
    events: int = 0
    rejected: int = 0
    labelled: int = 0
    batches: int = 0
    lag: int = 0
    """Events in the topic that are not scored yet, as of the last batch before which Spark has looked."""
    batch_ms: int = 0
    of_version: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """Events that each version of each model has scored, those of them with a label, and right answers."""
    of_label: Counter[str] = field(default_factory=Counter)
    """How many events have each label."""
    started: float = field(default_factory=time.monotonic)
    _last_batch: int = -1
    _recent: list[tuple[float, int]] = field(default_factory=list)
    _window: deque[tuple[int, int]] = field(default_factory=deque)
    """Events and rejected messages of the last batches, no more of them than a share is taken over."""

    def take(self, query: StreamingQuery) -> list[dict[str, Any]]:
        """Add the batches that have ended since the last call and return their status documents."""
        new = [progress for progress in query.recentProgress if self._is_new(progress)]
        return [self.add(progress) for progress in new]

    def add(self, progress: Mapping[str, Any]) -> dict[str, Any]:
        """Add one batch, given as the progress that Spark reports for it, and return its status document."""
        self._last_batch = progress["batchId"]
        lag = _lag(progress["sources"][0])
        self.lag = self.lag if lag is None else lag
        observed = progress["observedMetrics"]["quality"]
        for name in ("events", "rejected", "labelled"):
            setattr(self, name, getattr(self, name) + observed[name])
        self.of_label.update({name: count for name, count in observed.items() if name.startswith("label_")})
        for model in self.models:
            self.of_version.setdefault((model.name, model.version), Counter()).update(
                scored=observed["events"] - observed["rejected"],
                labelled=observed["labelled"],
                correct=observed[f"correct_{model.name}"],
            )
        if observed["events"]:
            self._window.append((observed["events"], observed["rejected"]))
        self.batches += 1
        self.batch_ms = progress["durationMs"]["triggerExecution"]
        self._recent = [*self._recent[-20:], (time.monotonic(), self.events)]
        return {
            TIME: progress["timestamp"],
            "query": progress["id"],
            "batch": progress["batchId"],
            "events": observed["events"],
            "rejected": observed["rejected"],
            "lag": self.lag,
            "batch_ms": self.batch_ms,
            "events_per_second": progress.get("processedRowsPerSecond", 0.0),
            "models": [f"{model.name}:{model.version}" for model in self.models],
            "refused": [f"{version}: {reason}" for version, reason in self.refused().items()],
            "synthetic": self.synthetic,
        }

    @property
    def scored(self) -> int:
        """Events that were scored."""
        return self.events - self.rejected

    @property
    def rate(self) -> float:
        """Events per second over the last batches, up to this moment."""
        if len(self._recent) <= 1:
            return self.events / max(0.001, time.monotonic() - self.started)
        (start, before), (_, after) = self._recent[0], self._recent[-1]
        return (after - before) / max(0.001, time.monotonic() - start)

    @property
    def majority(self) -> float | None:
        """What always guessing the most common label would have scored; None without labels, or with too many."""
        return max(self.of_label.values()) / self.labelled if self.labelled and self.of_label else None

    def of_model(self, name: str, version: str) -> dict[str, Any]:
        """Return what one version of a model has done; its accuracy, the share of labelled events that it got right.

        That is None without labels.
        """
        counts = self.of_version.get((name, version), Counter())
        accuracy = counts["correct"] / counts["labelled"] if counts["labelled"] else None
        return {"version": version, "scored": counts["scored"], "correct": counts["correct"], "accuracy": accuracy}

    def rejected_share(self, window: int) -> float:
        """Return the share of rejected messages in the last batches that have a number of events, 0 before that."""
        while len(self._window) > 1 and sum(events for events, _ in self._window) - self._window[0][0] >= window:
            self._window.popleft()
        events, rejected = map(sum, zip(*self._window, strict=True)) if self._window else (0, 0)
        return rejected / events if events >= window else 0.0

    def too_many_rejected(self, settings: Stream) -> bool:
        """Tell whether so many messages are rejected that the job should stop."""
        limit = settings.max_rejected_share
        share = self.rejected_share(settings.rejected_window)  # without a limit too: it forgets what is too old
        return limit is not None and share > limit

    def require_few_rejected(self, settings: Stream, topic: str) -> None:
        """Refuse to go on when too many messages are rejected.

        Raises:
            RejectedShareError: as it says.
        """
        if self.too_many_rejected(settings):
            raise RejectedShareError(
                f"{self.rejected_share(settings.rejected_window):.0%} of the last messages were rejected, more than "
                f"stream.max_rejected_share = {settings.max_rejected_share:.0%}: did a producer change? They are in "
                f"the topic {topic!r} (`streamscore rejected list`). To go on regardless, set the limit to null"
            )

    def summary(self) -> dict[str, Any]:
        """Return the totals as plain data; of each model, what its present version and those before it have done."""
        seconds = time.monotonic() - self.started
        return {
            "events": self.events,
            "scored": self.scored,
            "rejected": self.rejected,
            "labelled": self.labelled,
            "majority_rate": self.majority,
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
            f"batch {self.batch_ms:,} ms; accuracy {models}, majority rate {_percent(self.majority)}"
        )

    def table(self) -> Table:
        """Return the totals as a table for a terminal."""
        title = (
            f"{self.events:,} events   {self.rate:,.0f}/s   batch {self.batch_ms:,} ms   lag {self.lag:,}   "
            f"rejected {self.rejected:,}"
        )
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("model")
        for heading in ("version", "scored", "correct", "accuracy", "majority rate"):
            table.add_column(heading, justify="right")
        majority = self.majority
        for name, version in dict.fromkeys([*self.of_version, *((model.name, model.version) for model in self.models)]):
            counts = self.of_model(name, version)
            accuracy = counts["accuracy"]
            style = "green" if accuracy is not None and majority is not None and accuracy > majority else "yellow"
            table.add_row(
                name,
                version,
                f"{counts['scored']:,}",
                f"{counts['correct']:,}",
                f"[{style}]{_percent(accuracy)}[/{style}]",
                _percent(majority),
            )
        return table

    def _is_new(self, progress: Mapping[str, Any]) -> bool:
        """Tell whether a batch has ended; a trigger that found nothing to do has observed nothing."""
        observed = progress.get("observedMetrics", {}).get("quality")
        return bool(progress["batchId"] > self._last_batch and observed)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _lag(source: Mapping[str, Any]) -> int | None:
    """Return how many records the topic holds beyond the end of a batch; None if nobody looked, as before a replay."""
    if source.get("latestOffset") is None:
        return None
    latest, end = (_offsets(source.get(name)) for name in ("latestOffset", "endOffset"))
    return sum(max(0, latest.get(partition, offset) - offset) for partition, offset in end.items())


def _offsets(offsets: Any) -> dict[tuple[str, str], int]:
    if isinstance(offsets, str):
        offsets = json.loads(offsets)
    return {
        (topic, partition): offset
        for topic, partitions in (offsets or {}).items()
        for partition, offset in partitions.items()
    }
