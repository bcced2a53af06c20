"""Build the requests to Elasticsearch for all data but the statistics, and parse the answers. Pure: no client, no page.

Every request is an aggregation (``size`` 0): the server counts, and no document is fetched but the status documents of
the last batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from streamscore.config import Elasticsearch
from streamscore.dashboard.batches import BatchReport, StreamReport, Throughput, Version
from streamscore.quality.windows import Period, Window
from streamscore.schema import TIME

LAST_BATCHES: Final = 20
"""Number of batches over which events per second are averaged, as on a terminal."""
_ALL: Final = 1_000
"""Most buckets of a terms aggregation, more than the numbers of models, versions, classes and reasons."""
_FIRST: Final = {"first": {"min": {"field": TIME}}}
WRITTEN: Final = "_seq_no"
"""Elasticsearch's sequence number of a document's last write; a later write has a higher one."""
_ENDS: Final = {**_FIRST, "last": {"max": {"field": TIME}}}
_LAST_MOMENT: Final = 253_402_214_400_000
"""Start of the last day of the year 9999, in epoch milliseconds; Python's dates end with that day in any time zone."""


class Mark(NamedTuple):
    """The fingerprint of a bucket of statistics; every write changes its sequence number."""

    documents: int
    last: int
    """Highest sequence number of the bucket's documents."""
    scored: int
    """Number of events, summed over all models."""


class Search(NamedTuple):
    """A request: the body and the index, or several indices separated by commas."""

    indices: str
    body: dict[str, Any]


def rejected_period(settings: Elasticsearch) -> Search:
    """Return the request for the first and last rejected messages' times; it needs no scan without a filter."""
    return aggregate(settings.rejected_index, _ENDS)


def read_period(answer: Mapping[str, Any]) -> Period | None:
    """Return the times of the first and the last rejected message, or batch; None without any."""
    ends = aggregations_of(answer)
    first, last = (ends.get(name, {}).get("value") for name in ("first", "last"))
    return None if first is None or last is None else Period(int(first), int(last))


def stream(settings: Elasticsearch) -> Search:
    """Return the request for the first and last batch times, the last reports, and whether events are synthetic."""
    return aggregate(
        settings.status_index,
        {
            **_ENDS,
            "synthetic": {"filter": {"term": {"synthetic": True}}},
            "topics": _by_topic(latest={"top_hits": {"size": LAST_BATCHES, "sort": [{TIME: "desc"}]}}),
        },
    )


def read_stream(answer: Mapping[str, Any]) -> StreamReport:
    """Return the jobs' reports."""
    aggregations = aggregations_of(answer)
    batches = [
        BatchReport(
            int(hit["sort"][0]),
            hit["_source"]["batch_ms"],
            hit["_source"]["events"],
            hit["_source"]["lag"],
            topic["key"],
            tuple(hit["_source"].get("refused", ())),  # jobs of earlier versions do not report it
        )
        for topic in buckets_of(aggregations, "topics")
        for hit in topic["latest"]["hits"]["hits"]
    ]
    synthetic = aggregations.get("synthetic", {}).get("doc_count", 0) > 0
    return StreamReport(tuple(sorted(batches, key=lambda batch: batch.at)), synthetic)


def marks(settings: Elasticsearch, window: Window) -> Search:
    """Return the request for the fingerprints of all buckets of statistics, which reads no whole document."""
    marks = {"last": {"max": {"field": WRITTEN}}, "scored": _sum("scored")}
    of_length = {"term": {"seconds": window.seconds}}
    start = since(window)
    query = {"bool": {"filter": [of_length] if start is None else [of_length, start]}}
    return aggregate(settings.quality_index, {"buckets": _over_time(window, **marks)}, query)


def read_marks(answer: Mapping[str, Any]) -> dict[int, Mark]:
    """Return the fingerprint of each bucket that is not empty, by its start."""
    return {
        int(bucket["key"]): Mark(bucket["doc_count"], int(bucket["last"]["value"]), int(bucket["scored"]["value"]))
        for bucket in buckets_of(aggregations_of(answer), "buckets")
    }


def rejected(settings: Elasticsearch, window: Window) -> Search:
    """Return the request for the number of rejected messages by reason."""
    return aggregate(settings.rejected_index, {"reasons": terms("reason")}, since(window))


