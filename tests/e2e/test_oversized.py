"""A message that is larger unpacked than the JVM's memory: named, passed over, and the rest scored once."""

import json
from collections import Counter

import oracle
import pytest

from streamscore.clients import kafka, rejected, topic_records

BYTES = 400 << 20


@pytest.fixture
def config(own, small_models):
    """A configuration with one partition, and a JVM that cannot hold the message."""
    config = own(
        oracle.listed(small_models),
        "kafka.partitions=1",
        "stream.available_now=true",
        "spark.driver_memory=600m",
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    return config


def test_message_larger_than_the_memory_is_passed_over(shell, config, as_file, produce):
    """The job ends with code 50 or 52; doctor names the message; with --skip all others have their outcomes once."""
    good = [json.dumps({"label": 1, "features": oracle_vector(number)}).encode() for number in range(20)]
    topic, env = config.kafka.topics.input, {"STREAMSCORE_CONFIG": as_file(config)}
    produce(config.kafka, topic, good[:12])
    send_zeros(config)
    produce(config.kafka, topic, good[12:])
    broken = shell(["streamscore", "score"], env=env)
    assert broken.returncode in {50, 52}, broken.stdout + broken.stderr

    named = shell(["streamscore", "doctor"], env=env)
    assert f"at offset 12 of partition 0 has {BYTES:,} bytes" in " ".join(named.stdout.split()), named.stdout
    passed = shell(["streamscore", "score", "--skip", "0:12"], env=env)
    assert passed.returncode == 0, passed.stdout + passed.stderr

    outcomes = Counter(
        (found["event_id"], found["model"])
        for found in (json.loads(m.value()) for m in topic_records.read(config.kafka, config.kafka.topics.predictions))
    )
    (kept,) = rejected.read(config.kafka)
    assert outcomes == {(f"{topic}-0-{at}", name): 1 for at in range(21) if at != 12 for name in ("lr", "svm")}
    assert (kept.event_id, kept.reason, kept.is_kept) == (f"{topic}-0-12", "too_large", False)


def oracle_vector(number):
    """Return a vector of the models' size, as JSON."""
    return {"type": 0, "size": oracle.SIZE, "indices": [number % 7], "values": [1.0]}


def send_zeros(config):
    """Send a message that is small as Kafka keeps it."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": config.kafka.bootstrap_servers,
            "compression.type": "gzip",
            "message.max.bytes": 1_000_000_000,
        }
    )
    producer.produce(config.kafka.topics.input, bytes(BYTES))
    assert producer.flush(120) == 0
