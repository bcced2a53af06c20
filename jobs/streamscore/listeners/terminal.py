"""Listeners that show the running totals: as a live table, as lines of a log, or to a caller's function."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live

from streamscore.listeners.base import BatchListener
from streamscore.listeners.totals import Totals
from streamscore.system.console import log, terminal

if TYPE_CHECKING:
    from rich.console import Console


class Terminal(BatchListener):
    """A live table on the terminal, which stops if the terminal closes before the job ends."""

    def __init__(self, totals: Totals, console: Console) -> None:
        self._totals = totals
        self._live = Live(totals.table(), console=console, auto_refresh=False, transient=True)

    def open(self) -> None:
        """Draw the table."""
        with suppress(OSError):
            self._live.start(refresh=True)

    def refresh(self) -> None:
        """Redraw the table."""
        with suppress(OSError):
            self._live.update(self._totals.table(), refresh=True)

    def close(self) -> None:
        """Remove the table from the terminal."""
        with suppress(OSError):
            self._live.stop()


@dataclass
class LogLines(BatchListener):
    """Lines in the log at a fixed interval."""

    totals: Totals
    seconds: float
    _last: float = field(default_factory=time.monotonic, init=False)

    def refresh(self) -> None:
        """Write the lines once the interval has passed."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            for line in self.totals.lines():
                log.info("%s", line)


@dataclass
class Watcher(BatchListener):
    """A caller's function, for instance of a notebook's cell; its exceptions end the stream."""

    totals: Totals
    watch: Callable[[Totals], None]

    def refresh(self) -> None:
        """Call the function with the totals."""
        self.watch(self.totals)


def print_summary(totals: Totals) -> None:
    """Print the totals at the end of a job: a table on a terminal, and lines in the log."""
    console = terminal()
    if console is not None:
        with suppress(OSError):  # the terminal may have closed
            console.print(totals.table())
    for line in totals.lines():
        log.info("summary: %s", line)
