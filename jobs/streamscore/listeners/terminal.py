"""The running totals in view: a live table on a terminal, some lines per interval in a log, a caller's own eyes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live

from streamscore.listeners.base import BatchListener
from streamscore.listeners.totals import Totals
from streamscore.system.console import log

if TYPE_CHECKING:
    from rich.console import Console


class Terminal(BatchListener):
    """A live table. The terminal may go while the job stays: then nothing is drawn any more."""

    def __init__(self, totals: Totals, console: Console) -> None:
        self._totals = totals
        self._live = Live(totals.table(), console=console, auto_refresh=False, transient=True)

    def open(self) -> None:
        """Draw the table."""
        with suppress(OSError):
            self._live.start()

    def refresh(self) -> None:
        """Draw the table anew."""
        with suppress(OSError):
            self._live.update(self._totals.table(), refresh=True)

    def close(self) -> None:
        """Take the table off the terminal."""
        with suppress(OSError):
            self._live.stop()


@dataclass
class LogLines(BatchListener):
    """Some lines in the log, every so many seconds."""

    totals: Totals
    seconds: float
    _last: float = field(default_factory=time.monotonic, init=False)

    def refresh(self) -> None:
        """Write the lines, if it is time to."""
        if time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            for line in self.totals.lines():
                log.info("%s", line)


@dataclass
class Watcher(BatchListener):
    """A function of the caller's, for instance of a notebook's cell; what it raises ends the stream."""

    totals: Totals
    watch: Callable[[Totals], None]

    def refresh(self) -> None:
        """Show the caller the totals."""
        self.watch(self.totals)
