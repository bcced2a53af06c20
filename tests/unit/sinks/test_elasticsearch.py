"""Retries of writes to Elasticsearch: their duration, and the transient faults."""

import threading
import time

import pytest

from streamscore.clients import elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.sinks.base import Batch
from streamscore.sinks.elasticsearch import write_index
from streamscore.sinks.patience import is_transient, patiently
from streamscore.stream.stop import StopRequest


def test_write_is_given_up_soon_after_the_job_is_asked_to_stop(spark, make_config):
    """After a request to stop, the wait for an unreachable server ends soon."""
    config = make_config("elasticsearch.url=http://127.0.0.1:1", "elasticsearch.retry_seconds=60")
    stop = StopRequest()
    batch = Batch(0, str, lambda: bool(stop), stop.wait)
    frame = spark.createDataFrame([("a", 1)], "document_id string, n int")
    threading.Timer(3, stop.ask, ["a test"]).start()
    began = time.monotonic()

    with pytest.raises(Exception, match="all nodes failed"):
        patiently(lambda: write_index(frame, config.elasticsearch, "absent"), config.elasticsearch, batch)
    assert 3 < time.monotonic() - began < 20


def test_each_repeated_attempt_is_noted(make_config):
    """The batch hears of the failures after which the write is repeated."""
    failures, errors = [], [ServerError("away"), ServerError("overloaded")]

    def write():
        if errors:
            raise errors.pop()

    patiently(write, make_config().elasticsearch, Batch(0, str, failed=lambda: failures.append(1)))

    assert len(failures) == 2


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("[PUT] on [ml/_bulk] failed; server[127.0.0.1:9200] returned [503|Service Unavailable:]", True),
        ("[PUT] on [ml/_bulk] failed; server[127.0.0.1:9200] returned [504|Gateway Timeout:]", True),
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
    """Overload is transient and refused credentials are not, whether or not the server answers a health check."""
    config = make_config("elasticsearch.url=http://127.0.0.1:1")

    assert is_transient(Exception(text), config.elasticsearch) is passes


@pytest.mark.parametrize(
    ("health", "passes"), [(RefusedError("403"), False), (ServerError("away"), True), (None, False)], ids=str
)
def test_refusal_is_final_though_the_health_check_is_refused_too(make_config, monkeypatch, health, passes):
    """A refusal is permanent even if the user lacks the privilege `monitor` for the health check."""

    def ask(*_, **__):
        if health is not None:
            raise health

    monkeypatch.setattr(elasticsearch, "health", ask)
    error = Exception("EsHadoopRemoteException: strict_dynamic_mapping_exception: [1:2] mapping set to strict")

    assert is_transient(error, make_config().elasticsearch) is passes
