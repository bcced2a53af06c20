"""Reads the figures from Elasticsearch repeatedly, in a time that does not grow with the number of documents.

How many documents each bucket of time holds is known to the server without looking at any of them. So that is asked
first, and only the buckets whose number changed are counted by outcome: while a stream runs, the last one or two. To
notice even documents that were replaced, the bucket that was counted longest ago is counted again each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import elasticsearch
from streamscore.config import Elasticsearch
from streamscore.dashboard import queries
from streamscore.dashboard.figures import Bucket, Snapshot
from streamscore.dashboard.queries import Search
from streamscore.errors import RefusedError, ServerError, TooManyBucketsError
from streamscore.quality.windows import Period, Window, of_batches, window
from streamscore.system.console import log

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

BUDGET: Final = 500_000
"""Most documents that one refresh counts by outcome, if buckets are not larger; the others have their turn later."""


@dataclass(frozen=True)
class Fault:
    """Why there are no newer figures."""

    since: int
    """Epoch milliseconds."""
    reason: str
    refused: bool
    """Whether Elasticsearch answers, but refuses."""


@dataclass(frozen=True)
class View:
    """What a page can show: the latest figures, and why there are no newer ones."""

    snapshot: Snapshot | None
    fault: Fault | None = None
    asked_at: int = 0
    """When Elasticsearch was asked last, or, after a fault, given up; in epoch milliseconds."""


class Reader:
    """Reads snapshots and remembers the buckets that it counted; one of them serves every viewer of a page."""

    def __init__(self, settings: Elasticsearch, timeout: float = 10.0, budget: int | None = BUDGET) -> None:
        """Connect at the first use.

        Args:
            settings: the server and the indices.
            timeout: seconds that a request may take.
            budget: most documents that one reading counts by outcome; None for all.
        """
        self._settings = settings
        self._client: Client = elasticsearch.client(settings, timeout)
        self._budget = budget
        self._known: dict[str, tuple[int, dict[int, Bucket]]] = {}
        self._views: dict[str, View] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def view(self, time_range: str, now: int, max_age: int) -> View:
        """Return the figures of a time range, or the last ones and why there are no newer ones.

        Args:
            time_range: one of ``windows.RANGES``.
            now: this moment, in epoch milliseconds.
            max_age: milliseconds; a view that is not older is returned again. A caller that queued while the server
                timed out gets that failure instead of waiting for a second timeout.
        """
        with self._lock:
            old = self._views.get(time_range, View(None))
            if now - old.asked_at < max_age:
                return old
            began = time.monotonic()
            try:
                new = View(self.read(time_range, now), asked_at=now)
            except ServerError as error:
                fault = Fault(old.fault.since if old.fault else now, str(error), isinstance(error, RefusedError))
                waited = round((time.monotonic() - began) * 1_000)
                new = View(old.snapshot, fault, now + waited)
            if (old.fault is None) != (new.fault is None):
                back = f"Elasticsearch at {self._settings.url} answers again"
                log.warning("%s", new.fault.reason if new.fault else back)
            self._views[time_range] = new
            return new

    def read(self, time_range: str, now: int) -> Snapshot:
        """Read the figures of a time range.

        Args:
            time_range: one of ``windows.RANGES``.
            now: this moment, in epoch milliseconds.

        Raises:
            ServerError: Elasticsearch cannot be reached, or refuses.
        """
        settings = self._settings
        (period_answer, stream_answer), took = self._search(queries.period(settings), queries.stream(settings))
        period, stream = queries.read_period(period_answer), queries.read_stream(stream_answer)
        shown = window(time_range, period or Period(now, now), now, (1,))
        worked = of_batches(shown, queries.read_period(stream_answer) or Period(now, now))
        (counts_answer, rejected_answer, batches_answer), more = self._search(
            queries.counts(settings, shown),
            queries.rejected(settings, shown),
            queries.batches(settings, worked),
        )
        took += more
        buckets, pending, more = self._count(time_range, shown, queries.read_counts(counts_answer))
        return Snapshot(
            read_at=now,
            period=period,
            window=shown,
            batch_window=worked,
            buckets=buckets,
            pending=pending,
            rejected=queries.read_rejected(rejected_answer),
            stream=stream,
            versions=queries.read_versions(batches_answer),
            throughput=queries.read_throughput(batches_answer),
            took=took + more,
        )

    def _count(self, time_range: str, shown: Window, counts: dict[int, int]) -> tuple[tuple[Bucket, ...], int, int]:
        """Count the buckets that need it; return the known ones, the documents left to count, and the server's time."""
        interval, remembered = self._known.get(time_range, (shown.interval, {}))
        known = {start: remembered[start] for start in remembered if start in counts and interval == shown.interval}
        due = plan(known, counts, self._budget)
        took = 0
        if due:
            counted, took = self._tallied(shown, due)
            for start in due:
                known.pop(start, None)  # to put it last: it is now the one that was counted most recently
            known.update(counted)
        self._known[time_range] = shown.interval, known
        buckets = tuple(known[start] for start in sorted(counts) if start in known)
        left = sum(counts.values()) - sum(bucket.documents for bucket in buckets)
        return buckets, max(0, left), took

    def _tallied(self, shown: Window, due: Sequence[int]) -> tuple[dict[int, Bucket], int]:
        """Count buckets by outcome, in several requests if there are too many classes for one answer."""
        try:
            (answer,), took = self._search(queries.tallies(self._settings, shown, due))
        except TooManyBucketsError:
            if len(due) == 1:
                raise
            half = len(due) // 2
            (newer, took), (older, more) = (self._tallied(shown, part) for part in (due[:half], due[half:]))
            return newer | older, took + more
        return queries.read_tallies(answer), took

    def _search(self, *searches: Search) -> tuple[list[dict[str, Any]], int]:
        return elasticsearch.search(self._client, self._settings, searches)


def plan(known: dict[int, Bucket], counts: dict[int, int], budget: int | None) -> Sequence[int]:
    """Choose the buckets to count now: those that changed, and the one that was counted longest ago.

    Of those that changed the newest comes first, then the ones that were never counted, then the others, each time the
    newest first.

    Args:
        known: the buckets as they were counted, the longest ago first.
        counts: the number of documents that each bucket holds now, by its start.
        budget: most documents to count, or None. Two buckets that changed are counted all the same: while a stream runs
            one of them is always the newest, and the others would never have their turn.
    """
    changed = sorted(start for start in counts if start not in known or known[start].documents != counts[start])
    newest, others = changed[-1:], changed[-2::-1]
    others.sort(key=lambda start: start in known)
    oldest = [start for start in known if start not in changed][:1]
    due: list[int] = []
    documents = 0
    for start in [*newest, *others, *oldest]:
        documents += counts[start]
        if len(due) >= min(2, len(changed)) and budget is not None and documents > budget:
            break
        due.append(start)
    return due
