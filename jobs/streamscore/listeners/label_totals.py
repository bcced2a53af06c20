"""What became of the labels of this run, as lines of the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamscore.listeners.base import BatchListener
from streamscore.schema import LABEL_COUNTS
from streamscore.system.console import log

if TYPE_CHECKING:
    from streamscore.stream.progress import CommittedBatch


@dataclass
class LabelTotals(BatchListener):
    """Counts of all batches of this run."""

    of_batches: MutableMapping[int, Counter[str]]
    """The counts of each batch, which are taken out once it is committed."""
    seconds: float
    """Seconds between two lines in the log."""
    counts: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    lag: int = 0
    """Labels in the topic that are not read yet."""
    _last: float = field(default_factory=time.monotonic, init=False)

    def committed(self, batch: CommittedBatch) -> None:
        """Add one batch."""
        self.counts.update(self.of_batches.pop(batch.number, Counter()))
        self.batches += 1
        self.lag = self.lag if batch.lag is None else batch.lag

    def refresh(self) -> None:
        """Write a line once the interval has passed."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            log.info("%s", self.line())

    def line(self) -> str:
        """Return the counts as a line; labels that waited before this run make the number of waiting ones smaller."""
        counts = ", ".join(f"{name} {self.counts[name]:,}" for name in LABEL_COUNTS)
        return f"labels: {counts}; lag {self.lag:,}"

    def summary(self) -> dict[str, int]:
        """Return the counts as plain data."""
        return {**{name: self.counts[name] for name in LABEL_COUNTS}, "batches": self.batches, "lag": self.lag}
