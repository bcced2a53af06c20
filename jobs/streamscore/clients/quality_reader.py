"""Read the statistics of quality of a time range, at a cost that does not depend on the event rate.

The index holds sums per window, model and version, never one document per event. A read uses windows of one length,
because each event is in one window of each length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.clients import elasticsearch
from streamscore.config import Config, Elasticsearch, TimeRange
from streamscore.quality.attribution import Attribution
from streamscore.quality.statistic import Statistic, combined
from streamscore.quality.windows import SECOND, Period, Window, window
from streamscore.schema import TIME

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_PAGE: Final = 1_000
_ORDER: Final = tuple({field: "asc"} for field in (TIME, "topic", "model", "model_version", "stream", "score_kind"))
"""Sort keys that identify a document of one window length: without ties no document is skipped between two pages."""
_UNREAD: Final = ("before",)
"""Fields that no figure needs."""
_OF_ABSENT: Final = ("counts.predictions",)
"""Fields that no figure needs unless absent labels count: a third of a document."""


class Counted(NamedTuple):
    """The statistics of a time range as they count, by model and version."""

    of_version: dict[tuple[str, str], Statistic]
    awaited: int
    """Milliseconds of the time range that do not count yet, since too many labels of its events are awaited."""


class Part(NamedTuple):
    """The topic, model, version and window that a statistic describes."""

    topic: str
    """The input topic."""
    model: str
    version: str
    begin: int
    """Start of the window in event time, in epoch milliseconds."""


def attribution(config: Config) -> Attribution:
    """Return the rules for labels that arrive later than their events."""
    labels = config.labels
    window = None if labels.window is None else round(labels.window * SECOND)
    return Attribution(window, labels.min_coverage, absent_is_negative=labels.absent_means is not None)


def ends(settings: Elasticsearch, seconds: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the searches for the first and the last window of a length; ``read_ends`` parses their answers.

    Args:
        settings: names the index.
        seconds: length of the windows.
    """
    return [
        (
            settings.quality_index,
            {
                "size": 1,
                "track_total_hits": False,
                "_source": False,
                "query": {"term": {"seconds": seconds}},
                "sort": [{TIME: order}],
            },
        )
        for order in ("asc", "desc")
    ]


def read_ends(answers: Iterable[Mapping[str, Any]], seconds: int) -> Period | None:
    """Return the starts of the first and the last window; None without windows.

    Args:
        answers: the answers to the searches of ``ends``.
        seconds: length of the windows.
    """
    begins = [int(hit["sort"][0]) for answer in answers for hit in answer["hits"]["hits"]]
    return Period(begins[0], begins[-1], seconds * SECOND) if begins else None


def statistics(
    server: Client, config: Config, seconds: int, ranges: Sequence[tuple[int, int | None]]
) -> tuple[list[tuple[Part, Statistic]], int]:
    """Read the statistics of the windows that start in the given time ranges.

    Args:
        server: the client.
        config: names the index.
        seconds: length of the windows.
        ranges: start and end of each range, in epoch milliseconds; the end is exclusive, None is open.

    Returns:
        The statistics in order of time, with one entry per stream where several streams wrote the same part; and the
        server's time in milliseconds.

    Raises:
        ServerError: the server cannot be reached, or refuses.
    """
    settings = config.elasticsearch
    times = [{"range": {TIME: {"gte": begin, **({} if end is None else {"lt": end})}}} for begin, end in ranges]
    in_time = {"bool": {"should": times, "minimum_should_match": 1}}
    body: dict[str, Any] = {
        "size": _PAGE,
        "track_total_hits": False,
        "query": {
            "bool": {"filter": [{"term": {"seconds": seconds}}, in_time], "must_not": {"exists": {"field": "pair"}}}
        },
        "sort": list(_ORDER),
        "_source": {"excludes": [*_UNREAD, *([] if config.labels.absent_means is not None else _OF_ABSENT)]},
    }
    found: list[tuple[Part, Statistic]] = []
    took = 0
    while True:
        (answer,), more = elasticsearch.search(server, settings, [(settings.quality_index, body)])
        hits = answer["hits"]["hits"]
        for hit in hits:
            source = hit["_source"]
            part = Part(source["topic"], source["model"], source["model_version"], source[TIME])
            found.append((part, Statistic.from_document(source)))
        took += more
        if len(hits) < _PAGE:
            return found, took
        body["search_after"] = hits[-1]["sort"]


def of_range(server: Client, config: Config, time_range: TimeRange, now: int) -> dict[tuple[str, str], Statistic]:
    """Return the statistics of a time range over all topics, by model and version, whether labels are awaited or not.

    The range is aligned to windows by ``quality.windows.window``. A version with scores of different kinds has only
    the counts that do not depend on scores.

    Args:
        server: the client.
        config: names the index and the lengths of windows.
        time_range: the time range, which ends now.
        now: the current time, in epoch milliseconds.

    Raises:
        ServerError: the server cannot be reached, or refuses.
    """
    _, read = _read(server, config, time_range, now)
    found: defaultdict[tuple[str, str], list[Statistic]] = defaultdict(list)
    for part, statistic in read:
        found[part.model, part.version].append(statistic)
    return {of: combined(parts) for of, parts in sorted(found.items())}


def counted(server: Client, config: Config, time_range: TimeRange, now: int) -> Counted:
    """Return the statistics of a time range as the live page counts them.

    It decides for each bucket of the range, as the page does, whether enough of its labels are there.

    Args:
        server: the client.
        config: names the index, the lengths of windows, and how long labels are awaited.
        time_range: the time range, which ends now.
        now: the current time, in epoch milliseconds.

    Raises:
        ServerError: the server cannot be reached, or refuses.
    """
    shown, read = _read(server, config, time_range, now)
    if shown is None:
        return Counted({}, 0)
    buckets: defaultdict[tuple[int, str], defaultdict[tuple[str, str], list[Statistic]]]
    buckets = defaultdict(lambda: defaultdict(list))
    for part, statistic in read:
        buckets[part.begin - part.begin % shown.interval, part.topic][part.model, part.version].append(statistic)
    rules, awaited = attribution(config), set()
    found: defaultdict[tuple[str, str], list[Statistic]] = defaultdict(list)
    for (begin, _), parts in buckets.items():
        counts = rules.counted({of: combined(each) for of, each in parts.items()}, begin + shown.interval, now)
        if counts is None:
            awaited.add(begin)
        for of, statistic in (counts or {}).items():
            found[of].append(statistic)
    return Counted({of: combined(parts) for of, parts in sorted(found.items())}, len(awaited) * shown.interval)


def _read(
    server: Client, config: Config, time_range: TimeRange, now: int
) -> tuple[Window | None, list[tuple[Part, Statistic]]]:
    """Return the window of a time range, and its statistics; None without any."""
    lengths = config.quality.windows
    answers, _ = elasticsearch.search(server, config.elasticsearch, ends(config.elasticsearch, lengths[0]))
    period = read_ends(answers, lengths[0])
    if period is None:
        return None, []
    shown = window(time_range, period, now, lengths)
    read, _ = statistics(server, config, shown.seconds, [(shown.start, None)])
    return shown, read
