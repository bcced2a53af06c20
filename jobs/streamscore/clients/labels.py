"""The indices of label_stream: look up outcomes, and keep labelled outcomes, waiting labels and counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.clients import elasticsearch as search
from streamscore.clients.elasticsearch import OVERLOADED, client, reporting
from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError, RequestTooLargeError, ServerError
from streamscore.quality.comparison import Pair
from streamscore.schema import (
    LABEL_COUNTS,
    LABELLED_PROPERTIES,
    LABELS_STATUS_PROPERTIES,
    OUTCOME_PROPERTIES,
    PENDING_PROPERTIES,
    TIME,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

IDS_AT_ONCE: Final = 1_000
"""Ids per search or request; halved when a request is too large."""

_PAGE: Final = 10_000
_ORDER: Final = ("event_id", "model", "model_version")
_PENDING_ORDER: Final = ("label_partition", "label_offset")
_CONFLICT: Final = 409
_MISSING: Final = 404

Found = tuple[str, Mapping[str, Any]]
"""A document's id and fields."""


class Compared(NamedTuple):
    """A pair of versions that the scoring job compares."""

    champion_uri: str
    """Address of the champion's version, without an alias."""
    challenger_uri: str
    """Address of the challenger's version, without an alias."""
    alpha: float
    """The pair's part of α."""


class Scores(NamedTuple):
    """What the scores of a version of a model are."""

    kind: str
    scale: float | None
    """What margins are divided by; None if the statistics do not say."""


def ensure(settings: Elasticsearch) -> list[str]:
    """Create or check the indices of label_stream; return the names of those that were created.

    Raises:
        ServerError: the server cannot be reached, or an index cannot hold what is to be written.
    """
    return search.ensure(settings, _mappings(settings))


def compare(settings: Elasticsearch) -> list[str]:
    """Compare the indices of label_stream with our fields; return the names of those that are missing.

    Raises:
        ServerError: the server cannot be reached, or an index cannot hold what is to be written.
    """
    return search.compare(settings, _mappings(settings))


def _mappings(settings: Elasticsearch) -> dict[str, dict[str, Any]]:
    return {
        settings.labelled_index: LABELLED_PROPERTIES,
        settings.pending_index: PENDING_PROPERTIES,
        settings.labels_status_index: LABELS_STATUS_PROPERTIES,
    }


def has_field(settings: Elasticsearch, topic: str, name: str) -> bool | None:
    """Return whether an outcome of a topic has a field; None if there is no outcome yet.

    Args:
        settings: the server and the index, which may be missing.
        topic: the input topic.
        name: name of the field.

    Raises:
        ServerError: the server cannot be reached.
    """
    of_topic = {"term": {"topic": topic}}
    bodies = [
        {"size": 1, "_source": False, "query": {"bool": {"filter": [of_topic, *more]}}}
        for more in ([], [{"exists": {"field": name}}])
    ]
    with client(settings) as server:
        (every, having), _ = search.search(server, settings, [(settings.index, body) for body in bodies])
    return bool(having["hits"]["hits"]) if every["hits"]["hits"] else None


def refresh(server: Client, settings: Elasticsearch, *names: str) -> None:
    """Let searches see every document that was written to some indices so far.

    Args:
        server: the client.
        settings: the server's address, for messages.
        names: names of the indices; missing ones are skipped.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings):
        server.indices.refresh(index=list(names), ignore_unavailable=True)


def outcomes(
    server: Client, settings: Elasticsearch, topic: str, field: str, ids: Collection[str]
) -> dict[str, list[Found]]:
    """Return the outcomes of events that a search sees, by the events' ids.

    Args:
        server: the client.
        settings: names the index.
        topic: the input topic.
        field: the field that holds the ids: ``key`` or ``event_id``.
        ids: the ids.

    Raises:
        ServerError: the server cannot be reached.
    """
    found: dict[str, list[Found]] = {}
    for part in _parts(list(ids), IDS_AT_ONCE):
        query = {"bool": {"filter": [{"terms": {field: part}}, {"term": {"topic": topic}}]}}
        for hit in _hits(server, settings, settings.index, query, _ORDER):
            source = {name: value for name, value in hit["_source"].items() if name in OUTCOME_PROPERTIES}
            found.setdefault(str(source[field]), []).append((hit["_id"], source))
    return found


def labelled(server: Client, settings: Elasticsearch, ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return the labels of outcomes that have one in the index, by the document's id, refreshed or not.

    Args:
        server: the client.
        settings: names the index.
        ids: ids of documents.

    Raises:
        ServerError: the server cannot be reached, or the index was deleted (``RefusedError``).
    """
    fields = ["label", "label_time", "label_partition", "label_offset", "stream", "batch", "before"]
    found: dict[str, Mapping[str, Any]] = {}
    for part in _parts(list(ids), IDS_AT_ONCE):
        with reporting(settings):
            answer = server.mget(index=settings.labelled_index, ids=part, source_includes=fields)
        for item in answer["docs"]:
            if "error" in item:
                is_gone = item["error"]["type"] == "index_not_found_exception"
                raise _fault(settings, settings.labelled_index, _MISSING if is_gone else 503, item)
            if item["found"]:
                found[item["_id"]] = item["_source"]
    return found


