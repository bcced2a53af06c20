"""Read the figures from Elasticsearch repeatedly, in a time that does not depend on the number of events.

Statistics are kept by time window, and few windows change between two refreshes. So the reader first requests a
fingerprint of each bucket of windows, and reads only the buckets with a new fingerprint again: while a stream runs, the
last one or two.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import comparison_reader, elasticsearch, label_lag, quality_reader
from streamscore.config import Config
from streamscore.dashboard import comparisons, queries
from streamscore.dashboard.buckets import Bucket, Tally
from streamscore.dashboard.figures import Snapshot
from streamscore.dashboard.queries import Mark, Search
from streamscore.errors import RefusedError, ServerError
from streamscore.quality.statistic import Statistic, combined
from streamscore.quality.windows import Period, Window, of_batches, window
from streamscore.system.console import log

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client


LAG_AGE_MS: Final = 60_000
"""Age in milliseconds at which the lag of labels is read again."""


@dataclass(frozen=True)
class Fault:
    """A reason why there are no newer figures."""

    since: int
    """Time of the fault, in epoch milliseconds."""
    reason: str
    refused: bool
    """Whether Elasticsearch answered with a refusal."""


@dataclass(frozen=True)
class View:
    """The latest figures, and the fault that prevents newer ones."""

    snapshot: Snapshot | None
    fault: Fault | None = None
    asked_at: int = 0
    """Time of the last request, or, after a fault, of its end; in epoch milliseconds."""


class Reader:
    """A reader of snapshots that caches buckets; one reader serves all viewers of a page."""

    def __init__(self, config: Config, timeout: float = 10.0) -> None:
        """Make a reader that connects on first use.

        Args:
            config: names the server, the indices and the lengths of windows.
            timeout: seconds that a request may take.
        """
        self._config = config
        self._settings = config.elasticsearch
        self._lengths = config.quality.windows
        self._attribution = quality_reader.attribution(config)
        self._lags: dict[str, tuple[int, label_lag.Lags]] = {}
        self._client: Client = elasticsearch.client(config.elasticsearch, timeout)
        self._known: dict[str, tuple[Window, dict[int, tuple[Mark, Bucket]]]] = {}
        self._views: dict[str, View] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def view(self, time_range: str, now: int, max_age: int) -> View:
        """Return the figures of a time range, or the last figures with the fault that prevents newer ones.

        A caller that queued while the server timed out gets that failure instead of waiting for a second timeout.

        Args:
            time_range: one of ``windows.RANGES``.
            now: the current time, in epoch milliseconds.
            max_age: greatest age in milliseconds at which a view is reused.
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
            now: the current time, in epoch milliseconds.

        Raises:
            ServerError: Elasticsearch cannot be reached, or refuses.
        """
        settings, shortest = self._settings, self._lengths[0]
        (*ends, rejected_answer, stream_answer), took = self._search(
            *quality_reader.ends(settings, shortest), queries.rejected_period(settings), queries.stream(settings)
        )
        scored, stream = quality_reader.read_ends(ends, shortest), queries.read_stream(stream_answer)
        period = _joined(scored, queries.read_period(rejected_answer))
        shown = window(time_range, scored or period or Period(now, now), now, self._lengths)
        worked = of_batches(shown, queries.read_period(stream_answer) or Period(now, now))
        (marks_answer, rejected_answer, batches_answer, compared_answer, courses_answer), more = self._search(
            queries.marks(settings, shown),
            queries.rejected(settings, window(time_range, period or Period(now, now), now, self._lengths)),
            queries.batches(settings, worked),
            comparison_reader.request(settings),
            comparison_reader.courses(settings, shown.seconds, shown.start, shown.interval),
        )
        took += more
        buckets, more = self._buckets(time_range, shown, queries.read_marks(marks_answer))
        return Snapshot(
            read_at=now,
            period=period,
            window=shown,
            batch_window=worked,
            buckets=buckets,
            rejected=queries.read_rejected(rejected_answer),
            stream=stream,
            versions=queries.read_versions(batches_answer),
            throughput=queries.read_throughput(batches_answer),
            took=took + more,
            min_labelled=self._config.dashboard.min_labelled,
            attribution=self._attribution,
            lags=self._lags_of(time_range, now),
            comparisons=comparisons.cards(
                comparison_reader.current(comparison_reader.read(compared_answer)),
                comparison_reader.read_courses(courses_answer),
                shown,
            ),
        )

    def _buckets(self, time_range: str, shown: Window, marks: dict[int, Mark]) -> tuple[tuple[Bucket, ...], int]:
        """Read the changed buckets; return all buckets in order of time, and the server's time in milliseconds."""
        before, remembered = self._known.get(time_range, (shown, {}))
        same = (before.seconds, before.interval) == (shown.seconds, shown.interval)
        known = {start: remembered[start] for start in remembered if same and remembered[start][0] == marks.get(start)}
        due = marks.keys() - known.keys()
        took = 0
        if due:
            ranges = queries.runs(due, shown.interval)
            found, took = quality_reader.statistics(self._client, self._config, shown.seconds, ranges)
            parts: defaultdict[int, defaultdict[tuple[str, str, str], list[Statistic]]]
            parts = defaultdict(lambda: defaultdict(list))
            for part, statistic in found:
                start = part.begin - part.begin % shown.interval
                parts[start][part.topic, part.model, part.version].append(statistic)
            for start, by_version in parts.items():
                if start in due:
                    tallies = [
                        Tally(model, version, combined(statistics), topic)
                        for (topic, model, version), statistics in by_version.items()
                    ]
                    known[start] = marks[start], Bucket(start, tuple(tallies))
        self._known[time_range] = shown, known
        return tuple(known[start][1] for start in sorted(known)), took

    def _lags_of(self, time_range: str, now: int) -> label_lag.Lags:
        """Return how long labels take; read once a minute, for that takes the longer the more labels there are."""
        if time_range not in self._lags or now - self._lags[time_range][0] >= LAG_AGE_MS:
            self._lags[time_range] = now, label_lag.lags(self._client, self._config, time_range, now)
        return self._lags[time_range][1]

    def _search(self, *searches: Search | tuple[str, Any]) -> tuple[list[dict[str, Any]], int]:
        return elasticsearch.search(self._client, self._settings, searches)


def _joined(scored: Period | None, rejected: Period | None) -> Period | None:
    """Return the times of the first and the last message, scored or rejected."""
    if scored is None or rejected is None:
        return scored or rejected
    last = max(scored, rejected, key=lambda period: period.last + period.step)
    return Period(min(scored.first, rejected.first), last.last, last.step)
