"""Read the comparisons of models, and how their differences came about over time, from the quality index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import elasticsearch
from streamscore.config import Elasticsearch
from streamscore.quality.comparison import Comparison, Pair
from streamscore.quality.pairs import PairStatistic
from streamscore.schema import TIME

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

MOST: Final = 1_000
"""Most pairs of versions that are read, the latest first."""

_COUNTS: Final = ("events", "only_challenger", "only_champion")


@dataclass(frozen=True)
class Compared:
    """The comparison of a pair of versions on the events of a topic."""

    topic: str
    """The input topic."""
    pair: Pair
    last: int
    """Start of the last window with events, in epoch milliseconds."""
    comparison: Comparison
    champion_uri: str
    """Address of the champion's version, without an alias."""
    challenger_uri: str
    """Address of the challenger's version, without an alias."""


def request(settings: Elasticsearch) -> tuple[str, dict[str, Any]]:
    """Return the search for all comparisons; ``read`` parses its answer.

    Args:
        settings: names the index.
    """
    whole = {"bool": {"filter": [{"term": {"seconds": 0}}, {"exists": {"field": "pair"}}]}}
    return settings.quality_index, {"size": MOST, "track_total_hits": False, "query": whole, "sort": [{TIME: "desc"}]}


def read(answer: Mapping[str, Any]) -> list[Compared]:
    """Return the comparisons, the latest first; empty for an index that does not exist yet.

    What label_stream has counted belongs to the latest comparison of its versions.
    """
    sources = [hit["_source"] for hit in answer["hits"]["hits"]]
    late: dict[tuple[str, Pair], Compared] = {}
    for each in (_compared(source) for source in sources if source.get("late_labels")):
        known = late.get((each.topic, each.pair))
        late[each.topic, each.pair] = each if known is None else _joined(known, each)
    found = []
    for each in (_compared(source) for source in sources if not source.get("late_labels")):
        more = late.pop((each.topic, each.pair), None)
        found.append(each if more is None else _joined(each, more))
    return sorted([*found, *late.values()], key=lambda each: each.last, reverse=True)


def _joined(first: Compared, late: Compared) -> Compared:
    """Return a comparison with that of late labels."""
    last = max(first.last, late.last)
    return replace(first, last=last, comparison=first.comparison.with_late_labels(late.comparison))


def all_of(server: Client, settings: Elasticsearch) -> list[Compared]:
    """Read all comparisons, the latest first.

    Raises:
        ServerError: the server cannot be reached, or refuses.
    """
    (answer,), _ = elasticsearch.search(server, settings, [request(settings)])
    return read(answer)


def current(found: Iterable[Compared]) -> list[Compared]:
    """Return the latest comparison of any two models of a topic.

    Args:
        found: the comparisons, the latest first.
    """
    latest: dict[tuple[str, frozenset[str]], Compared] = {}
    for each in found:
        latest.setdefault((each.topic, frozenset({each.pair.champion, each.pair.challenger})), each)
    return list(latest.values())


def courses(settings: Elasticsearch, seconds: int, start: int, interval: int) -> tuple[str, dict[str, Any]]:
    """Return the search for the paired events of a time range by bucket; ``read_courses`` parses its answer.

    Args:
        settings: names the index.
        seconds: length of the windows to add up, in seconds.
        start: start of the range, in epoch milliseconds.
        interval: length of a bucket, in milliseconds.
    """
    over_time = {
        "date_histogram": {"field": TIME, "fixed_interval": f"{interval}ms", "min_doc_count": 1},
        "aggs": {name: {"sum": {"field": name}} for name in _COUNTS},
    }
    of_topic = {"terms": {"field": "topic", "size": MOST}, "aggs": {"buckets": over_time}}
    in_range = [{"term": {"seconds": seconds}}, {"range": {TIME: {"gte": start}}}, {"exists": {"field": "pair"}}]
    return settings.quality_index, {
        "size": 0,
        "track_total_hits": False,
        "query": {"bool": {"filter": in_range}},
        "aggs": {"pairs": {"terms": {"field": "pair", "size": MOST}, "aggs": {"topics": of_topic}}},
    }


def read_courses(answer: Mapping[str, Any]) -> dict[tuple[str, str], list[tuple[int, PairStatistic]]]:
    """Return the start of each bucket with its counts, by topic and ``Pair.id``; without labels and sums."""
    pairs = answer.get("aggregations", {}).get("pairs", {}).get("buckets", [])
    return {
        (topic["key"], pair["key"]): [(int(bucket["key"]), _counted(bucket)) for bucket in topic["buckets"]["buckets"]]
        for pair in pairs
        for topic in pair["topics"]["buckets"]
    }


def _counted(bucket: Mapping[str, Any]) -> PairStatistic:
    events, only_challenger, only_champion = (int(bucket[name]["value"]) for name in _COUNTS)
    return PairStatistic(events, only_challenger, only_champion)


def _compared(source: Mapping[str, Any]) -> Compared:
    pair = Pair(source["champion"], source["champion_version"], source["model"], source["model_version"])
    return Compared(
        source["topic"],
        pair,
        source[TIME],
        Comparison.from_document(source),
        source["champion_uri"],
        source["model_uri"],
    )
