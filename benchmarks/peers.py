"""The same work without Spark, written as a good user of each library would: one process, one loop.

Each loop reads the input topic from its beginning with the consumer that it names, scores every event with the same
weights, and writes one record per event and model.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from figures import Run
from measure import Meter
from streamscore.clients import elasticsearch, kafka_settings
from streamscore.config import Config

WARM_UP = 0.1
"""Share of the events that the rate leaves out at the beginning."""

# By default librdkafka stops fetching for a second once 100,000 messages wait, however fast they are taken.
_FETCHING = {"queued.min.messages": 1_000_000, "fetch.queue.backoff.ms": 10}

Weights = Sequence[dict[str, Any]]


class Timed:
    """Counts the events of a loop and times the steady part of it."""

    def __init__(self, pids: dict[str, int], events: int) -> None:
        self._meter = Meter(pids | {"loop": os.getpid()})
        self._events, self._done, self._start = events, 0, (0, time.perf_counter())

    def more(self, count: int) -> bool:
        """Note that so many events are done, and tell whether there are more."""
        before, self._done = self._done, self._done + count
        if before < self._events * WARM_UP <= self._done:
            self._start = (self._done, time.perf_counter())
        return self._done < self._events

    def run(self) -> Run:
        """Return the figures, once the last record is acknowledged."""
        first, started = self._start
        timed = self._done - first
        return self._meter.run(self._done, (timed, time.perf_counter() - started) if timed else None)


def kafka_python(config: Config, models: Weights, pids: dict[str, int], events: int) -> Run:
    """Run the article's loop: kafka-python, json, a dense vector, its own four fields."""
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    servers, names = config.kafka.bootstrap_servers, config.kafka.topics
    consumer = KafkaConsumer(bootstrap_servers=servers, value_deserializer=json.loads, max_poll_records=5_000)
    consumer.assign([TopicPartition(names.input, number) for number in range(config.kafka.partitions)])
    consumer.seek_to_beginning()
    producer = KafkaProducer(
        bootstrap_servers=servers,
        value_serializer=lambda value: json.dumps(value).encode(),
        linger_ms=20,
        batch_size=131_072,
    )
    scorers = [(model["name"], np.array(model["weights"]), model["intercept"]) for model in models]
    size = len(scorers[0][1])
    timed = Timed(pids, events)
    more = True
    while more:
        for records in consumer.poll(1_000).values():
            for record in records:
                event = record.value
                vector = event["features"]
                features = np.zeros(size)
                features[vector["indices"]] = vector["values"]
                label = event["label"]
                for name, weights, intercept in scorers:
                    prediction = float(weights @ features + intercept > 0.0)
                    outcome = {"model": name, "prediction": prediction, "label": label, "correct": prediction == label}
                    producer.send(names.predictions, outcome)
            more = timed.more(len(records)) and more
    producer.flush()
    return timed.run()


def confluent_numpy(config: Config, models: Weights, pids: dict[str, int], events: int) -> Run:
    """Run the same loop on confluent-kafka: json, the set entries alone, the article's four fields."""
    scorers = [(model["name"], np.array(model["weights"]), model["intercept"]) for model in models]

    def outcomes(record: Any) -> Iterator[bytes]:
        event = json.loads(record.value())
        vector, label = event["features"], event["label"]
        values = np.array(vector["values"])
        indices = np.array(vector["indices"])
        for name, weights, intercept in scorers:
            prediction = float(weights[indices] @ values + intercept > 0.0)
            outcome = {"model": name, "prediction": prediction, "label": label, "correct": prediction == label}
            yield json.dumps(outcome).encode()

    return _confluent(config, outcomes, pids, events)


