"""The metrics of the scoring job in Prometheus' text format, and its health, on one port.

No label is ever taken from an event: labels are names and versions of models, topics, partitions and classes.
"""

from __future__ import annotations

import errno
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import psutil

import streamscore
from streamscore.config import Config, Metrics
from streamscore.errors import SetupError, mask_credentials
from streamscore.listeners.base import BatchListener
from streamscore.quality.confusion import MAX_CLASSES, Confusion
from streamscore.quality.statistic import EMPTY, Statistic
from streamscore.system import endpoint
from streamscore.system.console import log
from streamscore.system.endpoint import Endpoint, Page

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from streamscore.listeners.totals import Totals
    from streamscore.stream.progress import CommittedBatch

DURATIONS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the buckets of a batch's duration, in seconds."""

SILENT_SECONDS: Final = 300.0
"""Shortest time without an answer of the query, in seconds, after which the job counts as hung."""

RELEASE_SECONDS: Final = 5.0
"""How long the check waits for the port: after a crash the process before may take a moment to end."""

_TRIGGERS: Final = 10
"""Shortest time without an answer, in trigger intervals."""

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MODEL: Final = ("model", "model_version")


def check(settings: Metrics) -> None:
    """Check that the endpoint can listen, if there is to be one.

    Raises:
        SetupError: its port is in use, or this machine does not have its address.
    """
    if settings.port is None:
        return
    until = time.monotonic() + RELEASE_SECONDS
    while True:
        try:
            endpoint.require_free(settings.address, settings.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                time.sleep(0.2)
                continue
            raise SetupError(
                f"the metrics' port {settings.port} of {settings.address} cannot be listened on ({error.strerror}): "
                "stop the program that uses it, or set metrics.port and metrics.address to others"
            ) from None
        return


@dataclass
class Health:
    """Whether the job is alive, and whether it scores; asked by other threads than that of the query.

    A server that is away makes neither false: waiting for it is what the job does on purpose, and a restart would not
    bring it back.
    """

    limit: float
    """Seconds without an answer of the query after which the job counts as hung."""
    _answered: float | None = field(default=None, init=False)
    _has_triggered: bool = field(default=False, init=False)

    def note(self, has_triggered: bool) -> None:
        """Note that the query has answered.

        Args:
            has_triggered: whether a trigger has ended.
        """
        self._answered = time.monotonic()
        self._has_triggered = has_triggered

    def live(self) -> Page:
        """Return the page of liveness: 503 if the query has not answered for too long."""
        silent = 0.0 if self._answered is None else time.monotonic() - self._answered
        if silent > self.limit:
            return Page(f"the query has not answered for {silent:.0f} s\n".encode(), 503)
        return Page(b"ok\n")

    def ready(self) -> Page:
        """Return the page of readiness: 503 until the first trigger has ended; the models are loaded before it."""
        return Page(b"ok\n") if self._has_triggered else Page(b"the first trigger has not ended yet\n", 503)


@dataclass(frozen=True)
class _Counts:
    """What the job has counted after a batch; never changed, so that a scrape sees all of a batch or nothing of it."""

    events: int = 0
    rejected: int = 0
    of_version: Mapping[tuple[str, str], Statistic] = field(default_factory=dict)
    durations: tuple[int, ...] = (0,) * (len(DURATIONS) + 1)
    """Batches by the bucket of their duration; the last one has no upper bound."""
    seconds: float = 0.0
    """Sum of the durations."""
    last: float | None = None
    """When the last batch was committed, in epoch seconds."""
    lags: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def after(self, batch: CommittedBatch, totals: Totals) -> _Counts:
        """Return the counts with one more batch, which the totals have already."""
        seconds = batch.milliseconds / 1000
        durations = list(self.durations)
        durations[bisect_left(DURATIONS, seconds)] += 1
        return _Counts(
            totals.events,
            totals.rejected,
            dict(totals.of_version),
            tuple(durations),
            self.seconds + seconds,
            datetime.fromisoformat(batch.started.replace("Z", "+00:00")).timestamp() + seconds,
            batch.lags or self.lags,
        )


class MetricsEndpoint(BatchListener):
    """A listener that serves what it has heard: ``/metrics``, ``/healthz`` and ``/readyz``."""

    def __init__(self, config: Config, totals: Totals) -> None:
        """Prepare the pages.

        Args:
            config: the configuration, with ``metrics.port``.
            totals: the running totals of the job, which have counted a batch before this listener is told of it.
        """
        from prometheus_client import CollectorRegistry

        self._settings = config.metrics
        self._topic = config.kafka.topics.input
        self._totals = totals
        self._counts = _Counts()
        self._health = Health(max(SILENT_SECONDS, _TRIGGERS * config.stream.trigger_seconds))
        self._process_started = psutil.Process().create_time()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._endpoint: Endpoint | None = None

    def open(self) -> None:
        """Listen. A port that was taken since the check is only logged: no outcome depends on the metrics."""
        pages = {"/metrics": self.metrics, "/healthz": self._health.live, "/readyz": self._health.ready}
        address, port = self._settings.address, self._settings.port or 0
        try:
            self._endpoint = Endpoint(address, port, pages)
        except OSError as error:
            log.warning("there are no metrics: port %s of %s cannot be listened on: %s", port, address, error.strerror)
        else:
            log.info("metrics on port %s of %s", self._endpoint.port, address)

    def committed(self, batch: CommittedBatch) -> None:
        """Count a batch."""
        self._counts = self._counts.after(batch, self._totals)

    def polled(self, has_triggered: bool) -> None:
        """Note that the query answers."""
        self._health.note(has_triggered)

    def close(self) -> None:
        """Stop listening."""
        if self._endpoint is not None:
            self._endpoint.close()

    def metrics(self) -> Page:
        """Return the page of the metrics."""
        from prometheus_client import generate_latest

        return Page(generate_latest(self._registry), content_type=_CONTENT_TYPE)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, for the registry; called in the threads of requests."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counts, topic = self._counts, [self._topic]
        yield _family(
            CounterMetricFamily,
            "streamscore_events",
            "Events read from the topic.",
            ["topic"],
            [(topic, counts.events)],
        )
        yield _family(
            CounterMetricFamily,
            "streamscore_rejected_events",
            "Events that could not be decoded.",
            ["topic"],
            [(topic, counts.rejected)],
        )
        yield from self._of_models(counts.of_version)
        batches = list(accumulate(counts.durations))
        yield HistogramMetricFamily(
            "streamscore_batch_duration_seconds",
            "Duration of a batch, from its trigger until it was committed.",
            buckets=[(str(bound), number) for bound, number in zip((*DURATIONS, "+Inf"), batches, strict=True)],
            sum_value=counts.seconds,
        )
        if counts.last is not None:
            help_text = "When the last batch was committed."
            yield GaugeMetricFamily("streamscore_last_batch_timestamp_seconds", help_text, value=counts.last)
        yield _family(
            GaugeMetricFamily,
            "streamscore_kafka_lag_events",
            "Records behind the last committed batch, as of Spark's last look at Kafka.",
            ["topic", "partition"],
            [([name, str(partition)], lag) for (name, partition), lag in counts.lags.items()],
        )
        yield from self._about()

    def _of_models(self, of_version: Mapping[tuple[str, str], Statistic]) -> Iterator[Metric]:
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
            yield _family(CounterMetricFamily, f"streamscore_{name}_events", help_text, _MODEL, samples)
        yield _family(
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

    def _about(self) -> Iterator[Metric]:
        import platform

        import pyspark
        from prometheus_client.core import GaugeMetricFamily

        models = tuple(self._totals.models)
        refused = {version.partition(":")[0] for version in self._totals.refused()}
        yield _family(
            GaugeMetricFamily,
            "streamscore_model_info",
            "The models in use.",
            (*_MODEL, "uri"),
            [([model.name, model.version, mask_credentials(model.origin)], 1) for model in models],
        )
        yield _family(
            GaugeMetricFamily,
            "streamscore_model_refused",
            "1 if the version that the model's alias points to was refused, so that the one before it serves.",
            ["model"],
            [([model.name], int(model.name in refused)) for model in models],
        )
        versions = [streamscore.__version__, pyspark.__version__, platform.python_version()]
        yield _family(
            GaugeMetricFamily,
            "streamscore_build_info",
            "Versions of what runs.",
            ["version", "spark", "python"],
            [(versions, 1)],
        )
        help_text = "When this process began: it starts again after a fault, and so do all counters."
        yield GaugeMetricFamily("process_start_time_seconds", help_text, value=self._process_started)


def _family(
    kind: Any, name: str, help_text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """Return a metric with one sample per combination of labels."""
    family: Metric = kind(name, help_text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)  # type: ignore[attr-defined]  # all families have it, their base has not
    return family


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
