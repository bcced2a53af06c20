"""The metrics of label_stream: what became of labels, how many wait, and how many events have one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from streamscore.clients import label_state
from streamscore.clients.label_state import LabelState
from streamscore.config import Config
from streamscore.errors import StreamscoreError
from streamscore.listeners.exporter import Exporter
from streamscore.listeners.families import family
from streamscore.schema import LABEL_COUNTS
from streamscore.system.console import log

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from streamscore.listeners.label_totals import LabelTotals
    from streamscore.stream.progress import CommittedBatch

OUTCOMES: Final = tuple(name for name in LABEL_COUNTS if name not in {"received", "pending", "ambiguous"})
"""What finally becomes of a label; each label has one of these, or waits."""

STATE_SECONDS: Final = 30.0
"""How often Elasticsearch is asked at most, however often the page is read."""


class _Labels(NamedTuple):
    """What the job has counted after a batch."""

    counts: Mapping[str, int]
    query: str | None = None
    """Identity of the query; None before the first batch."""


class LabelMetrics(Exporter[_Labels]):
    """A listener that serves the metrics and the health of label_stream.

    How many labels wait, and how many events have one, is asked of Elasticsearch when the page is read. While that
    does not answer, the two are missing.
    """

    def __init__(self, config: Config, totals: LabelTotals) -> None:
        """Prepare the pages.

        Args:
            config: the configuration, with ``metrics.labels_port``.
            totals: the running totals of the job, which have counted a batch before this listener is told of it.
        """
        super().__init__(config.metrics.address, config.metrics.labels_port, config.stream.trigger_seconds, _Labels({}))
        self._config = config
        self._totals = totals
        self._asking = threading.Lock()
        self._asked = -math.inf
        self._state: LabelState | None = None

    def counted(self, before: _Labels, batch: CommittedBatch) -> _Labels:  # noqa: ARG002 (the totals have added it up)
        """Return the counts with the batch."""
        return _Labels(dict(self._totals.counts), batch.query)

    def of_job(self, own: _Labels) -> Iterator[Metric]:
        """Yield the metrics of labels."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        topic = self._config.kafka.topics.labels
        for name, help_text in (
            ("received", "Messages read from the topic of labels."),
            ("ambiguous", "Matched labels that several events got."),
        ):
            samples = [([topic], own.counts.get(name, 0))]
            yield family(CounterMetricFamily, f"streamscore_{name}_labels", help_text, ["topic"], samples)
        yield family(
            CounterMetricFamily,
            "streamscore_labels",
            "What finally became of labels.",
            ["outcome"],
            [([name], own.counts.get(name, 0)) for name in OUTCOMES],
        )
        state = self._current(own.query)
        pending = [] if state is None else [([topic], state.pending)]
        yield family(GaugeMetricFamily, "streamscore_labels_pending", "Labels that wait.", ["topic"], pending)
        yield family(
            GaugeMetricFamily,
            "streamscore_label_coverage_ratio",
            "Share of the events that the model scored in the last 24 hours and that have a label by now.",
            ["model"],
            [] if state is None else [([model], share) for model, share in state.coverage.items()],
        )

    def _current(self, query: str | None) -> LabelState | None:
        """Return the state of the labels as of a moment ago; None if Elasticsearch does not answer."""
        if query is None:
            return None
        with self._asking:
            if time.monotonic() - self._asked >= STATE_SECONDS:
                try:
                    self._state = label_state.read(self._config, query)
                except StreamscoreError as error:
                    log.debug("the metrics lack how many labels wait: %s", error)
                    self._state = None
                self._asked = time.monotonic()
            return self._state
