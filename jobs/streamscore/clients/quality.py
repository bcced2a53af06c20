"""The documents of the quality index: read by id, and written with optimistic concurrency control."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients.elasticsearch import OVERLOADED, client, reporting
from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError, RequestTooLargeError, ServerError

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

MOST_AT_ONCE: Final = 100
"""Documents per request; halved when a gateway refuses a request as too large. A document has some 10 kB."""

_PAGE: Final = 1_000
_IDENTITY: Final = ("@timestamp", "seconds", "stream", "model", "model_version", "score_kind", "pair")
"""Fields that identify a document, as sort keys: without ties no document is skipped between two pages."""
_CONFLICT: Final = 409


@dataclass(frozen=True)
class Kept:
    """A document as read, with its place in the index's operations."""

    source: Mapping[str, Any]
    at: Mapping[str, int]
    """The document's sequence number and primary term: a write that names them fails if the document has changed."""


@dataclass(frozen=True)
class Change:
    """A write or a deletion of one document."""

    id: str
    source: Mapping[str, Any] | None
    """The document to write; None deletes it."""
    kept: Kept | None
    """The document as read; None if there was none."""


def read(server: Client, settings: Elasticsearch, ids: Collection[str]) -> dict[str, Kept]:
    """Return the existing documents by id, in their latest state, refreshed or not.

    Args:
        server: the client.
        settings: names the index.
        ids: the ids.

    Raises:
        ServerError: the server cannot be reached, or the index was deleted (``RefusedError``).
    """
    found: dict[str, Kept] = {}
    for part in _parts(list(ids), MOST_AT_ONCE):
        with reporting(settings):
            answer = server.mget(index=settings.quality_index, ids=part)
        for item in answer["docs"]:
            if "error" in item:
                raise _fault(settings, 404 if item["error"]["type"] == "index_not_found_exception" else 503, item)
            if item["found"]:
                found[item["_id"]] = _kept(item)
    return found


def of_batch(server: Client, settings: Elasticsearch, stream: str, batch: int) -> Iterator[dict[str, Kept]]:
    """Yield, by id and page by page, all documents of a stream whose last batch is the given one.

    Args:
        server: the client.
        settings: names the index.
        stream: identity of the query.
        batch: number of the batch.

    Raises:
        ServerError: the server or the index cannot be reached.
    """
    written = {"bool": {"filter": [{"term": {"stream": stream}}, {"term": {"batch": batch}}]}}
    for hits in _pages(server, settings, written, source=True):
        yield {hit["_id"]: _kept(hit) for hit in hits}


