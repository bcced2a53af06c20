"""Send messages in order at a constant rate, so that a topic fills like a live one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamscore.clients.label_feed import LabelFeed
from streamscore.clients.producer import Outbox
from streamscore.config import Config
from streamscore.system.console import log, step, terminal

if TYPE_CHECKING:
    from pyspark.sql import Row

TICK = 0.01
"""Seconds between two checks of the clock: due messages are sent together, at most this late."""

REPORT_SECONDS = 10.0


def send_paced(messages: Iterable[Row], total: int, rate: float, config: Config) -> None:
    """Send messages (``key``, ``value``, ``label``) to the input topic at ``rate`` messages per second.

    Each message has a due time relative to the first message, so short delays are made up for and never add up. With
    ``seed.label_delay`` the labels follow later, in the topic of labels.

    Args:
        messages: the messages, in order; the label only matters with ``seed.label_delay``.
        total: number of messages, for the progress bar.
        rate: messages per second.
        config: the configuration.

    Raises:
        ServerError: the broker did not accept a message.
    """
    outbox = Outbox(config.kafka, config.kafka.topics.input, ". Run again with --resume")
    feed = None if config.seed.label_delay is None else LabelFeed(config)
    coming = iter(messages)
    first = list(islice(coming, 1))  # the time to sort and read does not count as a delay
    with _progress(total, rate) as show:
        started = time.monotonic()
        for number, message in enumerate(chain(first, coming)):
            due = started + number / rate
            while (early := due - time.monotonic()) > TICK:
                outbox.poll()
                if feed is not None:
                    feed.send_due()
                show(number)
                time.sleep(min(early, 0.2))
            key = bytes(message["key"])
            outbox.send(key.decode(), key, message["value"], [("id", key)])
            outbox.poll()
            if feed is not None:
                feed.add(key, message["label"])
                feed.send_due()
            if number % 1000 == 0:
                show(number)
        outbox.flush()
        show(total)
    if feed is not None:
        with step("Sending the labels that are due later") as left:
            feed.finish(left)
        log.info("sent %s labels to the topic %s", f"{feed.sent:,}", config.kafka.topics.labels)


@contextmanager
def _progress(total: int, rate: float) -> Iterator[Callable[[int], None]]:
    """Show the progress: a bar on a terminal, a line every ten seconds in a log."""
    console = terminal()
    started = time.monotonic()
    if console is None:
        last = started

        def line(sent: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= REPORT_SECONDS:
                last = now
                left = (total - sent) / rate
                log.info(
                    "sent %s of %s (%s/s), %.0f s left",
                    f"{sent:,}",
                    f"{total:,}",
                    f"{sent / (now - started):,.0f}",
                    left,
                )

        yield line
        return
    columns = (
        TextColumn("seeding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("seeding", total=total, pace=0.0)

        def bar(sent: int) -> None:
            progress.update(task, completed=sent, pace=sent / max(0.001, time.monotonic() - started))

        yield bar
