"""Three brokers of which two followers are frozen: appended records exist but are not visible."""

import json
import threading
import time
from collections import Counter

import oracle
import pytest
from cluster import Cluster

from streamscore import config as configuration
from streamscore import score_stream
from streamscore.clients import kafka, topic_records
from streamscore.errors import ServerError, StreamError
from streamscore.local.ports import free_port


@pytest.fixture(scope="module")
def cluster(addresses, tmp_path_factory):
    """Three brokers, min.insync.replicas 2."""
    folder = tmp_path_factory.mktemp("cluster")
    own = [f"kafka.bootstrap_servers=127.0.0.1:{free_port()}", f"state_dir={folder}"]
    started = Cluster(configuration.load("local", [*addresses, *own]))
    try:
        started.wait()
        yield started
    finally:
        started.stop()


@pytest.fixture
def config(cluster, own, small_models):
    """A configuration with this test's own topics on the three brokers; writes time out after 5 s."""
    made = own(
        f"kafka.bootstrap_servers={cluster.config.kafka.bootstrap_servers}",
        oracle.listed(small_models),
        "elasticsearch.enabled=false",
        "stream.available_now=true",
        "kafka.options={delivery.timeout.ms: '5000', request.timeout.ms: '4000', linger.ms: '20'}",
    )
    topics = made.kafka.topics
    cluster.make(topics.input, topics.predictions, topics.rejected)
    return made


def test_records_that_followers_have_not_got_yet_are_not_written_again(
    spark, cluster, config, small_models, consume, monkeypatch
):
    """A batch times out; its replay fails while records are hidden, and the next replay waits for them."""
    ledger = oracle.Ledger(5)
    oracle.send(config, ledger.next_messages(400, share_bad=0.25))
    await_visible = topic_records.await_visible
    # The client asks any broker, and two of three do not answer: then the job does not start (code 5).
    monkeypatch.setattr(kafka, "topic_id", lambda *_: "the same")
    monkeypatch.setattr(kafka, "require_allowed", lambda *_: None)

    with cluster.frozen():
        with pytest.raises(StreamError, match="while writing to the Kafka topics"):
            score_stream.run(spark, config)
        began = time.monotonic()
        with pytest.raises(StreamError, match=r"may still be hidden.* are all of Kafka's brokers running\?"):
            score_stream.run(spark, config)
        assert time.monotonic() - began < 240

        def thaw_soon(connection, topics, _seconds, is_stopping):
            threading.Timer(1.0, cluster.thaw).start()
            return await_visible(connection, topics, 120, is_stopping)

        monkeypatch.setattr(topic_records, "await_visible", thaw_soon)
        score_stream.run(spark, config)

    outcomes = [json.loads(value) for _, value, _ in consume(config.kafka, config.kafka.topics.predictions)]
    count = Counter((outcome["event_id"], outcome["model"]) for outcome in outcomes)
    assert (len(outcomes), set(count.values())) == (len(small_models) * len(ledger.good), {1})
    assert len(consume(config.kafka, config.kafka.topics.rejected)) == len(ledger.bad)


def test_waiting_for_what_is_hidden_ends_with_the_job_and_is_short_where_nothing_is(cluster, config):
    """Each partition is asked once or twice; a stopping job does not wait."""
    topics = [config.kafka.topics.predictions, config.kafka.topics.rejected]
    began = time.monotonic()
    assert topic_records.await_visible(config.kafka, topics, 60) == {topic: {0: 0, 1: 0} for topic in topics}
    assert time.monotonic() - began < 10

    with cluster.frozen():
        producer = kafka.producer(config.kafka)
        producer.produce(topics[1], b"hidden", partition=1)
        assert producer.flush(1) == 1
        with pytest.raises(ServerError, match=f"written to {topics[1]}-1 may still be hidden"):
            topic_records.await_visible(config.kafka, topics, 60, lambda: True)
    assert producer.flush(60) == 0
    assert topic_records.await_visible(config.kafka, topics, 60)[topics[1]] == {0: 0, 1: 1}
