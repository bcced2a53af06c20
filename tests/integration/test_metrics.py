"""The metrics of a running job: what a scraper reads is what the job sums up."""

import json
import random
import re
import threading
import time
import urllib.request
from collections import Counter

import oracle
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from watchers import prometheus, until

from streamscore import label_stream, score_stream
from streamscore.cli import labels
from streamscore.clients import kafka
from streamscore.listeners import label_metrics
from streamscore.local.ports import free_port
from streamscore.spark import sources
from streamscore.stream.stop import StopRequest

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


def offsets(config, group):
    """Return the sum of a group's offsets."""
    client = kafka.admin(config.kafka)
    (future,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    return sum(place.offset for place in future.result(10).topic_partitions)


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
    assert sum(number(r"rejected_events_total\{.*\}")) == 3
    for name, model in summary["models"].items():
        labels = rf'\{{model="{name}",model_version="{model["version"]}"\}}'
        assert number(f"scored_events_total{labels}") == [200]
        assert number(f"correct_events_total{labels}") == [model["correct"]]
    assert number(r"batch_duration_seconds_count") == [summary["batches"]]
    assert number(r"kafka_lag_events\{.*\}") == [0, 0, 0, 0]
    assert pages["healthz"] == "ok\n"

    assert offsets(clicks, clicks.kafka.lag_group_name) == 203


def test_numbers_of_a_real_prometheus_are_the_oracle_s(spark, clicks, consume, outcomes, tmp_path):
    """What Prometheus has scraped of a live job is what the topics hold: outcomes, reasons, and times until written."""
    began, found = time.time(), {}
    queries = {
        "reasons": "streamscore_rejected_events_total",
        "buckets": "streamscore_event_latency_seconds_bucket",
        "latency": "streamscore_event_latency_seconds_sum",
        "correct": "streamscore_correct_events_total",
        "seconds": "streamscore_sink_seconds_total",
        "errors": "streamscore_sink_errors_total",
    }

    score_stream.check(clicks)
    with prometheus(tmp_path, {"streamscore": f"127.0.0.1:{clicks.metrics.port}"}) as server:

        def watch(totals) -> None:
            if totals.events == 203 and not found:
                found["until"] = time.time()
                until("all is scraped", lambda: server.number("streamscore_events_total") == 203)
                found.update({name: server.samples(query) for name, query in queries.items()})

        score_stream.run(spark, clicks, watch=watch)

    topics = clicks.kafka.topics
    correct = Counter(outcome["model"] for outcome in outcomes(clicks) if outcome["correct"])
    reasons = Counter(dict(headers)["reason"].decode() for _, _, headers in consume(clicks.kafka, topics.rejected))
    times = sources.topic(spark, clicks.kafka, topics.input).selectExpr("unix_millis(timestamp) / 1000").collect()
    written = sources.topic(spark, clicks.kafka, topics.predictions).selectExpr("max(unix_millis(timestamp)) / 1000")
    shortest = [written.collect()[0][0] - at for (at,) in times]
    longest = [found["until"] - at for (at,) in times]

    assert {series["model"]: number for series, number in found["correct"]} == correct
    assert {series["reason"]: number for series, number in found["reasons"] if number} == reasons
    assert sum(reasons.values()) == 3
    ((_, total),) = found["latency"]
    assert sum(shortest) <= total <= sum(longest)
    for series, number in found["buckets"]:
        bound = float(series["le"])
        # An age is rounded up by a tenth at most.
        assert sum(1.1 * wait + 0.01 <= bound for wait in longest) <= number <= sum(wait <= bound for wait in shortest)
    assert {series["sink"] for series, _ in found["errors"]} == {
        *("rejected_documents", "outcome_documents", "quality_statistics", "kafka_records")
    }
    assert all(number == 0 for _, number in found["errors"])
    assert all(0 < number < found["until"] - began for _, number in found["seconds"])


def test_labels_are_counted_as_the_indices_say(spark, own, small_models, monkeypatch, tmp_path):
    """What Prometheus has scraped of the live label job is what its indices hold; tools for Kafka see its lag."""
    monkeypatch.setattr(label_metrics, "STATE_SECONDS", 0.5)
    config = own(
        oracle.listed(small_models),
        f"metrics.labels_port={free_port()}",
        "kafka.lag_group=streamscore-{topic}",
        "labels.retry_seconds=1",
    )
    topics, chance, stop = config.kafka.topics, random.Random(2), StopRequest()
    kafka.ensure(config.kafka, topics.input, topics.labels)
    producer = kafka.producer(config.kafka)
    for number in range(40):
        producer.produce(topics.input, oracle.message(None, oracle.vector(chance)), f"k{number}")
    for number in [*range(30), 0, *range(100, 105)]:
        producer.produce(topics.labels, json.dumps({"id": f"k{number}", "label": 1.0, "time": 1_795_511_399_237}))
    producer.produce(topics.labels, b"{")
    assert producer.flush(30) == 0
    once = config.model_copy(update={"stream": config.stream.model_copy(update={"available_now": True})})
    score_stream.check(once)
    score_stream.run(spark, once)

    label_stream.check(config)
    address, found = f"127.0.0.1:{config.metrics.labels_port}", {}
    job = threading.Thread(target=label_stream.run, args=(spark, config, stop))
    job.start()
    try:
        with prometheus(tmp_path, {"streamscore-labels": address}) as server:
            until("5 labels wait", lambda: server.number("streamscore_labels_pending") == 5, 120)
            until("all are counted", lambda: server.number("sum(streamscore_labels_total)") == 32)
            for name in ("labels_total", "received_labels_total", "label_coverage_ratio", "sink_errors_total"):
                found[name] = server.samples(f"streamscore_{name}")
            lag = server.number("sum(streamscore_kafka_lag_events)")
        health = [DIRECT.open(f"http://{address}/{path}", timeout=10).read() for path in ("healthz", "readyz")]
    finally:
        stop.ask("the test")
        job.join(120)

    state = labels.read(config, "24h")
    assert {series["outcome"]: number for series, number in found["labels_total"]} == {
        name: state.counts[name] for name in ("matched", "duplicate", "superseded", "expired", "rejected")
    }
    assert [number for _, number in found["received_labels_total"]] == [state.counts["received"]] == [37]
    assert state.counts["pending"] == 5
    assert {series["model"]: number for series, number in found["label_coverage_ratio"]} == {
        each.model: each.share for each in state.coverage
    }
    assert {each.share for each in state.coverage} == {0.75}
    assert [(series["sink"], number) for series, number in found["sink_errors_total"]] == [("late_labels", 0)]
    assert (lag, health) == (0, [b"ok\n", b"ok\n"])
    assert offsets(config, "streamscore-" + topics.labels) == 37