def write(
    server: Client, settings: Elasticsearch, index: str, documents: Sequence[tuple[str, int | None, Mapping[str, Any]]]
) -> list[str]:
    """Write documents; one with a version only if the document there has the same or an earlier version.

    Args:
        server: the client.
        settings: the server.
        index: name of the index.
        documents: id, version (None: written in any case) and fields.

    Returns:
        The ids of the documents that were not written because a later version is there.

    Raises:
        ServerError: the server cannot be reached or is overloaded; some of the documents may have been written.
        RefusedError: the server refuses a document.
    """
    lines: list[list[Mapping[str, Any]]] = []
    for document, version, source in documents:
        versioned = {} if version is None else {"version": version, "version_type": "external_gte"}
        lines.append([{"index": {"_id": document, **versioned}}, source])
    return _bulk(server, settings, index, lines)


def delete(server: Client, settings: Elasticsearch, index: str, ids: Collection[str]) -> None:
    """Delete documents, of which some may be gone.

    Args:
        server: the client.
        settings: the server.
        index: name of the index.
        ids: ids of the documents.

    Raises:
        ServerError: the server cannot be reached or is overloaded.
    """
    _bulk(server, settings, index, [[{"delete": {"_id": document}}] for document in ids])


def waiting(server: Client, settings: Elasticsearch, stream: str, now: int | None, most: int) -> list[Found]:
    """Return waiting labels of a stream that are due, those that wait longest for their turn first.

    Args:
        server: the client.
        settings: names the index, which should be refreshed.
        stream: identity of the query.
        now: epoch milliseconds; None: also those that are not due yet.
        most: most labels to return.

    Raises:
        ServerError: the server cannot be reached.
    """
    due = [] if now is None else [{"range": {"next_try": {"lte": now}}}]
    query = {
        "bool": {
            "filter": [{"term": {"stream": stream}}, *due],
            "must_not": [{"exists": {"field": "resolved_batch"}}],
        }
    }
    found = []
    for hit in _hits(server, settings, settings.pending_index, query, ("next_try", *_PENDING_ORDER)):
        found.append((hit["_id"], hit["_source"]))
        if len(found) == most:
            break
    return found


def touched(server: Client, settings: Elasticsearch, stream: str, batch: int) -> list[Found]:
    """Return the labels of a stream that a batch has put down as waiting, or has resolved.

    Args:
        server: the client.
        settings: names the index, which should be refreshed.
        stream: identity of the query.
        batch: number of the batch.

    Raises:
        ServerError: the server cannot be reached.
    """
    any_of = [{"term": {name: batch}} for name in ("batch", "matched_batch", "resolved_batch")]
    query = {"bool": {"filter": [{"term": {"stream": stream}}], "should": any_of, "minimum_should_match": 1}}
    hits = _hits(server, settings, settings.pending_index, query, _PENDING_ORDER)
    return [(hit["_id"], hit["_source"]) for hit in hits]


def resolved_before(server: Client, settings: Elasticsearch, stream: str, batch: int) -> list[str]:
    """Return the ids of a stream's labels that an earlier batch has resolved.

    Args:
        server: the client.
        settings: names the index, which should be refreshed.
        stream: identity of the query.
        batch: number of the batch.

    Raises:
        ServerError: the server cannot be reached.
    """
    query = {"bool": {"filter": [{"term": {"stream": stream}}, {"range": {"resolved_batch": {"lt": batch}}}]}}
    return [hit["_id"] for hit in _hits(server, settings, settings.pending_index, query, _PENDING_ORDER)]


def scores(server: Client, settings: Elasticsearch, topic: str) -> dict[tuple[str, str], Scores]:
    """Return what the scores of each version of each model are, as the latest statistics of a topic say.

    Args:
        server: the client.
        settings: names the index of quality.
        topic: the input topic.

    Raises:
        ServerError: the server cannot be reached.
    """
    of_kind = {
        "terms": {"field": "score_kind"},
        "aggs": {"last": {"max": {"field": TIME}}, "scale": {"max": {"field": "margin_scale"}}},
    }
    of_version = {"terms": {"field": "model_version", "size": _PAGE}, "aggs": {"kinds": of_kind}}
    body = {
        "size": 0,
        "track_total_hits": False,
        "query": _of_scoring(topic, {"exists": {"field": "score_kind"}}),
        "aggs": {"models": {"terms": {"field": "model", "size": 1_000}, "aggs": {"versions": of_version}}},
    }
    (answer,), _ = search.search(server, settings, [(settings.quality_index, body)])
    found = {}
    for model in answer.get("aggregations", {}).get("models", {}).get("buckets", []):
        for version in model["versions"]["buckets"]:
            last = max(version["kinds"]["buckets"], key=lambda kind: kind["last"]["value"])
            found[str(model["key"]), str(version["key"])] = Scores(str(last["key"]), last["scale"]["value"])
    return found


