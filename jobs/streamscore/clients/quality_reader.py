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
from streamscore.quality.statistic import Statistic, combined
from streamscore.quality.windows import SECOND, Period, window
from streamscore.schema import TIME

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_PAGE: Final = 1_000
_ORDER: Final = tuple({field: "asc"} for field in (TIME, "topic", "model", "model_version", "stream", "score_kind"))
"""Sort keys that identify a document of one window length: without ties no document is skipped between two pages."""
_UNREAD: Final = ["before", "counts.predictions"]
"""Fields that no figure needs: half of a document."""


class Part(NamedTuple):
    """The topic, model, version and window that a statistic describes."""

    topic: str
    """The input topic."""
    model: str
    version: str
    begin: int
    """Start of the window in event time, in epoch milliseconds."""


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
    server: Client, settings: Elasticsearch, seconds: int, ranges: Sequence[tuple[int, int | None]]
) -> tuple[list[tuple[Part, Statistic]], int]:
    """Read the statistics of the windows that start in the given time ranges.

    Args:
        server: the client.
        settings: names the index.
        seconds: length of the windows.
        ranges: start and end of each range, in epoch milliseconds; the end is exclusive, None is open.

    Returns:
        The statistics in order of time, with one entry per stream where several streams wrote the same part; and the
        server's time in milliseconds.

    Raises:
        ServerError: the server cannot be reached, or refuses.
    """
    times = [{"range": {TIME: {"gte": begin, **({} if end is None else {"lt": end})}}} for begin, end in ranges]
    in_time = {"bool": {"should": times, "minimum_should_match": 1}}
    body: dict[str, Any] = {
        "size": _PAGE,
        "track_total_hits": False,
        "query": {
            "bool": {"filter": [{"term": {"seconds": seconds}}, in_time], "must_not": {"exists": {"field": "pair"}}}
        },
        "sort": list(_ORDER),
        "_source": {"excludes": _UNREAD},
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
    """Return the statistics of a time range over all topics, by model and version: the events of the live page.

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
    settings, lengths = config.elasticsearch, config.quality.windows
    answers, _ = elasticsearch.search(server, settings, ends(settings, lengths[0]))
    period = read_ends(answers, lengths[0])
    if period is None:
        return {}
    shown = window(time_range, period, now, lengths)
    found: defaultdict[tuple[str, str], list[Statistic]] = defaultdict(list)
    read, _ = statistics(server, settings, shown.seconds, [(shown.start, None)])
    for part, statistic in read:
        found[part.model, part.version].append(statistic)
    return {of: combined(parts) for of, parts in sorted(found.items())}
