"""The contract of a batch listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamscore.errors import StreamscoreError
    from streamscore.sinks.base import SinkWork
    from streamscore.stream.progress import CommittedBatch


class BatchListener:
    """Base of the listeners, which are called after each committed batch in the thread that runs the query.

    A listener's failure must not stop the stream, because no outcome depends on it. So a listener catches the errors of
    its server or terminal, and logs them.
    """

    def open(self) -> None:
        """Start; called once, before the first query of the job starts."""

    def committed(self, batch: CommittedBatch) -> None:
        """Process a committed batch."""

    def refresh(self) -> None:
        """Update the display; called twice a second, and after the last batch."""

    def polled(self, has_triggered: bool) -> None:
        """Note that the running query answers; called at least twice a second, also while it drains.

        Args:
            has_triggered: whether a trigger of this run has ended, with a batch or without one.
        """

    def wrote(self, sinks: Mapping[str, SinkWork]) -> None:
        """Take note of what the sinks of the running query have done so far; called whenever ``polled`` is.

        Args:
            sinks: by the labels of the sinks; it changes as these go on.
        """

    def fault(self) -> StreamscoreError | None:
        """Return the error with which the stream must end after the batch in flight; None if it may continue."""
        return None

    def close(self) -> None:
        """Stop; called once, however the job ends."""