def pairs(server: Client, settings: Elasticsearch, topic: str) -> dict[Pair, Compared]:
    """Return the pairs of versions that the scoring job compares.

    Args:
        server: the client.
        settings: names the index of quality.
        topic: the input topic.

    Raises:
        ServerError: the server cannot be reached.
    """
    query = _of_scoring(topic, {"term": {"seconds": 0}}, {"exists": {"field": "pair"}})
    found = {}
    for hit in _hits(server, settings, settings.quality_index, query, ("pair", "stream")):
        source = hit["_source"]
        pair = Pair(source["champion"], source["champion_version"], source["model"], source["model_version"])
        found[pair] = Compared(source["champion_uri"], source["model_uri"], float(source["alpha"]))
    return found


def _of_scoring(topic: str, *filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query for documents of a topic in the index of quality that the scoring job has written."""
    late = {"exists": {"field": "late_labels"}}
    return {"bool": {"filter": [{"term": {"topic": topic}}, *filters], "must_not": [late]}}


def counts(server: Client, settings: Elasticsearch, topic: str, stream: str | None = None) -> dict[str, int]:
    """Return what became of all labels of a topic, by the names of ``schema.LABEL_COUNTS``.

    Args:
        server: the client.
        settings: names the index.
        topic: the topic of labels.
        stream: identity of the query whose batches count; None: all.

    Raises:
        ServerError: the server cannot be reached.
    """
    refresh(server, settings, settings.labels_status_index)
    of_stream = [] if stream is None else [{"term": {"query": stream}}]
    body = {
        "size": 0,
        "query": {"bool": {"filter": [{"term": {"topic": topic}}, *of_stream]}},
        "aggs": {name: {"sum": {"field": name}} for name in LABEL_COUNTS},
    }
    (answer,), _ = search.search(server, settings, [(settings.labels_status_index, body)])
    sums = answer.get("aggregations", {})
    return {name: int(sums.get(name, {}).get("value") or 0) for name in LABEL_COUNTS}


def _hits(
    server: Client, settings: Elasticsearch, index: str, query: Mapping[str, Any], order: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the documents that a query finds; an index that is missing has none."""
    body: dict[str, Any] = {
        "size": _PAGE,
        "track_total_hits": False,
        "query": query,
        "sort": [{field: "asc"} for field in order],
    }
    while True:
        (answer,), _ = search.search(server, settings, [(index, body)])
        hits = answer["hits"]["hits"]
        yield from hits
        if len(hits) < _PAGE:
            return
        body["search_after"] = hits[-1]["sort"]


def _bulk(
    server: Client, settings: Elasticsearch, index: str, operations: Sequence[Sequence[Mapping[str, Any]]]
) -> list[str]:
    """Send operations; return the ids of those that a later version kept from being done."""
    left, size, late = list(operations), min(IDS_AT_ONCE * 2, settings.bulk_documents), []
    while left:
        try:
            with reporting(settings):
                answer = server.bulk(index=index, operations=[line for part in left[:size] for line in part])
        except RequestTooLargeError:
            if size == 1:
                raise
            size = max(1, min(size, len(left)) // 2)
            continue
        results = [result for item in answer["items"] for result in item.values()]
        if len(results) != len(left[:size]):
            raise ServerError(
                f"what answers at {settings.url} has left out documents: does a gateway answer in its place?"
            )
        for result in results:
            if result["status"] == _CONFLICT:
                late.append(result["_id"])
            elif "error" in result:
                raise _fault(settings, index, result["status"], result)
        left = left[size:]
    return late


def _fault(settings: Elasticsearch, index: str, status: int, item: Mapping[str, Any]) -> ServerError:
    """Return the error for one document of a response."""
    place, error = f"the document {item.get('_id')!r} of {index!r} at {settings.url}", item["error"]
    if status in OVERLOADED:
        return ServerError(f"{place} is not taken now: {error.get('reason')}")
    if error.get("type") == "index_not_found_exception":
        return RefusedError(f"the index {index!r} at {settings.url} was deleted: start the job again, which creates it")
    return RefusedError(f"{place} is refused: {error.get('reason')}")


def _parts(items: list[str], size: int) -> Iterator[list[str]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
