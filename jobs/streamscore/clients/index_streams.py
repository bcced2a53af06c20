"""Which stream writes the outcomes of a topic to an index: recorded in the index's mapping."""

from __future__ import annotations

from typing import Final

from streamscore.clients.elasticsearch import client, mapping, reporting
from streamscore.config import Elasticsearch

_STREAMS: Final = "streams"
"""Object in the outcome index's mapping, never in a document: one field per topic names the topic's stream."""

_STREAM: Final = "stream"
"""Key of the stream's id in the metadata of such a field."""


def checkpoint_of(settings: Elasticsearch, topic: str) -> str | None:
    """Return the id of the stream that has written the outcomes of a topic to the index; None if there was none.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings), client(settings) as server:
        if not server.indices.exists(index=settings.index):
            return None
        fields = mapping(server, settings.index, settings.url)
    recorded = fields.get("properties", {}).get(_STREAMS, {}).get("properties", {}).get(_stream_field(topic), {})
    earlier_release = fields.get("_meta", {}).get("streams", {})
    stream = recorded.get("meta", {}).get(_STREAM) or earlier_release.get(topic)
    return str(stream) if stream else None


def record_checkpoint(settings: Elasticsearch, topic: str, stream: str) -> None:
    """Record in the index's mapping which stream writes the outcomes of a topic.

    The record is the metadata of a field that is named after the topic and that no document has. Elasticsearch merges
    the fields of a mapping one by one and atomically, so concurrent records of several topics are all kept. ``_meta``,
    where earlier releases kept the records of all topics, is replaced as a whole.

    Args:
        settings: the server and the index.
        topic: the input topic.
        stream: id of the streaming query.

    Raises:
        ServerError: the server or the index cannot be reached.
    """
    note = {"type": "keyword", "index": False, "doc_values": False, "meta": {_STREAM: stream}}
    with reporting(settings), client(settings) as server:
        mapping(server, settings.index, settings.url)  # refuses an alias of several indices
        server.indices.put_mapping(
            index=settings.index, properties={_STREAMS: {"properties": {_stream_field(topic): note}}}
        )


def _stream_field(topic: str) -> str:
    """Return the field name of a topic: dots, which would nest objects, become slashes, which no topic name has."""
    return topic.replace(".", "/")
