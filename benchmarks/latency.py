"""How long an event waits for its outcome, at a steady rate that does not depend on how fast it is served."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from figures import percentile
from streamscore.clients import kafka, topic_records
from streamscore.config import Config


@contextmanager
def sending(config: Config, values: Sequence[bytes], rate: float) -> Iterator[None]:
    """Send events to the input topic at a rate (events per second), each with the time at which it is due.

    So an event that is sent late, since the machine or the client was busy, has waited since then.

    Raises:
        KafkaException: the broker did not take them all.
    """
    from confluent_kafka import KafkaException

    over = threading.Event()

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            raise KafkaException(error)

    def send() -> None:
        producer = kafka.producer(config.kafka)
        started, first, sent = time.perf_counter(), time.time(), 0
        while not over.is_set():
            due = int((time.perf_counter() - started) * rate)
            for number in range(sent, due):
                value, at = values[number % len(values)], round(1_000 * (first + number / rate))
                producer.produce(config.kafka.topics.input, value, timestamp=at, on_delivery=delivered)
            sent = due
            producer.poll(0)
            time.sleep(0.001)
        producer.flush()

    with ThreadPoolExecutor(1) as pool:
        sender = pool.submit(send)
        try:
            yield
        finally:
            over.set()
        sender.result()


def observed(config: Config, warm_up: float) -> dict[str, float]:
    """Return p50, p99 and max of what the predictions topic holds, in milliseconds.

    From the moment at which an event was due to that at which the outcome's record was made, both as Kafka has them.

    Args:
        config: the configuration.
        warm_up: seconds after the first event whose events do not count.
    """
    from confluent_kafka import OFFSET_BEGINNING, TopicPartition

    topic = config.kafka.topics.predictions
    waits: list[tuple[int, int]] = []
    wanted = topic_records.extent(config.kafka, topic).records
    consumer = kafka.consumer(config.kafka)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(config.kafka.partitions)])
    while len(waits) < wanted:
        for record in consumer.consume(10_000, 1.0):
            if record.error() is not None:  # the end of a partition, for now
                continue
            made = json.loads(record.value() or b"")["event_time"]
            waits.append((made, record.timestamp()[1] - made))
    consumer.close()
    first = min(made for made, _ in waits) + warm_up * 1_000
    counted = [wait for made, wait in waits if made >= first]
    if not counted:
        raise RuntimeError("no event after the warm-up: the machine is too busy, or the run too short")
    return {"p50": percentile(counted, 0.5), "p99": percentile(counted, 0.99), "max": max(counted)}
