"""The indices: concurrent creation, and the record of the streams that write to them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from streamscore.clients import elasticsearch, index_streams
from streamscore.errors import ServerError


@pytest.fixture
def settings(own):
    """Settings of Elasticsearch with this test's own indices, which do not exist yet."""
    return own().elasticsearch


def at_once(count, action):
    """Run an action in several threads at the same moment, and return the results."""
    barrier = Barrier(count)

    def begin(number):
        barrier.wait(20)
        return action(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def test_indices_are_created_once_by_jobs_that_start_together(settings, monkeypatch):
    """Jobs that all see missing indices create each index once."""
    compare, seen = elasticsearch.compare, Barrier(2)

    def missing(*arguments):
        found = compare(*arguments)
        if found:
            seen.wait(20)
        return found

    monkeypatch.setattr(elasticsearch, "compare", missing)
    created = at_once(2, lambda _: elasticsearch.ensure(settings))

    assert sorted(created[0] + created[1]) == sorted(settings.indices)
    assert elasticsearch.ensure(settings) == []


def test_index_that_something_else_creates_meanwhile_is_compared(settings, monkeypatch):
    """The mapping of an index that another program creates meanwhile is checked."""
    compare = elasticsearch.compare

    def missing(*arguments):
        found = compare(*arguments)
        if found:
            with elasticsearch.client(settings) as client:
                client.indices.create(index=settings.index, mappings={"properties": {"score": {"type": "text"}}})
        return found

    monkeypatch.setattr(elasticsearch, "compare", missing)
    with pytest.raises(ServerError, match="score is text, expected double"):
        elasticsearch.ensure(settings)


def test_streams_of_many_topics_are_all_noted(settings):
    """Concurrent jobs keep all records, also of topics whose names differ only in a dot."""
    elasticsearch.ensure(settings)
    topics = [f"clicks{separator}{number}" for separator in "._-" for number in range(8)]

    at_once(len(topics), lambda number: index_streams.record_checkpoint(settings, topics[number], f"stream {number}"))

    recorded = [index_streams.checkpoint_of(settings, topic) for topic in topics]
    assert recorded == [f"stream {number}" for number in range(len(topics))]


def test_newer_stream_of_a_topic_replaces_the_older(settings):
    """A new stream replaces the topic's record, as ``--new-checkpoint`` allows, and no other topic's."""
    elasticsearch.ensure(settings)
    assert index_streams.checkpoint_of(settings, "clicks") is None
    for topic, stream in (("clicks", "a"), ("views", "b"), ("clicks", "c"), ("clicks", "c")):
        index_streams.record_checkpoint(settings, topic, stream)

    assert index_streams.checkpoint_of(settings, "clicks") == "c"
    assert index_streams.checkpoint_of(settings, "views") == "b"


def test_note_of_an_earlier_release_counts_until_the_topic_has_a_newer_one(settings):
    """The old record, in the mapping's ``_meta``, counts until the topic has a new one."""
    elasticsearch.ensure(settings)
    with elasticsearch.client(settings) as client:
        client.indices.put_mapping(index=settings.index, meta={"streams": {"clicks": "old", "views": "older"}})

    index_streams.record_checkpoint(settings, "clicks", "new")

    assert index_streams.checkpoint_of(settings, "clicks") == "new"
    assert index_streams.checkpoint_of(settings, "views") == "older"


def test_deleted_index_remembers_no_stream(settings):
    """A recreated index names no stream."""
    elasticsearch.ensure(settings)
    index_streams.record_checkpoint(settings, "clicks", "a")
    elasticsearch.delete(settings)
    assert index_streams.checkpoint_of(settings, "clicks") is None
    elasticsearch.ensure(settings)

    assert index_streams.checkpoint_of(settings, "clicks") is None
