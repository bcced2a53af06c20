"""A check of the label's field name when none of the first messages has a label."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import topic_records
from streamscore.config import Kafka, Message
from streamscore.errors import ServerError
from streamscore.listeners.base import BatchListener
from streamscore.system.console import log

if TYPE_CHECKING:
    from streamscore.listeners.totals import Totals
    from streamscore.stream.progress import CommittedBatch

ENOUGH: Final = 1_000
"""Number of scored messages without any label after which the fields are checked."""

_MOST_NAMES: Final = 8


@dataclass
class LabelField(BatchListener):
    """A listener that warns once if no message has the label's configured field."""

    message: Message
    kafka: Kafka
    totals: Totals
    """The running totals, which have counted a batch before this listener is told of it."""
    _is_done: bool = field(default=False, init=False)

    def committed(self, batch: CommittedBatch) -> None:
        """After enough messages without any label, look at the fields of the last ones."""
        if self._is_done:
            return
        has_labels = self.totals.labelled > 0
        self._is_done = has_labels or self.totals.scored >= ENOUGH
        if not self._is_done or has_labels:
            return
        try:
            self._look(batch)
        except ServerError as error:
            log.warning("no message has a label so far, and their fields cannot be looked at: %s", error)

    def _look(self, batch: CommittedBatch) -> None:
        names: dict[str, None] = {}
        count = 0
        for event in itertools.islice(self._events(batch), ENOUGH):
            if self.message.label_field in event:
                return  # null, which means that the label is not known yet
            names |= dict.fromkeys(event)
            count += 1
        if count:
            shown = ", ".join(repr(name) for name in itertools.islice(names, _MOST_NAMES))
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            log.warning(
                "no message has the field %r (message.label_field), of %s scored ones that were looked at; they have "
                "%s%s. Without labels nothing tells how good the models are",
                *(self.message.label_field, f"{count:,}", shown, more),
            )

    def _events(self, batch: CommittedBatch) -> Iterator[dict[str, Any]]:
        """Yield the objects with the features from the last messages of a batch."""
        for (topic, partition), end in batch.ends.items():
            places = ((partition, offset) for offset in range(max(0, end - ENOUGH), end))
            for record in topic_records.fetch(self.kafka, topic, places):
                event = self._event(record.value())
                if event is not None:
                    yield event

    def _event(self, value: bytes | None) -> dict[str, Any] | None:
        """Return the object with the features of a message; None for a rejected message without one."""
        try:
            event = json.loads(value or b"null")
            for name in self.message.root.split(".") if self.message.root else ():
                event = event[name]
        except (ValueError, TypeError, LookupError, RecursionError):
            return None
        needed = {column.name for column in self.message.columns} or {self.message.features_field}
        return event if isinstance(event, dict) and needed & event.keys() else None
