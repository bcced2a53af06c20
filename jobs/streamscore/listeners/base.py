"""What a listener of batches is: who hears of each committed batch, and may end the stream for a reason of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamscore.errors import StreamscoreError
    from streamscore.stream.progress import CommittedBatch


class BatchListener:
    """Hears of each committed batch, in the thread that runs the query.

    A listener must not stop the stream by failing: what depends on it is not the outcomes. It catches what its own
    server or terminal raises, and says so in the log.
    """

    def open(self) -> None:
        """Begin: called once, before the first query of the job starts."""

    def committed(self, batch: CommittedBatch) -> None:
        """Take note of a batch that is committed."""

    def refresh(self) -> None:
        """Bring what people see up to date: called twice a second, and after the last batch."""

    def fault(self) -> StreamscoreError | None:
        """Return the error with which the stream should end after the batch in flight; None: it should go on."""
        return None

    def close(self) -> None:
        """End: called once, however the job ends."""
