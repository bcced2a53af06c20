"""The metrics of a running job: what a scraper reads is what the job sums up."""

import random
import re
import urllib.request

import oracle
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions

from streamscore import score_stream
from streamscore.clients import kafka
from streamscore.local.ports import free_port

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def clicks(own, small_models, produce):
    """A configuration with metrics and a group of the lag, whose topic holds 200 events and 3 that are none."""
    config = own(
        oracle.listed(small_models),
        f"metrics.port={free_port()}",
        "kafka.lag_group=streamscore-{topic}",
        "stream.available_now=true",
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    chance = random.Random(1)
    events = [oracle.message(float(number % 4 == 0), oracle.vector(chance)) for number in range(200)]
    produce(config.kafka, config.kafka.topics.input, [*events, "a", "b", "c"])
    return config


def test_numbers_are_those_of_the_summary(spark, clicks):
    """Events, rejected ones, right ones and the lag are those that the job tells at its end; it is alive and ready."""
    pages = {}

    def watch(_totals) -> None:
        for path in ("metrics", "healthz"):
            with DIRECT.open(f"http://127.0.0.1:{clicks.metrics.port}/{path}", timeout=10) as answer:
                pages[path] = answer.read().decode()

    score_stream.check(clicks)
    summary = score_stream.run(spark, clicks, watch=watch)
    text = pages["metrics"]

    def number(name):
        return [float(value) for value in re.findall(rf"^streamscore_{name} (\S+)$", text, re.MULTILINE)]

    assert number(r"events_total\{.*\}") == [summary["events"]] == [203]
    assert number(r"rejected_events_total\{.*\}") == [3]
    for name, model in summary["models"].items():
        labels = rf'\{{model="{name}",model_version="{model["version"]}"\}}'
        assert number(f"scored_events_total{labels}") == [200]
        assert number(f"correct_events_total{labels}") == [model["correct"]]
    assert number(r"batch_duration_seconds_count") == [summary["batches"]]
    assert number(r"kafka_lag_events\{.*\}") == [0, 0, 0, 0]
    assert pages["healthz"] == "ok\n"

    client = kafka.admin(clicks.kafka)
    (future,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(clicks.kafka.lag_group_name)]).values()
    assert sum(place.offset for place in future.result(10).topic_partitions) == 203
