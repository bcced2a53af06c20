"""Writing to Elasticsearch: how long it is tried, and which faults may pass."""

import threading
import time

import pytest

from streamscore import sinks
from streamscore.clients import elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.spark.session import StopRequest


def test_write_is_given_up_soon_after_the_job_is_asked_to_stop(spark, make_config):
    """Nobody waits minutes for a server that is away, after Ctrl-C."""
    config = make_config("elasticsearch.url=http://127.0.0.1:1", "elasticsearch.retry_seconds=60")
    stop = StopRequest()
    writer = sinks.BatchWriter(config, [], stop, query=str)
    threading.Timer(3, stop.ask, ["a test"]).start()
    began = time.monotonic()

    with pytest.raises(Exception, match="all nodes failed"):
        writer._write_patiently(spark.createDataFrame([("a", 1)], "document_id string, n int"), "absent")
    assert 3 < time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("[PUT] on [ml/_bulk] failed; server[127.0.0.1:9200] returned [503|Service Unavailable:]", True),
        (
            "EsHadoopRemoteException: es_rejected_execution_exception: rejected execution of bulk",
            True,
        ),
        ("EsHadoopRemoteException: unavailable_shards_exception: [ml][0] primary shard is not active", True),
        ("[PUT] on [ml/_bulk] failed; server[127.0.0.1:9200] returned [401|Unauthorized:]", False),
        ("EsHadoopRemoteException: security_exception: action is unauthorized for user [who429]", False),
    ],
)
def test_overload_may_pass_and_refused_credentials_do_not(make_config, text, passes):
    """Whether or not the server answers otherwise."""
    config = make_config("elasticsearch.url=http://127.0.0.1:1")

    assert sinks._may_pass(Exception(text), config.elasticsearch) is passes


def test_status_that_was_not_taken_is_written_with_the_next(make_config, monkeypatch):
    """The page would show a gap, and Kibana too few events."""
    written, away = [], [True]

    def put(_client, _settings, status):
        if away[0]:
            raise ServerError("away")
        written.append(status["batch"])

    monkeypatch.setattr(elasticsearch, "put_status", put)
    writer = sinks.StatusWriter(make_config("elasticsearch.url=http://127.0.0.1:1").elasticsearch)
    writer.write([{"batch": 1}, {"batch": 2}])
    assert written == []
    away[0] = False
    writer.write([{"batch": 3}])
    assert written == [1, 2, 3]
    away[0] = True
    writer.write([{"batch": 4}])
    away[0] = False
    writer.close()

    assert written == [1, 2, 3, 4]


def test_status_that_is_refused_keeps_no_other_waiting(make_config, monkeypatch):
    """It would be refused again and again."""
    written = []

    def put(_client, _settings, status):
        if status["batch"] == 1:
            raise RefusedError("not such a document")
        written.append(status["batch"])

    monkeypatch.setattr(elasticsearch, "put_status", put)
    writer = sinks.StatusWriter(make_config("elasticsearch.url=http://127.0.0.1:1").elasticsearch)
    writer.write([{"batch": 1}, {"batch": 2}])

    assert written == [2]
