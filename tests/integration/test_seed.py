"""seed_topic on the real broker: every row once, in order, at the configured rate, and resumed after a kill."""

import itertools
import json
import socket
import time

import pytest
from confluent_kafka.admin import NewTopic
from pyspark.ml.linalg import Vectors

from streamscore import seed_topic
from streamscore.clients import kafka, topic_records
from streamscore.clients import paced as pacing
from streamscore.data import datasets
from streamscore.errors import RefusedError, ServerError
from streamscore.spark import sources


@pytest.fixture(scope="session")
def source(spark, tmp_path_factory):
    """A parquet folder of 5,000 rows."""
    folder = tmp_path_factory.mktemp("seed") / "rows"
    rows = [(float(n % 2), Vectors.sparse(10, [3], [float(n)])) for n in range(5000)]
    spark.createDataFrame(rows, ["label", "features"]).write.parquet(str(folder))
    return folder


def run(spark, config):
    """Check and send."""
    seed_topic.check(config)
    return seed_topic.run(spark, config)


def numbers(records):
    """Return the row numbers in the keys of records."""
    return [int(key.decode().split("-")[1]) for key, _, _ in records]


def test_full_speed_sends_every_row_once(spark, own, source, consume):
    """Each message has the row's key, the same id in the header, and a value that the scorer reads."""
    config = own(f"seed.source={source}", "kafka.partitions=3")
    summary = run(spark, config)
    records = consume(config.kafka, config.kafka.topics.input)

    assert summary["rows"] == summary["sent"] == 5000
    assert sorted(numbers(records)) == list(range(5000))
    assert all(key.decode().split("-")[0] == summary["digest"] for key, _, _ in records)
    assert all(headers == [("id", key)] for key, _, headers in records)
    assert {json.loads(value)["features"]["values"][0] for _, value, _ in records} == {float(n) for n in range(5000)}
    assert len(topic_records.extent(config.kafka, config.kafka.topics.input).end) == 3


def test_limit_and_repeat(spark, own, source, consume):
    """The first rows are sent several times, each time under other numbers."""
    config = own(f"seed.source={source}", "seed.limit=20", "seed.repeat=3")
    run(spark, config)

    assert sorted(numbers(consume(config.kafka, config.kafka.topics.input))) == [
        round_ * 5000 + row for round_ in range(3) for row in range(20)
    ]


def test_key_stands_for_one_row_whatever_the_limit(spark, own, source, consume):
    """A smaller run's second round is not taken for later rows of the first round."""
    config = own(f"seed.source={source}", "seed.limit=20", "seed.repeat=2")
    run(spark, config)
    whole = config.model_copy(update={"seed": config.seed.model_copy(update={"limit": None, "resume": True})})
    summary = run(spark, whole.model_copy(update={"seed": whole.seed.model_copy(update={"repeat": 1})}))
    records = consume(config.kafka, config.kafka.topics.input)
    values = {numbers([record])[0]: json.loads(record[1])["features"]["values"][0] for record in records}

    assert summary["sent"] == 4980
    assert len(records) == len(values) == 5020
    assert all(value == number % 5000 for number, value in values.items())


def test_topic_that_does_not_take_a_message_is_told_in_one_line(spark, own, source):
    """Both modes report the refused message in one line."""
    config = own(f"seed.source={source}", "seed.limit=1")  # the client would retry several messages in smaller batches
    small = NewTopic(config.kafka.topics.input, 1, 1, config={"max.message.bytes": "50"})
    client = kafka.admin(config.kafka)
    client.create_topics([small])[config.kafka.topics.input].result()
    for rate in (None, 10_000.0):
        paced = config.model_copy(update={"seed": config.seed.model_copy(update={"rate": rate})})
        with pytest.raises(ServerError, match="did not take every message: .* Run again with --resume") as caught:
            run(spark, paced)

        assert len(str(caught.value).splitlines()) == 1
        assert "Lost task" not in str(caught.value)


def test_message_that_the_client_does_not_take_is_told_in_one_line(own):
    """The message exceeds the client's own limit."""
    config = own()

    with pytest.raises(ServerError, match="the topic .* does not take row-1: .*too large"):
        pacing.send_paced([{"key": b"row-1", "value": "x" * (33 << 20)}], 1, 1000.0, config)


