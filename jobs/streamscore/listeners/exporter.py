"""What a streaming job serves on one port: its health, and metrics of its batches in Prometheus' text format."""

from __future__ import annotations

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import psutil

import streamscore
from streamscore.errors import SetupError
from streamscore.listeners.base import BatchListener
from streamscore.listeners.families import Histogram, family
from streamscore.listeners.health import SILENT_SECONDS, TRIGGERS, Health
from streamscore.system import endpoint
from streamscore.system.console import log
from streamscore.system.endpoint import Endpoint, Page

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from streamscore.sinks.base import SinkWork
    from streamscore.stream.progress import CommittedBatch

DURATIONS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the buckets of a batch's duration, in seconds."""

RELEASE_SECONDS: Final = 5.0
"""How long the check waits for the port: after a crash the process before may take a moment to end."""

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Own = TypeVar("Own")


def check(port: int | None, address: str, key: str) -> None:
    """Check that an endpoint can listen, if there is to be one.

    Args:
        port: the port; None: there is no endpoint.
        address: the address to listen on.
        key: name of the setting of the port, for the message.

    Raises:
        SetupError: the port is in use, or this machine does not have the address.
    """
    if port is None:
        return
    until = time.monotonic() + RELEASE_SECONDS
    while True:
        try:
            endpoint.require_free(address, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                time.sleep(0.2)
                continue
            raise SetupError(
                f"the metrics' port {port} of {address} cannot be listened on ({error.strerror}): "
                f"stop the program that uses it, or set {key} and metrics.address to others"
            ) from None
        return


def committed_at(batch: CommittedBatch) -> float:
    """Return when a batch was committed, in epoch seconds."""
    return datetime.fromisoformat(batch.started.replace("Z", "+00:00")).timestamp() + batch.milliseconds / 1000


@dataclass(frozen=True)
class _Batches:
    """What is known of the batches so far; never changed."""

    durations: Histogram = field(default_factory=lambda: Histogram(DURATIONS))
    last: float | None = None
    """When the last batch was committed, in epoch seconds."""
    lags: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def plus(self, batch: CommittedBatch) -> _Batches:
        seconds = batch.milliseconds / 1000
        return _Batches(self.durations.plus({seconds: 1}, seconds), committed_at(batch), batch.lags or self.lags)


class Exporter(BatchListener, ABC, Generic[Own]):
    """Base of the listeners that serve what they have heard: ``/metrics``, ``/healthz`` and ``/readyz``.

    Each job has a subclass, with the metrics of what that job counts.
    """

    def __init__(self, address: str, port: int | None, trigger_seconds: float, own: Own) -> None:
        """Prepare the pages.

        Args:
            address: the address to listen on.
            port: the port.
            trigger_seconds: seconds between the starts of two batches.
            own: what ``counted`` returns, before the first batch.
        """
        from prometheus_client import CollectorRegistry

        self._address, self._port = address, port or 0
        # In one place, so that a scrape sees all of a batch or nothing of it.
        self._counts: tuple[_Batches, Own] = (_Batches(), own)
        self._sinks: Mapping[str, SinkWork] = {}
        self._health = Health(max(SILENT_SECONDS, TRIGGERS * trigger_seconds))
        self._process_started = psutil.Process().create_time()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._endpoint: Endpoint | None = None

    @abstractmethod
    def counted(self, before: Own, batch: CommittedBatch) -> Own:
        """Return what the job has counted after a batch: an object that is not changed any more.

        Args:
            before: what it had counted before.
            batch: the batch.
        """

    @abstractmethod
    def of_job(self, own: Own) -> Iterator[Metric]:
        """Yield the metrics of what the job counts; called in the threads of requests.

        Args:
            own: what it has counted.
        """

    def open(self) -> None:
        """Listen. A port that was taken since the check is only logged: no outcome depends on the metrics."""
        pages = {"/metrics": self.metrics, "/healthz": self._health.live, "/readyz": self._health.ready}
        try:
            self._endpoint = Endpoint(self._address, self._port, pages)
        except OSError as error:
            place = f"port {self._port} of {self._address}"
            log.warning("there are no metrics: %s cannot be listened on: %s", place, error.strerror)
        else:
            log.info("metrics on port %s of %s", self._endpoint.port, self._address)

    def committed(self, batch: CommittedBatch) -> None:
        """Count a batch."""
        batches, own = self._counts
        self._counts = (batches.plus(batch), self.counted(own, batch))

    def polled(self, has_triggered: bool) -> None:
        """Note that the query answers."""
        self._health.note(has_triggered)

    def wrote(self, sinks: Mapping[str, SinkWork]) -> None:
        """Note what the sinks have done."""
        self._sinks = dict(sinks)

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
        batches, own = self._counts
        yield from self.of_job(own)
        yield from _of_batches(batches)
        yield from _of_sinks(self._sinks)
        yield from self._of_process()

    def _of_process(self) -> Iterator[Metric]:
        import platform

        import pyspark
        from prometheus_client.core import GaugeMetricFamily

        versions = [streamscore.__version__, pyspark.__version__, platform.python_version()]
        yield family(
            GaugeMetricFamily,
            "streamscore_build_info",
            "Versions of what runs.",
            ["version", "spark", "python"],
            [(versions, 1)],
        )
        help_text = "When this process began: it starts again after a fault, and so do all counters."
        yield GaugeMetricFamily("process_start_time_seconds", help_text, value=self._process_started)


def _of_batches(batches: _Batches) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    yield batches.durations.family(
        "streamscore_batch_duration_seconds", "Duration of a batch, from its trigger until it was committed."
    )
    if batches.last is not None:
        help_text = "When the last batch was committed."
        yield GaugeMetricFamily("streamscore_last_batch_timestamp_seconds", help_text, value=batches.last)
    yield family(
        GaugeMetricFamily,
        "streamscore_kafka_lag_events",
        "Records behind the last committed batch, as of Spark's last look at Kafka.",
        ["topic", "partition"],
        [([name, str(partition)], lag) for (name, partition), lag in batches.lags.items()],
    )


def _of_sinks(sinks: Mapping[str, SinkWork]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for name, help_text in (
        ("seconds", "Time that writes to the sink took, with the pauses between attempts."),
        ("errors", "Failed attempts to write to the sink."),
    ):
        samples = [([label], getattr(work, name)) for label, work in sinks.items()]
        yield family(CounterMetricFamily, f"streamscore_sink_{name}", help_text, ["sink"], samples)
