"""The rejected topic: list, show, and replay once."""

import random
import re
import time

import oracle
import pytest
import yaml
from typer.testing import CliRunner

from streamscore import cli, score_stream
from streamscore.clients import kafka, rejected, topic_records
from streamscore.errors import ConfigError, InputError, ServerError, StreamscoreError


@pytest.fixture(scope="module")
def config(spark, make_own, small_models, produce, tmp_path_factory):
    """A configuration whose rejected topic holds five messages with two reasons."""
    models = f"models=[{{name: lr, uri: {small_models['lr']}}}]"
    no_limit = "stream.max_rejected_share=null"
    config = make_own("rejected", tmp_path_factory.mktemp("r"), models, "stream.available_now=true", no_limit)
    kafka.ensure(config.kafka, config.kafka.topics.input)
    bad = [(f"k{n}".encode(), b"secret" if n < 3 else b"{}", [("trace", b"t")]) for n in range(5)]
    produce(config.kafka, config.kafka.topics.input, bad)
    score_stream.check(config)
    score_stream.run(spark, config)
    return config


@pytest.fixture
def command(config, tmp_path):
    """Return a function that runs `streamscore rejected …` on that configuration."""
    file = tmp_path / "rejected.yml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude={"kafka": {"options"}})))

    def run(*words):
        result = CliRunner().invoke(cli.app, ["rejected", *words, "--config", str(file)])
        if isinstance(result.exception, StreamscoreError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_list_counts_reasons_and_names_the_newest(command):
    """The list shows no content."""
    listed = command("list")

    assert "       3 not_json\n" in listed
    assert "       2 bad_features\n" in listed
    assert listed.count("not_json: not JSON, or not complete, near byte 0") == 3
    assert "secret" not in listed
    assert len(command("list", "--reason", "not_json", "--limit", "2").splitlines()) == 3


def test_message_with_more_headers_than_the_client_takes_is_told(own, tmp_path, produce):
    """The list mentions a message whose headers cannot be read."""
    kafka_settings = own().kafka
    kafka.ensure(kafka_settings, kafka_settings.topics.rejected)
    headers = [("h", b"")] * (rejected.MAX_HEADERS + 1)
    produce(kafka_settings, kafka_settings.topics.rejected, [(None, b"v", headers)])
    passed_over = []

    assert list(rejected.read(kafka_settings, passed_over.append)) == []
    assert [place.rpartition("-")[2] for place in passed_over] == ["0"]


def test_show_shows_the_whole_message(command, config):
    """The output has the original key, value and headers, and the reason."""
    message = next(message for message in rejected.read(config.kafka) if message.key == b"k0")
    shown = command("show", message.event_id)

    assert "not_json: not JSON" in shown
    assert "b'k0'" in shown
    assert "trace = b't'" in shown
    assert "b'secret'" in shown
    with pytest.raises(InputError, match="no rejected message has the id nope"):
        command("show", "nope")


def test_replay_sends_each_message_once(command, config, consume):
    """Repeated replays send a message once, with its key, its headers and the header of a replay."""
    first = command("replay", "--reason", "not_json")
    second = command("replay", "--reason", "not_json")
    again = [record for record in consume(config.kafka, config.kafka.topics.input) if len(record[2]) > 1]

    assert first == "sent 3 of 3\n"
    assert second == "sent 0 of 3; the others were sent before\n"
    assert sorted(key for key, _, _ in again) == [b"k0", b"k1", b"k2"]
    assert all(value == b"secret" and headers[0] == ("trace", b"t") for _, value, headers in again)


def test_repaired_message_is_scored(spark, command, config, outcomes, tmp_path):
    """A repaired value under the same key gives an outcome and no further rejection."""
    message = next(message for message in rejected.read(config.kafka) if message.key == b"k4")
    repaired = tmp_path / "repaired.json"
    repaired.write_bytes(oracle.message(1.0, oracle.vector(random.Random(1))))
    command("replay", message.event_id, "--value", str(repaired))
    summary = score_stream.run(spark, config)

    assert summary["scored"] == 1
    assert [outcome["key"] for outcome in outcomes(config)] == ["k4"]


@pytest.mark.parametrize("words", [(), ("a-0-1", "--reason", "not_json"), ("a-0-1", "a-0-2", "--value", __file__)])
def test_what_to_replay_must_be_said(command, words):
    """A replay without ids and without a reason is refused."""
    with pytest.raises(StreamscoreError, match="give ids or --reason, not both"):
        command("replay", *words)


@pytest.fixture
def large(spark, own, small_models, produce):
    """Return a function that scores messages above Kafka's default size, with a given limit of the rejected topic."""
    from confluent_kafka.admin import NewTopic

    def score(rejected_limit=None):
        one = f"models=[{{name: lr, uri: {small_models['lr']}}}]"
        config = own("stream.available_now=true", "stream.max_rejected_share=null", one)
        names, noise = config.kafka.topics, random.Random(1).randbytes
        limits = {names.input: 3_000_000, **({names.rejected: rejected_limit} if rejected_limit else {})}
        new = [NewTopic(name, 2, 1, config={"max.message.bytes": str(limit)}) for name, limit in limits.items()]
        client = kafka.admin(config.kafka)
        for future in client.create_topics(new).values():
            future.result()
        good = oracle.message(1.0, oracle.vector(random.Random(1)))
        sent = [
            (b"value", noise(2_999_500), [("trace", b"t")]),
            (noise(70_000), good, []),
            (b"headers", b"{}", [("trace", noise(1_500_000))]),
            (b"good", good, []),
        ]
        produce(config.kafka, names.input, sent)
        score_stream.check(config)
        assert score_stream.run(spark, config)["scored"] == 1
        return config, sent

    return score


def test_bad_message_is_kept_however_large_it_is(large, outcomes):
    """The rejected topic keeps a message of the largest size, or with a key too long for outcomes."""
    config, sent = large()
    kept = {(message.key, message.value, *message.own_headers()) for message in rejected.read(config.kafka)}
    reasons = sorted(message.reason for message in rejected.read(config.kafka))

    assert kept == {(key, value, *headers) for key, value, headers in sent[:3]}
    assert reasons == ["bad_features", "too_large", "too_large"]
    assert [outcome["key"] for outcome in outcomes(config)] == ["good"]


def test_bad_message_that_the_topic_does_not_take_is_replayed_from_the_input_topic(large, outcomes, consume):
    """A message too large for the rejected topic is recorded by its position, and replayed from there."""
    config, sent = large(rejected_limit=1_048_588)
    not_kept = {message.event_id: message for message in rejected.read(config.kafka) if not message.is_kept}
    kept = [message for message in rejected.read(config.kafka) if message.is_kept]

    assert [(message.key, message.value) for message in kept] == [sent[1][:2]]
    assert sorted(message.reason for message in not_kept.values()) == ["bad_features", "too_large"]
    assert {(message.key, message.value, *message.own_headers()) for message in not_kept.values()} == {(None, None)}
    assert [outcome["key"] for outcome in outcomes(config)] == ["good"]
    everything = rejected.select(config.kafka, not_kept)
    assert rejected.replay(config.kafka, everything) == 2
    again = [record for record in consume(config.kafka, config.kafka.topics.input) if "replay-of" in dict(record[2])]
    assert sorted((key, value, *headers[:-1]) for key, value, headers in again) == [
        (key, value, *headers) for key, value, headers in (sent[2], sent[0])
    ]
    assert sorted(headers[-1][1].decode() for *_, headers in again) == sorted(not_kept)


def test_bad_message_that_has_expired_is_replayed_with_a_repaired_value_only(large):
    """Without content in either topic the replay fails and sends nothing, unless a repaired value is given."""
    from confluent_kafka import TopicPartition

    config, sent = large(rejected_limit=1_048_588)
    name = config.kafka.topics.input
    everything = [message for message in rejected.read(config.kafka) if not message.is_kept]
    ends = [TopicPartition(name, *entry) for entry in topic_records.extent(config.kafka, name).end.items()]
    client = kafka.admin(config.kafka)
    for future in client.delete_records(ends).values():
        future.result()

    assert rejected.available(config.kafka, everything) == []
    with pytest.raises(InputError, match=f"as large as .*{everything[0].event_id}.* no longer holds it. --value sends"):
        rejected.replay(config.kafka, everything)
    assert topic_records.extent(config.kafka, name).records == 0
    assert rejected.replay(config.kafka, everything[:1], value=sent[3][1]) == 1


def test_unknown_reason_is_refused(command):
    """An unknown reason is an error, and not an empty result."""
    for verb in ("list", "replay"):
        with pytest.raises(ConfigError, match="--reason not-json: there is no such reason; there are .*not_json"):
            command(verb, "--reason", "not-json")


def test_newest_of_one_id_is_shown(own, produce):
    """After a new checkpoint a message may be rejected again for another reason."""
    config = own()
    name = config.kafka.topics.rejected
    kafka.ensure(config.kafka, name)
    for reason in ("not_json", "bad_label"):
        ours = [(header, reason.encode()) for header in sorted(rejected._OURS - {"event-id"})]
        produce(config.kafka, name, [(b"k", b"v", [*ours, ("event-id", b"ml-0-5")])])
        time.sleep(0.01)

    (message,) = rejected.select(config.kafka, ["ml-0-5"])
    assert message.reason == "bad_label"
    assert message.first_timestamp < message.timestamp


class Reads:
    """A real consumer that records its reads."""

    def __init__(self, client, begun, read):
        """Wrap a consumer; ``begun`` and ``read`` collect the assigned positions and the messages."""
        self._client, self._begun, self._read = client, begun, read

    def assign(self, places):
        """Record the positions."""
        self._begun += [(place.topic, place.partition, place.offset) for place in places]
        self._client.assign(places)

    def poll(self, timeout):
        """Record a message."""
        message = self._client.poll(timeout)
        if message is not None and message.error() is None:
            self._read.append(message.topic())
        return message

    def close(self):
        """Close the consumer."""
        self._client.close()


def test_replay_of_many_reads_each_topic_once_and_only_what_it_needs(own, produce, monkeypatch):
    """The rejected topic is read from its beginning, the input topic from the time of the first rejection."""
    config = own()
    names = config.kafka.topics
    kafka.ensure(config.kafka, names.input, names.rejected)
    client = kafka.producer(config.kafka)
    for number in range(500):
        client.produce(names.input, b"old", str(number), timestamp=round((time.time() - 7_200) * 1_000))
    assert client.flush(30) == 0
    ids = [f"{names.input}-0-{number}" for number in range(20)]
    for event_id in ids:
        values = {"reason": b"not_json", "event-id": event_id.encode()}
        ours = [(header, values.get(header, b"")) for header in rejected.REJECTED_HEADERS]
        produce(config.kafka, names.rejected, [(event_id.encode(), b"v", ours)])
    begun, read = [], []
    consumer = kafka.consumer
    monkeypatch.setattr(kafka, "consumer", lambda settings: Reads(consumer(settings), begun, read))

    assert rejected.replay(config.kafka, rejected.select(config.kafka, ids)) == 20
    assert (read.count(names.rejected), read.count(names.input)) == (20, 0)
    assert len(begun) == len({(topic, partition) for topic, partition, _ in begun})
    read.clear()
    assert rejected.replay(config.kafka, rejected.select(config.kafka, ids)) == 0
    assert (read.count(names.rejected), read.count(names.input)) == (20, 20)


def test_one_message_is_read_at_its_place(own, produce, monkeypatch):
    """Only the message's position is read, not its whole partition; missing messages are omitted."""
    config = own("kafka.partitions=2")
    name = config.kafka.topics.input
    kafka.ensure(config.kafka, name)
    produce(config.kafka, name, [(f"k{number}".encode(), f"v{number}", []) for number in range(100)])
    held = topic_records.extent(config.kafka, name)
    expected = {(m.partition(), m.offset()): m.value() for m in topic_records.read(config.kafka, name)}
    places = [(0, 7), (0, 3), (1, held.end[1] - 1)]
    begun, read = [], []
    consumer = kafka.consumer
    monkeypatch.setattr(kafka, "consumer", lambda settings: Reads(consumer(settings), begun, read))
    messages = list(topic_records.fetch(config.kafka, name, [*places, (1, held.end[1]), (9, 0)]))

    assert [message.value() for message in messages] == [expected[place] for place in places]
    assert begun == [(name, *place) for place in places]
    assert len(read) == 3


def test_replay_shows_where_it_is(command, config, caplog):
    """A log has a line per step, a terminal a count."""
    with caplog.at_level("INFO", "streamscore"):
        command("replay", "--reason", "not_json")

    for topic in (config.kafka.topics.rejected, config.kafka.topics.input):
        assert re.search(rf"topic {topic}: done in ", caplog.text)


def test_absent_topic_is_not_one_to_seed(own):
    """The message does not suggest to seed, which would create another topic."""
    with pytest.raises(ServerError, match="rejected' does not exist .*`streamscore create`"):
        list(rejected.read(own().kafka))


def test_value_that_no_topic_takes_is_told_in_one_line(config):
    """The client itself refuses the value, with a one-line error."""
    message = next(iter(rejected.read(config.kafka)))

    with pytest.raises(ServerError, match=f"does not take {message.event_id}: .*too large"):
        rejected.replay(config.kafka, [message], bytes(33 << 20))


def test_key_that_the_outcomes_topic_has_no_room_for_stops_nothing(spark, own, small_models, produce, outcomes):
    """An event whose key would not fit twice into an outcome is rejected; any key that fits is scored."""
    from confluent_kafka.admin import NewTopic

    config = own(oracle.listed(small_models), "stream.available_now=true", "stream.max_rejected_share=null")
    names = config.kafka.topics
    client = kafka.admin(config.kafka)
    small = NewTopic(names.predictions, 1, 1, config={"max.message.bytes": "65536"})
    for future in client.create_topics([NewTopic(names.input, 1, 1), small]).values():
        future.result()
    good = oracle.message(1.0, oracle.vector(random.Random(1)))
    keys = [random.Random(1).randbytes(30_000).hex().encode(), b"k" * 30_000, b"\0" * 20_000, b"\0" * 8_700]
    produce(config.kafka, names.input, [(key, good, []) for key in keys])
    score_stream.check(config)
    score_stream.run(spark, config)

    messages = list(rejected.read(config.kafka))
    assert [(message.reason, message.key) for message in messages] == [("too_large", keys[0]), ("too_large", keys[2])]
    assert {len(outcome["key"]) for outcome in outcomes(config)} == {30_000, 8_700}
