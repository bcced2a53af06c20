"""The job's lag in a consumer group of a real broker, as Kafka's own tools see it."""

import contextlib
import time
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

from streamscore.clients import group_offsets, kafka
from streamscore.clients.group_offsets import GroupOffsets
from streamscore.errors import RefusedError, ServerError
from streamscore.listeners.lag_group import LagGroup


@pytest.fixture
def clicks(own, produce):
    """A configuration whose input topic holds 20 records in two partitions."""
    config = own("kafka.partitions=2", "kafka.lag_group=streamscore-{topic}")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, [str(number) for number in range(20)])
    await_group(config)
    return config


def await_group(config):
    """Wait until the broker has loaded what it keeps of the group, which takes a moment after its start."""
    offsets = GroupOffsets(config.kafka, config.kafka.lag_group_name)
    deadline = time.monotonic() + 30
    while True:
        offsets.commit(dict.fromkeys(ends(config), 0))
        try:
            assert offsets.take(15)
        except ServerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def ends(config):
    """Return the end of each partition of the input topic."""
    topic = config.kafka.topics.input
    with contextlib.closing(kafka.consumer(config.kafka)) as consumer:
        return {(topic, at): consumer.get_watermark_offsets(TopicPartition(topic, at), 10)[1] for at in range(2)}


def lag(config):
    """Return the lag of the group over all partitions, computed as ``kafka-consumer-groups.sh --describe`` does."""
    client = kafka.admin(config.kafka)
    request = [ConsumerGroupTopicPartitions(config.kafka.lag_group_name)]
    (future,) = client.list_consumer_group_offsets(request).values()
    last = ends(config)
    return sum(last[place.topic, place.partition] - place.offset for place in future.result(10).topic_partitions)


def test_group_shows_the_lag(clicks, produce, caplog):
    """The lag is what lies behind the last committed batch: 0 when all is scored, and then what comes in."""
    last = ends(clicks)
    listener = LagGroup(clicks.kafka, clicks.kafka.lag_group_name)
    listener.open()
    listener.committed(SimpleNamespace(ends={place: end - 3 for place, end in last.items()}))
    listener.refresh()
    listener.committed(SimpleNamespace(ends=last))
    listener.close()
    assert sum(last.values()) == 20
    assert lag(clicks) == 0
    produce(clicks.kafka, clicks.kafka.topics.input, ["more"])
    assert lag(clicks) == 1
    assert caplog.text == ""


def test_lag_of_a_job_in_the_middle(clicks):
    """A batch that ends before the last records leaves these as the lag."""
    offsets = GroupOffsets(clicks.kafka, clicks.kafka.lag_group_name)
    offsets.commit({place: end - 3 for place, end in ends(clicks).items()})
    assert offsets.take(15)

    assert lag(clicks) == 6


def test_group_with_a_member_is_left_alone(clicks):
    """The offsets of a group that somebody reads with are refused, with the way out."""
    name = clicks.kafka.lag_group_name
    with contextlib.closing(Consumer({**kafka.client_settings(clicks.kafka), "group.id": name})) as consumer:
        consumer.subscribe([clicks.kafka.topics.input])
        while not consumer.assignment():
            consumer.poll(0.2)
        offsets = GroupOffsets(clicks.kafka, name)
        offsets.commit(ends(clicks))
        with pytest.raises(RefusedError, match=r"has members.*kafka\.lag_group"):
            offsets.take(15)
        assert not offsets.is_waiting


def test_broker_that_is_away_is_a_failure_that_may_pass(make_config, monkeypatch):
    """Without a broker the request fails after its time, and is none that is given up for good."""
    monkeypatch.setattr(group_offsets, "REQUEST_SECONDS", 1.0)
    offsets = GroupOffsets(make_config("kafka.bootstrap_servers=127.0.0.1:1").kafka, "streamscore-clicks")
    offsets.commit({("clicks", 0): 1})
    assert not offsets.take()
    with pytest.raises(ServerError, match="streamscore-clicks") as caught:
        offsets.take(30)
    assert not isinstance(caught.value, RefusedError)