def confluent_orjson(config: Config, models: Weights, pids: dict[str, int], events: int) -> Run:
    """Run the fastest plain Python known: orjson, a plain dot product, and the very records that streamscore writes."""
    import orjson

    scorers = [(m["name"], m["version"], m["weights"], m["intercept"], m["kind"] == "lr") for m in models]
    topic, read, write, exp = config.kafka.topics.input, orjson.loads, orjson.dumps, math.exp

    def outcomes(record: Any) -> Iterator[bytes]:
        event = read(record.value())
        vector, label = event["features"], event["label"]
        pairs = list(zip(vector["indices"], vector["values"], strict=True))
        event_id = f"{topic}-{record.partition()}-{record.offset()}"
        at = record.timestamp()[1]
        for name, version, weights, intercept, is_logistic in scorers:
            margin = intercept
            for place, value in pairs:
                margin += weights[place] * value
            prediction = 1.0 if margin > 0.0 else 0.0
            yield write(
                {
                    "event_id": event_id,
                    "key": None,
                    "model": name,
                    "model_version": version,
                    "prediction": prediction,
                    "score": 1.0 / (1.0 + exp(-margin)) if is_logistic else margin,
                    "label": label,
                    "correct": 1 if prediction == label else 0,
                    "event_time": at,
                }
            )

    return _confluent(config, outcomes, pids, events, with_key=True)


def confluent_copy(config: Config, models: Weights, pids: dict[str, int], events: int) -> Run:
    """Copy each event as it is, one record per event."""
    del models
    return _confluent(config, lambda record: iter((record.value(),)), pids, events)


def _confluent(
    config: Config,
    outcomes: Callable[[Any], Iterator[bytes]],
    pids: dict[str, int],
    events: int,
    *,
    with_key: bool = False,
) -> Run:
    from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

    names, connection = config.kafka.topics, kafka_settings.client_settings(config.kafka)
    consumer = Consumer({**connection, **_FETCHING, "group.id": "benchmark", "enable.auto.commit": False})
    places = range(config.kafka.partitions)
    consumer.assign([TopicPartition(names.input, number, OFFSET_BEGINNING) for number in places])
    producer = Producer(
        {
            **connection,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    timed = Timed(pids, events)
    more = True
    while more:
        records = consumer.consume(2_000, 0.1)  # it waits for all of them, so the last ones cost the whole time
        for record in records:
            key = f"{names.input}-{record.partition()}-{record.offset()}" if with_key else None
            for value in outcomes(record):
                try:
                    producer.produce(names.predictions, value, key)
                except BufferError:
                    producer.poll(1.0)
                    producer.produce(names.predictions, value, key)
        producer.poll(0)
        more = timed.more(len(records))
    producer.flush()
    consumer.close()
    return timed.run()


def bulk_load(config: Config, models: Weights, pids: dict[str, int], events: int) -> Run:
    """Load ready-made bulk requests, two at a time: the same documents under the same ids, nothing else to do."""
    settings = config.elasticsearch
    size = config.elasticsearch.bulk_documents // len(models) * len(models)  # no event is in two requests
    lines = [line for number in range(events) for line in _document(config, models, number)]
    requests = [lines[at : at + 2 * size] for at in range(0, len(lines), 2 * size)]
    bodies = [("\n".join(own).encode() + b"\n", len(own) // 2 // len(models)) for own in requests]
    del lines, requests
    timed, counting = Timed(pids, events), threading.Lock()

    def send(own: Sequence[tuple[bytes, int]]) -> None:
        with elasticsearch.client(settings, 120) as client:
            for body, count in own:
                answer = client.bulk(index=settings.index, body=body, filter_path="errors")  # type: ignore[arg-type]
                if answer["errors"]:
                    raise RuntimeError("Elasticsearch refused documents")
                with counting:
                    timed.more(count)

    with ThreadPoolExecutor(2) as pool:
        for sent in [pool.submit(send, bodies[first::2]) for first in range(2)]:
            sent.result()
    return timed.run()


def _document(config: Config, models: Weights, number: int) -> Iterator[str]:
    event_id = f"{config.kafka.topics.input}-{number % 4}-{number // 4}"
    for position, model in enumerate(models):
        score = (number * 7919 + position) % 9973 / 9973.0
        yield f'{{"index":{{"_id":"{event_id}-{model["name"]}-{model["version"]}"}}}}'
        yield json.dumps(
            {
                "@timestamp": 1_700_000_000_000 + number,
                "event_id": event_id,
                "model": model["name"],
                "model_version": model["version"],
                "prediction": float(score > 0.5),
                "score": score,
                "label": float(number % 4 == 0),
                "correct": int((score > 0.5) == (number % 4 == 0)),
            },
            separators=(",", ":"),
        )


LOOPS = {loop.__name__: loop for loop in (kafka_python, confluent_numpy, confluent_orjson, confluent_copy, bulk_load)}
