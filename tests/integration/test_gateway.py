"""Elasticsearch behind a gateway that answers itself, limits requests or is down, and deleted indices."""

import threading
import time

import pytest
from gateway import Gateway

from streamscore.clients import elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.sinks.base import Batch
from streamscore.sinks.elasticsearch import OutcomeDocuments

STATUS = {
    "@timestamp": 1_700_000_000_000,
    "query": "q",
    "batch": 0,
    "events": 1,
    "rejected": 0,
    "lag": 0,
    "batch_ms": 1,
    "events_per_second": 1.0,
    "models": ["lr:1"],
    "refused": [],
    "synthetic": True,
}


def batch(documents):
    """Return a batch of so many documents."""
    return Batch(0, lambda: "a-query", wait=time.sleep, aggregates={"documents": documents})


@pytest.fixture
def gateway(servers):
    """A gateway in front of this test run's Elasticsearch."""
    gateway = Gateway(servers.elasticsearch.url)
    yield gateway
    gateway.close()


@pytest.fixture
def config(own, gateway):
    """A configuration whose Elasticsearch is behind that gateway, with its indices."""
    config = own(f"elasticsearch.url={gateway.url}", "elasticsearch.retry_seconds=20")
    elasticsearch.ensure(config.elasticsearch)
    return config


def impatient(config):
    """Return the configuration without retries."""
    settings = config.elasticsearch.model_copy(update={"retry_seconds": 0})
    return config.model_copy(update={"elasticsearch": settings})


@pytest.fixture
def frame(spark):
    """Return a function that makes documents of events, with keys of a given length."""
    return lambda count, width=1: spark.range(count).selectExpr(
        "concat('e-', id) AS document_id",
        "1700000000000 AS `@timestamp`",
        "concat('e-', id) AS event_id",
        f"repeat('k', {width}) AS key",
        "'lr' AS model",
        "'1' AS model_version",
    )


def test_bulk_that_was_answered_without_items_is_written_again(config, gateway, frame):
    """The connector accepts the answer as a success, but the write is retried."""
    gateway.swallowed = 1
    OutcomeDocuments(config).write(frame(100), batch(100), None)

    assert elasticsearch.count(config.elasticsearch) == 100


def test_documents_that_were_only_said_to_be_written_fail_the_batch(config, gateway, frame):
    """The message has both numbers, the index and the probable cause."""
    gateway.swallowed = 1_000

    with pytest.raises(ServerError, match=r"'t\w+' at http\S+ has taken 0 of 100 documents.*gateway"):
        OutcomeDocuments(impatient(config)).write(frame(100), batch(100), None)


def test_replayed_batch_is_counted_as_written(config, frame):
    """Overwritten documents count as operations."""
    sink = OutcomeDocuments(impatient(config))
    for _ in range(2):
        sink.write(frame(100), batch(100), None)

    assert elasticsearch.count(config.elasticsearch) == 100


def test_bulks_become_as_small_as_a_gateway_takes_them(config, gateway, frame):
    """Requests shrink to a limit such as nginx's 1 MB; the next batch starts with the reduced size."""
    gateway.limit = 1_000_000
    sink = OutcomeDocuments(impatient(config))
    sink.write(frame(3_000, 2_000), batch(3_000), None)

    assert elasticsearch.count(config.elasticsearch) == 3_000
    assert max(gateway.bulks) <= gateway.limit
    gateway.bulks.clear()
    sink.write(frame(3_000, 2_000), batch(3_000), None)
    assert len(gateway.bulks) <= 20


def test_gateway_that_takes_next_to_nothing_is_named(config, gateway, frame):
    """The message names the gateway's setting."""
    gateway.limit = 1_000

    with pytest.raises(RefusedError, match=r"413.*client_max_body_size"):
        OutcomeDocuments(config).write(frame(1_000), batch(1_000), None)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_that_has_lost_its_server_is_waited_for(config, gateway, frame, status):
    """A gateway's error page, which is not JSON, counts as transient."""
    gateway.failing = [status]
    OutcomeDocuments(config).write(frame(10), batch(10), None)

    assert elasticsearch.count(config.elasticsearch) == 10


def test_refused_connection_is_tried_again_while_there_is_time(config, gateway, frame):
    """Refused connections, as during a gateway's restart, are retried until the deadline."""
    gateway.close()
    threading.Timer(4, gateway.reopen).start()
    OutcomeDocuments(config).write(frame(10), batch(10), None)

    assert elasticsearch.count(config.elasticsearch) == 10


def test_connection_refused_in_the_middle_of_a_write_is_tried_again(config, gateway, frame):
    """The gateway goes down between two requests of one write, and the write is retried."""
    closing = iter([True])

    def close_once() -> None:
        if next(closing, False):
            gateway.close()
            threading.Timer(3, gateway.reopen).start()
            raise ConnectionResetError

    gateway.before_bulk = close_once
    OutcomeDocuments(config).write(frame(10), batch(10), None)

    assert elasticsearch.count(config.elasticsearch) == 10


def test_deleted_index_stops_the_batch_and_is_not_made_by_it(config, frame):
    """Elasticsearch must not create the index with a guessed mapping, which the next start would refuse."""
    sink, name = OutcomeDocuments(config), config.elasticsearch.index
    sink.write(frame(10), batch(10), None)
    elasticsearch.delete(config.elasticsearch)

    with pytest.raises(RefusedError, match=f"the index '{name}' at .* was deleted"):
        sink.write(frame(10), batch(10), None)
    assert name in elasticsearch.compare(config.elasticsearch)


def test_index_deleted_in_the_middle_of_a_write_stops_the_batch(config, gateway, frame):
    """Elasticsearch recreates the index with a guessed mapping, and the batch fails."""
    gateway.before_bulk = lambda: elasticsearch.delete(config.elasticsearch)

    with pytest.raises(RefusedError, match="was deleted and created again"):
        OutcomeDocuments(config).write(frame(10), batch(10), None)


def test_deleted_status_index_comes_back_with_its_own_mapping(config):
    """The job recreates the index, because the next start would refuse a guessed mapping."""
    elasticsearch.delete(config.elasticsearch)
    with elasticsearch.client(config.elasticsearch) as client:
        elasticsearch.put_status(client, config.elasticsearch, STATUS)
        elasticsearch.put_status(client, config.elasticsearch, STATUS)

    assert config.elasticsearch.status_index not in elasticsearch.compare(config.elasticsearch)
