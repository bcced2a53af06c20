"""The indices: made by whoever comes first, and what they remember of the streams that write to them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from streamscore.clients import elasticsearch
from streamscore.errors import ServerError


@pytest.fixture
def settings(own):
    """Elasticsearch with indices of this test's own, which do not exist yet."""
    return own().elasticsearch


def at_once(count, action):
    """Run an action in some threads that all begin in the same moment; return what each returned."""
    barrier = Barrier(count)

    def begin(number):
        barrier.wait(20)
        return action(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def test_indices_are_created_once_by_jobs_that_start_together(settings, monkeypatch):
    """Each job sees that the indices are missing before another one has created them."""
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
    """Its mapping need not be the one that the job would have given it."""
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
    """Jobs that start together lose none of each other's notes; topics' names may differ in a dot only."""
    elasticsearch.ensure(settings)
    topics = [f"clicks{separator}{number}" for separator in "._-" for number in range(8)]

    at_once(len(topics), lambda number: elasticsearch.note_checkpoint(settings, topics[number], f"stream {number}"))

    noted = [elasticsearch.checkpoint_of(settings, topic) for topic in topics]
    assert noted == [f"stream {number}" for number in range(len(topics))]


def test_newer_stream_of_a_topic_replaces_the_older(settings):
    """As ``--new-checkpoint`` allows; other topics' streams stay."""
    elasticsearch.ensure(settings)
    assert elasticsearch.checkpoint_of(settings, "clicks") is None
    for topic, stream in (("clicks", "a"), ("views", "b"), ("clicks", "c"), ("clicks", "c")):
        elasticsearch.note_checkpoint(settings, topic, stream)

    assert elasticsearch.checkpoint_of(settings, "clicks") == "c"
    assert elasticsearch.checkpoint_of(settings, "views") == "b"


def test_note_of_an_earlier_release_counts_until_the_topic_has_a_newer_one(settings):
    """It was kept in the metadata of the index's mapping, all topics together."""
    elasticsearch.ensure(settings)
    with elasticsearch.client(settings) as client:
        client.indices.put_mapping(index=settings.index, meta={"streams": {"clicks": "old", "views": "older"}})

    elasticsearch.note_checkpoint(settings, "clicks", "new")

    assert elasticsearch.checkpoint_of(settings, "clicks") == "new"
    assert elasticsearch.checkpoint_of(settings, "views") == "older"


def test_deleted_index_remembers_no_stream(settings):
    """Its outcomes are gone as well."""
    elasticsearch.ensure(settings)
    elasticsearch.note_checkpoint(settings, "clicks", "a")
    elasticsearch.delete(settings)
    assert elasticsearch.checkpoint_of(settings, "clicks") is None
    elasticsearch.ensure(settings)

    assert elasticsearch.checkpoint_of(settings, "clicks") is None
