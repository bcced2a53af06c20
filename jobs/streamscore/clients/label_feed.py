"""Labels in messages of their own, some time after their events: late labels to try things out with."""

from __future__ import annotations

import heapq
import json
import math
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from streamscore.clients.producer import Outbox

if TYPE_CHECKING:
    from streamscore.config import Config

LONGEST: Final = 5.0
"""Longest time from an event to its label, in mean times."""


class LabelFeed:
    """A queue of labels, each due at a random time after its event: exponential, as the time to a click often is."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        """Make an empty queue.

        Args:
            config: ``seed.label_delay``, the mean seconds from an event to its label; ``seed.label_share``, the share
                of the events that get one; the names of the fields of a label.
            clock: returns epoch seconds.
        """
        self._fields = config.labels
        self._mean = config.seed.label_delay or 0.0
        self._share = config.seed.label_share
        self._clock = clock
        self._outbox = Outbox(config.kafka, config.kafka.topics.labels)
        self._random = random.Random(0)  # noqa: S311 (no secret)
        self._due: list[tuple[float, bytes, float]] = []
        self.sent = 0
        """Number of labels that were sent."""

    def add(self, key: bytes, label: float | None) -> None:
        """Put the label of an event that was just sent into the queue, unless it is one of those that never come.

        Args:
            key: the event's key.
            label: the label; an event without one gets none.
        """
        delay, comes = self._random.expovariate(1.0) * self._mean, self._random.random() < self._share
        if label is not None and math.isfinite(label) and comes:
            heapq.heappush(self._due, (self._clock() + min(delay, LONGEST * self._mean), key, label))

    def send_due(self) -> None:
        """Send the labels that are due.

        Raises:
            ServerError: the broker did not accept a label.
        """
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            at, key, label = heapq.heappop(self._due)
            identity = key.decode()
            names = self._fields
            message = {names.id_field: identity, names.label_field: label, names.time_field: round(at * 1_000)}
            self._outbox.send(f"the label of {identity}", key, json.dumps(message), [])
            self.sent += 1
        self._outbox.poll()

    def finish(self, show: Callable[[str], None]) -> None:
        """Send all labels, each when it is due, and wait until the broker has them.

        Args:
            show: shows how many are left.

        Raises:
            ServerError: the broker did not accept a label.
        """
        while self._due:
            show(f"{len(self._due):,} left")
            time.sleep(min(0.2, max(0.0, self._due[0][0] - self._clock())))
            self.send_due()
        self._outbox.flush()