def test_first_message_of_a_million_rounds_goes_out_at_once(spark, own, source, monkeypatch):
    """The rounds are planned while they are sent, not before."""
    config = own(f"seed.source={source}", "seed.repeat=1000000", "seed.rate=1000")
    sent = []

    def some(messages, total, _rate, _config):
        sent.extend(int(row["key"].decode().split("-")[1]) for row in itertools.islice(messages, 12_000))
        assert total == 5_000_000_000

    monkeypatch.setattr(seed_topic, "_SORTED_AT_ONCE", 9_000)
    monkeypatch.setattr(seed_topic, "send_paced", some)
    run(spark, config)

    assert sent == list(range(12_000))


@pytest.mark.parametrize("rate", ["null", "100000"])
def test_resume_sends_exactly_what_is_missing(spark, own, source, consume, produce, rate):
    """A resumed run fills gaps anywhere, also beside rows of another data set."""
    config = own(f"seed.source={source}", "seed.resume=true", f"seed.rate={rate}")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    all_records = datasets.records(datasets.numbered(spark, config.seed), config, range(1))
    there = all_records.filter("number % 7 = 3 or number between 1000 and 1999").select("key", "value").collect()
    produce(config.kafka, config.kafka.topics.input, [(bytes(row["key"]), row["value"], []) for row in there])
    produce(config.kafka, config.kafka.topics.input, [(b"other-5", "{}", [])])
    summary = run(spark, config)
    records = [record for record in consume(config.kafka, config.kafka.topics.input) if record[0] != b"other-5"]

    assert summary["sent"] == 5000 - len(there)
    assert sorted(numbers(records)) == list(range(5000))
    assert run(spark, config)["sent"] == 0


def test_pace_is_kept_within_two_percent_over_a_minute(spark, own, source):
    """By the broker's clock the first and the last message are a minute apart, in row order."""
    rate, count = 83, 4980
    config = own(f"seed.source={source}", f"seed.rate={rate}", f"seed.limit={count}", "kafka.partitions=1")
    began = time.monotonic()
    run(spark, config)
    times = [
        (row["key"], row["timestamp"].timestamp())
        for row in sources.topic(spark, config.kafka, config.kafka.topics.input).orderBy("offset").collect()
    ]
    halves = [(times[a][1], times[b][1]) for a, b in ((0, count // 2), (count // 2, count - 1))]

    assert numbers([(bytes(key), None, None) for key, _ in times]) == list(range(count))
    assert times[-1][1] - times[0][1] == pytest.approx((count - 1) / rate, rel=0.02)
    assert all(end - start == pytest.approx(count / 2 / rate, rel=0.04) for start, end in halves)
    assert time.monotonic() - began >= 59


def test_pace_begins_with_the_first_row(spark, own):
    """The time that Spark needs to sort causes no initial burst."""
    config = own("kafka.partitions=1")
    kafka.ensure(config.kafka, config.kafka.topics.input)

    def rows():
        time.sleep(1)
        yield from ({"key": b"1-%d" % number, "value": "{}"} for number in range(50))

    pacing.send_paced(rows(), 50, 50, config)
    first, *_, last = sources.topic(spark, config.kafka, config.kafka.topics.input).orderBy("offset").collect()

    assert (last["timestamp"] - first["timestamp"]).total_seconds() > 0.5


def test_absent_broker_is_named(own, source):
    """The error comes within seconds, before any JVM starts."""
    config = own(f"seed.source={source}", "kafka.bootstrap_servers=127.0.0.1:1")
    began = time.monotonic()

    with pytest.raises(ServerError, match="no Kafka broker answers at 127.0.0.1:1 .*refused.*streamscore up"):
        seed_topic.check(config)
    assert time.monotonic() - began < 6


def test_broker_that_refuses_the_credentials_is_told_as_a_refusal(own, monkeypatch):
    """The error is a refusal and not a transient fault."""
    monkeypatch.setenv("LOGIN", 'x required username="u" password="hunter2";')
    options = ("security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.jaas.config=${env:LOGIN}")
    config = own(*(f"kafka.options.{option}" for option in options))

    with pytest.raises(
        RefusedError, match=r"refuses the credentials \(.* PLAIN .*\): see .* of kafka.options"
    ) as caught:
        kafka.names(config.kafka)
    assert "hunter2" not in str(caught.value)


def test_broker_that_does_not_answer_is_waited_for(own):
    """A broker that accepts the connection may only be slow, so the whole timeout applies."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ServerError, match=f"no Kafka broker answers at {address}"):
            kafka.names(own(f"kafka.bootstrap_servers={address}").kafka, timeout=4)

    assert time.monotonic() - began > 3.5
