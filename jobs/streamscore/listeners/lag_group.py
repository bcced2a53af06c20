"""Offsets in a consumer group, so that ordinary tools for Kafka show how far behind the job is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from streamscore.clients.group_offsets import GroupOffsets
from streamscore.config import Kafka
from streamscore.errors import RefusedError, ServerError
from streamscore.listeners.base import BatchListener
from streamscore.system.console import log

if TYPE_CHECKING:
    from streamscore.stream.progress import CommittedBatch

AGAIN_SECONDS: Final = 3_600.0
"""How often unchanged offsets are set again: brokers forget those of a group without members, by default in a week."""

RETRY_SECONDS: Final = 10.0
"""How long after a failed request the next one is sent; after a refusal it is ``AGAIN_SECONDS``."""

LAST_SECONDS: Final = 5.0
"""How long the end of the job waits for the last request."""


class LagGroup(BatchListener):
    """A listener that sets a group's offsets to the end of the last committed batch.

    They are never read back, and never beyond the checkpoint. Nothing ever waits for a broker, except at the end of the
    job, and a failure is only logged: once, until it is another one.
    """

    def __init__(self, kafka: Kafka, group: str) -> None:
        """Set up, without a connection yet.

        Args:
            kafka: the brokers.
            group: name of the group, which nobody else uses.
        """
        self._kafka = kafka
        self._group = group
        self._offsets: GroupOffsets | None = None
        self._ends: Mapping[tuple[str, int], int] = {}
        self._has_moved = False
        self._sent: float | None = None
        self._not_before = 0.0
        self._told = ""

    def open(self) -> None:
        """Start to connect."""
        self._offsets = GroupOffsets(self._kafka, self._group)

    def committed(self, batch: CommittedBatch) -> None:
        """Note where a batch ended."""
        self._ends = dict(batch.ends)
        self._has_moved = True

    def refresh(self) -> None:
        """Take the outcome of the last request, and send the next one if it is due."""
        self._take(0.0)
        if self._offsets is not None and not self._offsets.is_waiting and self._is_due():
            self._send(self._offsets)

    def close(self) -> None:
        """Set the last offsets, if the brokers answer in time."""
        if self._offsets is None:
            return
        until = time.monotonic() + LAST_SECONDS
        self._take(LAST_SECONDS)
        if self._has_moved and not self._offsets.is_waiting and time.monotonic() >= self._not_before:
            self._send(self._offsets)
            self._take(max(0.0, until - time.monotonic()))

    def _is_due(self) -> bool:
        now = time.monotonic()
        if not self._ends or now < self._not_before:
            return False
        return self._has_moved or (self._sent is not None and now >= self._sent + AGAIN_SECONDS)

    def _send(self, offsets: GroupOffsets) -> None:
        self._has_moved = False
        self._sent = time.monotonic()
        offsets.commit(self._ends)

    def _take(self, seconds: float) -> None:
        if self._offsets is None:
            return
        try:
            if self._offsets.take(seconds):
                self._told = ""
        except ServerError as error:
            pause = AGAIN_SECONDS if isinstance(error, RefusedError) else RETRY_SECONDS
            self._not_before = time.monotonic() + pause
            self._has_moved = True
            if str(error) != self._told:
                self._told = str(error)
                log.warning("tools for Kafka show no lag of this job: %s", error)
