"""Whether a streaming job is alive and ready, as pages for probes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from streamscore.system.endpoint import Page

SILENT_SECONDS: Final = 300.0
"""Shortest time without an answer of the query, in seconds, after which the job counts as hung."""

TRIGGERS: Final = 10
"""Shortest time without an answer, in trigger intervals."""


@dataclass
class Health:
    """Whether the job is alive, and whether it works; asked by other threads than that of the query.

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
        """Return the page of readiness: 503 until the first trigger has ended; models are loaded before it."""
        return Page(b"ok\n") if self._has_triggered else Page(b"the first trigger has not ended yet\n", 503)
