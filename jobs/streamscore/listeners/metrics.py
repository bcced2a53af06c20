"""The metrics of the scoring job.

No label is ever taken from an event: labels are names and versions of models, topics, partitions, classes and reasons.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from streamscore.config import Config
from streamscore.errors import mask_credentials
from streamscore.listeners.exporter import Exporter, committed_at
from streamscore.listeners.families import Histogram, family
from streamscore.messages import event_counts
from streamscore.quality.confusion import MAX_CLASSES, Confusion
from streamscore.quality.statistic import EMPTY, Statistic
from streamscore.schema import REASONS

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from streamscore.listeners.totals import Totals
    from streamscore.stream.progress import CommittedBatch

LATENCIES: Final = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0)
"""Upper bounds of the buckets of an event's latency, in seconds."""

_MODEL: Final = ("model", "model_version")


@dataclass(frozen=True)
class _Events:
    """What the job has counted after a batch; never changed."""

    events: int = 0
    reasons: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    """Rejected events by reason."""
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCIES))
    of_version: Mapping[tuple[str, str], Statistic] = field(default_factory=dict)

    def after(self, batch: CommittedBatch, totals: Totals) -> _Events:
        """Return the counts with one more batch, which the totals have already."""
        counts = event_counts.unpack(base64.b64decode(batch.observed["quality"][event_counts.NAME]))
        waited = 1_000 * committed_at(batch) - counts.origin
        events = sum(counts.ages.values())
        latencies: Counter[float] = Counter()
        for age, number in counts.ages.items():
            latencies[(age + waited) / 1_000] += number
        return _Events(
            totals.events,
            {reason: number + counts.reasons[reason] for reason, number in self.reasons.items()},
            self.latencies.plus(latencies, (counts.age_sum + waited * events) / 1_000),
            dict(totals.of_version),
        )


class MetricsEndpoint(Exporter[_Events]):
    """A listener that serves the metrics and the health of the scoring job."""

    def __init__(self, config: Config, totals: Totals) -> None:
        """Prepare the pages.

        Args:
            config: the configuration, with ``metrics.port``.
            totals: the running totals of the job, which have counted a batch before this listener is told of it.
        """
        super().__init__(config.metrics.address, config.metrics.port, config.stream.trigger_seconds, _Events())
        self._topic = config.kafka.topics.input
        self._totals = totals

    def counted(self, before: _Events, batch: CommittedBatch) -> _Events:
        """Return the counts with the batch."""
        return before.after(batch, self._totals)

    def of_job(self, own: _Events) -> Iterator[Metric]:
        """Yield the metrics of events and models."""
        from prometheus_client.core import CounterMetricFamily

        yield family(
            CounterMetricFamily,
            "streamscore_events",
            "Events read from the topic.",
            ["topic"],
            [([self._topic], own.events)],
        )
        yield family(
            CounterMetricFamily,
            "streamscore_rejected_events",
            "Events that could not be decoded, by the reason.",
            ["topic", "reason"],
            [([self._topic, reason], number) for reason, number in own.reasons.items()],
        )
        yield own.latencies.family(
            "streamscore_event_latency_seconds", "Time from an event until its batch was written and committed."
        )
        yield from self._of_statistics(own.of_version)
        yield from self._of_models()

    def _of_statistics(self, of_version: Mapping[tuple[str, str], Statistic]) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

        served = {(model.name, model.version): EMPTY for model in tuple(self._totals.models)}
        statistics = (served | dict(of_version)).items()
        for name, help_text in (
            ("scored", "Events that the model scored."),
            ("declined", "Events that the model declined to score."),
            ("labelled", "Scored events with a label."),
            ("correct", "Labelled events whose prediction was right."),
        ):
            samples = [(list(version), getattr(statistic, name)) for version, statistic in statistics]
            yield family(CounterMetricFamily, f"streamscore_{name}_events", help_text, _MODEL, samples)
        yield family(
            CounterMetricFamily,
            "streamscore_confusion",
            "Labelled events by label and prediction, both numbers of classes.",
            (*_MODEL, "label", "prediction"),
            [
                ([*version, *pair], events)
                for version, statistic in statistics
                for pair, events in _named(statistic.confusion).items()
            ],
        )
        loss = SummaryMetricFamily(
            "streamscore_log_loss", "Log loss, in nats, of the labelled events that have one.", labels=_MODEL
        )
        brier = SummaryMetricFamily(
            "streamscore_brier", "Squared error of class 1's probability, of models with two classes.", labels=_MODEL
        )
        for version, statistic in statistics:
            if statistic.score_kind in {"probability", "class_probability"}:
                loss.add_metric(version, statistic.loss_events, statistic.loss)
            if statistic.score_kind == "probability":
                brier.add_metric(version, statistic.loss_events, _squared_error(statistic))
        yield loss
        yield brier

    def _of_models(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        models = tuple(self._totals.models)
        refused = {version.partition(":")[0] for version in self._totals.refused()}
        yield family(
            GaugeMetricFamily,
            "streamscore_model_info",
            "The models in use.",
            (*_MODEL, "uri"),
            [([model.name, model.version, mask_credentials(model.origin)], 1) for model in models],
        )
        yield family(
            GaugeMetricFamily,
            "streamscore_model_refused",
            "1 if the version that the model's alias points to was refused, so that the one before it serves.",
            ["model"],
            [([model.name], int(model.name in refused)) for model in models],
        )


def _named(confusion: Confusion) -> Counter[tuple[str, str]]:
    """Return confusion counts by the names of classes: the first ones, all others together, so that series are few."""
    counts: Counter[tuple[str, str]] = Counter()
    for (label, prediction), events in confusion.items():
        counts[_class_name(label), _class_name(prediction)] += events
    return counts


def _class_name(number: float) -> str:
    return str(int(number)) if 0 <= number < MAX_CLASSES and number.is_integer() else "other"


def _squared_error(statistic: Statistic) -> float:
    """Return Σ(p - y)² over the events with a log loss."""
    parts = (statistic.labelled_p_squared, -2 * statistic.p_times_label, statistic.positives)
    return max(0.0, math.fsum(parts))