def other_stream(settings: Elasticsearch, topic: str, stream: str | None) -> str | None:
    """Return the identity of another stream that has statistics of a topic in the index; None if there is none.

    Args:
        settings: the server and the index, which may be missing.
        topic: the input topic.
        stream: identity of the query that is no other; None: each is.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings), client(settings) as server:
        if not server.indices.exists(index=settings.quality_index):
            return None
        server.indices.refresh(index=settings.quality_index)
        hits = server.search(
            index=settings.quality_index,
            query=_of_others(topic, stream),
            size=1,
            source_includes=["stream"],
            allow_partial_search_results=False,
        )["hits"]["hits"]
    return str(hits[0]["_source"]["stream"]) if hits else None


def drop_other_streams(server: Client, settings: Elasticsearch, topic: str, stream: str) -> int:
    """Delete the documents of all other streams of a topic, page by page.

    Args:
        server: the client.
        settings: names the index.
        topic: the input topic.
        stream: identity of the query whose documents stay.

    Returns:
        The number of documents that were deleted.

    Raises:
        ServerError: the server or the index cannot be reached, or a document was changed by somebody else meanwhile;
            some of them may have been deleted.
    """
    deleted = 0
    for hits in _pages(server, settings, _of_others(topic, stream), source=False):
        write(server, settings, [Change(hit["_id"], None, _kept(hit)) for hit in hits])
        deleted += len(hits)
    return deleted


def _of_others(topic: str, stream: str | None) -> dict[str, Any]:
    """Return the query for the documents of a topic that are of another stream that scores it.

    What label_stream has added stays when events are scored again: it is of labels, which are not read again.
    """
    others: list[dict[str, Any]] = [{"exists": {"field": "late_labels"}}]
    own = [] if stream is None else [{"term": {"stream": stream}}]
    return {"bool": {"filter": [{"term": {"topic": topic}}], "must_not": [*others, *own]}}


def write(server: Client, settings: Elasticsearch, changes: Sequence[Change]) -> None:
    """Write documents, each only if unchanged since it was read; after an error some of them may have been written.

    Args:
        server: the client.
        settings: names the index.
        changes: the writes and deletions.

    Raises:
        ServerError: the server cannot be reached or is overloaded, or another client changed a document after it was
            read; a retry that reads again may succeed.
        RefusedError: the server refuses a document, or a gateway refuses the smallest request.
    """
    left, size = list(changes), MOST_AT_ONCE
    while left:
        try:
            _write(server, settings, left[:size])
        except RequestTooLargeError:
            if size == 1:
                raise
            size = max(1, min(size, len(left)) // 2)
        else:
            left = left[size:]


def _write(server: Client, settings: Elasticsearch, changes: Sequence[Change]) -> None:
    lines: list[Mapping[str, Any]] = []
    for change in changes:
        action = "delete" if change.source is None else "index" if change.kept else "create"
        lines.append({action: {"_id": change.id, **(change.kept.at if change.kept else {})}})
        lines += [] if change.source is None else [change.source]
    with reporting(settings):
        answer = server.bulk(index=settings.quality_index, operations=lines)
    results = [result for item in answer["items"] for result in item.values()]
    for result in results:
        if "error" in result:
            raise _fault(settings, result["status"], result)
    if [result.get("_id") for result in results] != [change.id for change in changes]:
        raise ServerError(
            f"what answers at {settings.url} names other documents than those that were sent to "
            f"{settings.quality_index!r}: does a gateway answer in its place?"
        )


def _pages(
    server: Client, settings: Elasticsearch, query: Mapping[str, Any], source: bool
) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yield the pages of the documents that a query finds, after a refresh; a page may be deleted before the next."""
    with reporting(settings):
        server.indices.refresh(index=settings.quality_index)
    after: Mapping[str, Any] = {}
    while True:
        with reporting(settings):
            hits = server.search(
                index=settings.quality_index,
                query=query,
                size=_PAGE,
                sort=[{field: "asc"} for field in _IDENTITY],
                source=source,
                seq_no_primary_term=True,
                allow_partial_search_results=False,
                **after,
            )["hits"]["hits"]
        yield hits
        if len(hits) < _PAGE:
            return
        after = {"search_after": hits[-1]["sort"]}


def _kept(item: Mapping[str, Any]) -> Kept:
    at = {"if_seq_no": item["_seq_no"], "if_primary_term": item["_primary_term"]}
    return Kept(item.get("_source", {}), at)


def _fault(settings: Elasticsearch, status: int, item: Mapping[str, Any]) -> ServerError:
    """Return the error for one document of a bulk response."""
    place = f"the document {item.get('_id')!r} of {settings.quality_index!r} at {settings.url}"
    if status == _CONFLICT:
        return ServerError(f"{place} was changed by somebody else meanwhile")
    if status in OVERLOADED:
        return ServerError(f"{place} is not taken now: {item['error'].get('reason')}")
    if item["error"].get("type") == "index_not_found_exception":
        return RefusedError(
            f"the index {settings.quality_index!r} at {settings.url} was deleted: start the job again, which creates "
            "it; what it held can only be counted again from the topic"
        )
    return RefusedError(f"{place} is refused: {item['error'].get('reason')}")


def _parts(items: list[str], size: int) -> Iterator[list[str]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