def read_rejected(answer: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of rejected messages by reason, the most common first."""
    return {bucket["key"]: bucket["doc_count"] for bucket in buckets_of(aggregations_of(answer), "reasons")}


def batches(settings: Elasticsearch, window: Window) -> Search:
    """Return the request for the events of the window's batches over time, and their model versions."""
    versions = terms("models", **_ENDS)
    topics = _by_topic(**_FIRST, events=_sum("events"), busy=_sum("batch_ms"))
    over_time = _over_time(window, topics=topics, versions=versions)
    return aggregate(settings.status_index, {"batches": over_time}, since(window))


def read_versions(answer: Mapping[str, Any]) -> tuple[Version, ...]:
    """Return the model versions of the batches by name and first batch; a version that was restored occurs twice."""
    served_in_buckets = []
    for bucket in buckets_of(aggregations_of(answer), "batches"):
        for served in buckets_of(bucket, "versions"):
            model, _, version = served["key"].partition(":")
            served_in_buckets.append(
                Version(model, version, int(served["first"]["value"]), int(served["last"]["value"]))
            )
    versions: list[Version] = []
    for version in sorted(served_in_buckets, key=lambda version: (version.model, version.first, version.version)):
        before = versions[-1] if versions else None
        if before is not None and (before.model, before.version) == (version.model, version.version):
            versions[-1] = replace(before, last=version.last)
        else:
            versions.append(version)
    return tuple(versions)


def read_throughput(answer: Mapping[str, Any]) -> tuple[Throughput, ...]:
    """Return the events and the duration of the batches that started in each bucket, by topic."""
    return tuple(
        Throughput(*(int(topic[name]["value"]) for name in ("first", "events", "busy")))
        for bucket in buckets_of(aggregations_of(answer), "batches")
        for topic in buckets_of(bucket, "topics")
    )


def moment(at: int) -> datetime:
    """Return epoch milliseconds as a UTC datetime, limited to Python's latest."""
    return datetime.fromtimestamp(min(at, _LAST_MOMENT) / 1_000, timezone.utc)


def aggregate(indices: str, aggregations: dict[str, Any], query: dict[str, Any] | None = None) -> Search:
    """Return a request for aggregations alone, without documents and without their number.

    Args:
        indices: name of the index, or of several, with commas.
        aggregations: the aggregations, by name.
        query: which documents to aggregate; None: all.
    """
    body = {"size": 0, "track_total_hits": False, "aggs": aggregations}
    return Search(indices, body if query is None else {**body, "query": query})


def since(window: Window) -> dict[str, Any] | None:
    """Return the filter of the window's start; None for a window without a start."""
    return None if window.whole else {"range": {TIME: {"gte": window.start}}}


def terms(field: str, **aggregations: Any) -> dict[str, Any]:
    """Return an aggregation by the values of a field, with sub-aggregations."""
    by_value = {"terms": {"field": field, "size": _ALL}}
    return {**by_value, "aggs": aggregations} if aggregations else by_value


def aggregations_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer's aggregations; empty for an index that does not exist yet."""
    aggregations: Mapping[str, Any] = answer.get("aggregations", {})
    return aggregations


def buckets_of(aggregations: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the buckets of an aggregation; empty if the index does not exist yet."""
    buckets: list[dict[str, Any]] = aggregations.get(name, {}).get("buckets", [])
    return buckets


def _over_time(window: Window, **aggregations: Any) -> dict[str, Any]:
    histogram = {
        "date_histogram": {"field": TIME, "fixed_interval": f"{window.interval}ms", "min_doc_count": 1},
    }
    return {**histogram, "aggs": aggregations} if aggregations else histogram


def _by_topic(**aggregations: Any) -> dict[str, Any]:
    """Return an aggregation by input topic; documents of earlier versions without a topic count as one stream."""
    return {"terms": {"field": "topic", "missing": "", "size": _ALL}, "aggs": aggregations}


def _sum(field: str) -> dict[str, Any]:
    return {"sum": {"field": field}}


def runs(starts: Iterable[int], interval: int) -> list[tuple[int, int]]:
    """Join consecutive buckets, and return the start and the end of each run in epoch milliseconds.

    Args:
        starts: the starts of the buckets.
        interval: length of a bucket in milliseconds.
    """
    joined: list[tuple[int, int]] = []
    for start in sorted(starts):
        begin = joined.pop()[0] if joined and joined[-1][1] == start else start
        joined.append((begin, start + interval))
    return joined
