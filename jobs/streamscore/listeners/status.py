"""One document per batch in the status index, for the page, the report and `streamscore status`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import elasticsearch
from streamscore.config import Config
from streamscore.errors import RefusedError, ServerError
from streamscore.listeners.base import BatchListener
from streamscore.listeners.totals import Totals
from streamscore.schema import TIME
from streamscore.system.console import log

if TYPE_CHECKING:
    from streamscore.stream.progress import CommittedBatch

STATUSES_KEPT: Final = 1_000
"""Most status documents to queue while Elasticsearch does not answer."""


class StatusDocuments(BatchListener):
    """A listener that writes each batch's status document; a failure is only logged, as no outcome depends on it.

    A document that could not be written is retried with the next batch's document.
    """

    def __init__(self, config: Config, totals: Totals) -> None:
        self._settings = config.elasticsearch
        self._topic = config.kafka.topics.input
        self._totals = totals
        self._client = elasticsearch.client(self._settings)
        self._waiting: deque[dict[str, Any]] = deque(maxlen=STATUSES_KEPT)

    def committed(self, batch: CommittedBatch) -> None:
        """Write the batch's document."""
        self._waiting.append(self.document(batch))
        self._write()

    def close(self) -> None:
        """Write the queued documents, with one attempt, and close the connection."""
        self._write()
        self._client.close()

    def document(self, batch: CommittedBatch) -> dict[str, Any]:
        """Return a batch's document, with the fields of ``schema.STATUS_PROPERTIES``."""
        observed, totals = batch.observed["quality"], self._totals
        return {
            TIME: batch.started,
            "query": batch.query,
            "batch": batch.number,
            "events": observed["events"],
            "rejected": observed["rejected"],
            "lag": totals.lag,
            "batch_ms": batch.milliseconds,
            "events_per_second": batch.rows_per_second,
            "models": [f"{model.name}:{model.version}" for model in totals.models],
            "refused": [f"{version}: {reason}" for version, reason in totals.refused().items()],
            "synthetic": totals.synthetic,
            "topic": self._topic,
            "score_kinds": [f"{model.name}:{model.version}:{model.score_kind}" for model in totals.models],
        }

    def _write(self) -> None:
        while self._waiting:
            try:
                elasticsearch.put_status(self._client, self._settings, self._waiting[0])
            except ServerError as error:
                log.warning("a batch's status is not in %s: %s", self._settings.status_index, error)
                if not isinstance(error, RefusedError):
                    return
            self._waiting.popleft()
