"""The limit on rejected messages: a changed producer must not divert the whole topic into the rejected topic."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamscore.config import Stream
from streamscore.errors import RejectedShareError
from streamscore.listeners.base import BatchListener

if TYPE_CHECKING:
    from streamscore.stream.progress import CommittedBatch


@dataclass
class RejectedShare(BatchListener):
    """A listener that ends the stream when too large a share of the last messages was rejected."""

    settings: Stream
    topic: str
    """Topic of the rejected messages, for the error message."""
    _window: deque[tuple[int, int]] = field(default_factory=deque, init=False)
    """Events and rejected messages of each of the last batches over which the share is computed."""

    def committed(self, batch: CommittedBatch) -> None:
        """Count the batch, and drop batches that are too old."""
        observed = batch.observed["quality"]
        if observed["events"]:
            self._window.append((observed["events"], observed["rejected"]))
        while len(self._window) > 1 and self._events() - self._window[0][0] >= self.settings.rejected_window:
            self._window.popleft()

    def share(self) -> float:
        """Return the share of rejected messages in the last batches, in [0, 1]; 0 until these have enough events."""
        events = self._events()
        if events < max(1, self.settings.rejected_window):
            return 0.0
        return sum(rejected for _, rejected in self._window) / events

    def fault(self) -> RejectedShareError | None:
        """Return the error if ``stream.max_rejected_share`` is exceeded."""
        limit = self.settings.max_rejected_share
        if limit is None or self.share() <= limit:
            return None
        return RejectedShareError(
            f"{self.share():.0%} of the last messages were rejected, more than stream.max_rejected_share = "
            f"{limit:.0%}: did a producer change? They are in the topic {self.topic!r} (`streamscore rejected list`). "
            "To go on regardless, set the limit to null"
        )

    def _events(self) -> int:
        return sum(events for events, _ in self._window)
