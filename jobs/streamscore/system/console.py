"""Output for people: live on a terminal, plain lines in a log, and never a secret."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streamscore.errors import mask_credentials

TERMINAL_VARIABLE = "STREAMSCORE_TERMINAL"
"""Environment variable with the terminal's device, which the command line sets because spark-submit hides it."""

_NO_LIMIT: Final = 10_000
"""Width in columns of an output that is not a terminal."""

_STYLES: Final = {"ok": "green", "note": "yellow", "FAULT": "bold red"}

VERDICTS: Final = {"better": "green", "worse": "red", "off": "yellow", None: ""}
"""Styles of figures that are better or worse than guessing, or off their target."""

log = logging.getLogger("streamscore")


MAX_LINE: Final = 2_000
"""Most characters of a line to print or log."""

_MAX_LINES: Final = 100
"""Most lines of a log record to log."""


def printable(text: str, limit: int | None = MAX_LINE) -> str:
    """Return an untrusted text as one line that is safe to print.

    Control characters, including terminal escape sequences, line ends and changes of the writing direction, are shown
    as by Python's ``repr``: a header's name or a model's metadata could otherwise change the terminal or forge log
    lines.

    Args:
        text: the text.
        limit: most characters of the result; None: no limit.
    """
    cut = text if limit is None or len(text) <= limit else f"{text[:limit]}…"
    if cut.isprintable():
        return cut
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in cut)


def as_markup(text: str) -> str:
    """Return rich markup that prints as this text, brackets included, with control characters visible."""
    return escape(printable(text))


class _SafeFormatter(logging.Formatter):
    """Formatter that masks credentials in URLs, shows control characters, and indents a record's further lines."""

    def format(self, record: logging.LogRecord) -> str:
        lines = mask_credentials(super().format(record)).split("\n")
        more = [f"… {len(lines) - _MAX_LINES} more lines"] if len(lines) > _MAX_LINES else []
        return "\n    ".join([*map(printable, lines[:_MAX_LINES]), *more])


def set_up_logging() -> None:
    """Send the log of this program to standard error, one line per event; call it once, at the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    # py4j logs each exception of a batch with a stack trace; our error explains it, and Spark's log has the rest.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)


@cache
def terminal() -> Console | None:
    """Return a console on the user's terminal; None if output goes to a file or a pipe.

    Under spark-submit the JVM owns the terminal and Python's standard output is a pipe to the JVM, so the terminal is
    found through the parent process.
    """
    if sys.stdout.isatty():
        return Console()
    device = os.environ.get(TERMINAL_VARIABLE) or _terminal_of_spark_submit()
    if device is None:
        return None
    try:
        stream = Path(device).open("w", encoding="utf-8")  # noqa: SIM115 (lives as long as the process)
        width = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return None
    return Console(file=stream, force_terminal=True, width=width or 100)


def _terminal_of_spark_submit() -> str | None:
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return None
    output = f"/proc/{os.getppid()}/fd/1"
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return None
    try:
        return os.ttyname(descriptor) if os.isatty(descriptor) else None
    except OSError:  # some containers' terminals have no name
        return None
    finally:
        os.close(descriptor)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Show a long step: a spinner on a terminal, lines at start and end in a log.

    Yields a function that shows the step's progress, on a terminal only.
    """
    started = time.monotonic()
    console = terminal()
    if console is None:
        log.info("%s …", title)
        yield lambda _: None
        log.info("%s: done in %.1f s", title, time.monotonic() - started)
        return
    shown = as_markup(title)
    with console.status(shown) as status:
        yield lambda detail: status.update(f"{shown}  [dim]{as_markup(detail)}[/dim]")
    console.print(f"[green]✓[/green] {shown} [dim]{time.monotonic() - started:.1f} s[/dim]")


def print_line(text: str) -> None:
    """Print a line with credentials masked and control characters visible."""
    print(printable(mask_credentials(text)))  # noqa: T201 (output)


def print_table(columns: Mapping[str, int], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as they arrive, as a table on a terminal or else as plain lines, masked and with control characters
    visible.

    Args:
        columns: names of the columns, with each column's width in a plain line.
        rows: the cells of each row.
    """
    masked = ([printable(mask_credentials(cell)) for cell in row] for row in rows)
    if not sys.stdout.isatty():
        for row in masked:
            cells = zip(row, columns.values(), strict=True)
            print(" ".join(f"{cell:<{width}}" for cell, width in cells).rstrip(), flush=True)  # noqa: T201 (output)
        return
    table = Table(*columns)
    with Live(table, console=Console(), vertical_overflow="visible"):
        for row in masked:
            table.add_row(*(Text(cell, style=_STYLES.get(cell.strip(), "")) for cell in row))


def print_tables(draw: Callable[[int], Iterable[Table]], note: str) -> None:
    """Print tables that fit the terminal; elsewhere without lines and colours, at any width.

    Args:
        draw: returns the tables for a width.
        note: a text to print below the tables.
    """
    on_terminal = sys.stdout.isatty()
    console = Console() if on_terminal else Console(width=_NO_LIMIT)
    for table in draw(console.width):
        if not on_terminal:
            table.box = None
        console.print(table)
        console.print()
    console.print(Text(note, style="dim"))


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as one JSON document, with credentials masked and control characters escaped.

    Args:
        value: the value.
        indent: spaces per level; None: the document is one line.
    """
    text = json.dumps(_masked(value), indent=indent, ensure_ascii=False)
    print("".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text))  # noqa: T201 (output)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_credentials(value) if isinstance(value, str) else value
