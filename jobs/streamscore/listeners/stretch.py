"""A listener that shows how far a replay is and how long it will take."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from streamscore.listeners.base import BatchListener
from streamscore.system.console import log, terminal

if TYPE_CHECKING:
    from rich.table import Table

    from streamscore.listeners.totals import Totals


class StretchProgress(BatchListener):
    """The totals with the share that is done and the time left: live on a terminal, or as lines of a log."""

    def __init__(self, totals: Totals, records: int, seconds: float) -> None:
        """Make a listener.

        Args:
            totals: the running totals, whose lag is the number of records left.
            records: number of records to score.
            seconds: seconds between two lines of a log.
        """
        self._totals = totals
        self._records = totals.lag = records
        self._seconds = seconds
        self._started = self._last = time.monotonic()
        console = terminal()
        self._live = (
            None if console is None else Live(self._table(), console=console, auto_refresh=False, transient=True)
        )

    def open(self) -> None:
        """Draw the table."""
        self._started = self._last = time.monotonic()
        if self._live is not None:
            with suppress(OSError):
                self._live.start(refresh=True)

    def refresh(self) -> None:
        """Redraw the table, or write a line once the interval has passed."""
        if self._live is not None:
            with suppress(OSError):
                self._live.update(self._table(), refresh=True)
        elif time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            log.info("%s", self.text(self._last - self._started))

    def close(self) -> None:
        """Remove the table from the terminal."""
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()

    def text(self, seconds: float) -> str:
        """Return how many records are scored, and the time left at the mean rate of the seconds since the start."""
        done = self._records - self._totals.lag
        progress = f"{done:,} of {self._records:,} records ({done / max(1, self._records):.0%})"
        if not done or not self._totals.lag:
            return progress
        return f"{progress}, {duration(seconds * self._totals.lag / done)} left"

    def _table(self) -> Table:
        table = self._totals.table()
        progress, comparisons = self.text(time.monotonic() - self._started), str(table.caption or "")
        table.caption, table.caption_justify = Text("\n".join(filter(None, [progress, comparisons]))), "left"
        return table


def duration(seconds: float) -> str:
    """Return a length of time in words: ``40 s``, ``12 min``, ``3 h 5 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:  # noqa: PLR2004 (up to there, seconds say more)
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 (an hour)
