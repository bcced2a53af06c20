"""The rejected topic: looked at, shown, and sent again once."""

import random
import time

import oracle
import pytest
import yaml
from typer.testing import CliRunner

from streamscore import cli, score_stream
from streamscore.clients import kafka, rejected
from streamscore.errors import ConfigError, InputError, ServerError, StreamscoreError


@pytest.fixture(scope="module")
def config(spark, make_own, small_models, produce, tmp_path_factory):
    """A configuration whose rejected topic holds five messages of two reasons."""
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
    """Without a word of their content."""
    listed = command("list")

    assert "       3 not_json\n" in listed
    assert "       2 bad_features\n" in listed
    assert listed.count("not_json: not JSON, or not complete, near byte 0") == 3
    assert "secret" not in listed
    assert len(command("list", "--reason", "not_json", "--limit", "2").splitlines()) == 3


def test_show_shows_the_whole_message(command, config):
    """Key, value and headers as they came, and what is wrong."""
    message = next(message for message in rejected.read(config.kafka) if message.key == b"k0")
    shown = command("show", message.event_id)

    assert "not_json: not JSON" in shown
    assert "b'k0'" in shown
    assert "trace = b't'" in shown
    assert "b'secret'" in shown
    with pytest.raises(InputError, match="no rejected message has the id nope"):
        command("show", "nope")


def test_replay_sends_each_message_once(command, config, consume):
    """However often it is asked for; with its own key and headers, and one that says what it is."""
    first = command("replay", "--reason", "not_json")
    second = command("replay", "--reason", "not_json")
    again = [record for record in consume(config.kafka, config.kafka.topics.input) if len(record[2]) > 1]

    assert first == "sent 3 of 3\n"
    assert second == "sent 0 of 3; the others were sent before\n"
    assert sorted(key for key, _, _ in again) == [b"k0", b"k1", b"k2"]
    assert all(value == b"secret" and headers[0] == ("trace", b"t") for _, value, headers in again)


def test_repaired_message_is_scored(spark, command, config, outcomes, tmp_path):
    """Another value under the same key: the outcome is there, and the message is not rejected again."""
    message = next(message for message in rejected.read(config.kafka) if message.key == b"k4")
    repaired = tmp_path / "repaired.json"
    repaired.write_bytes(oracle.message(1.0, oracle.vector(random.Random(1))))
    command("replay", message.event_id, "--value", str(repaired))
    summary = score_stream.run(spark, config)

    assert summary["scored"] == 1
    assert [outcome["key"] for outcome in outcomes(config)] == ["k4"]


@pytest.mark.parametrize("words", [(), ("a-0-1", "--reason", "not_json"), ("a-0-1", "a-0-2", "--value", __file__)])
def test_what_to_replay_must_be_said(command, words):
    """Nothing is sent by accident."""
    with pytest.raises(StreamscoreError, match="give ids or --reason, not both"):
        command("replay", *words)


@pytest.fixture
def large(spark, own, small_models, produce):
    """Return a function that scores messages of more than Kafka's usual limit, with a rejected topic of some limit."""
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
    """As large as the input topic takes it, or with a key that no outcome could have; the stream goes on."""
    config, sent = large()
    kept = {(message.key, message.value, *message.own_headers()) for message in rejected.read(config.kafka)}
    reasons = sorted(message.reason for message in rejected.read(config.kafka))

    assert kept == {(key, value, *headers) for key, value, headers in sent[:3]}
    assert reasons == ["bad_features", "too_large", "too_large"]
    assert [outcome["key"] for outcome in outcomes(config)] == ["good"]


def test_bad_message_that_the_topic_does_not_take_is_told_of(large, outcomes):
    """The rejected topic was made by somebody else: what is too large for it stays where it is, and is named."""
    config, sent = large(rejected_limit=1_048_588)
    told = {message.event_id: message for message in rejected.read(config.kafka) if not message.is_kept}
    kept = [message for message in rejected.read(config.kafka) if message.is_kept]
    some = next(iter(told))

    assert [(message.key, message.value) for message in kept] == [sent[1][:2]]
    assert sorted(message.reason for message in told.values()) == ["bad_features", "too_large"]
    assert {(message.key, message.value, *message.own_headers()) for message in told.values()} == {(None, None)}
    assert [outcome["key"] for outcome in outcomes(config)] == ["good"]
    with pytest.raises(InputError, match=f"did not take a record as large as {some}"):
        rejected.replay(config.kafka, [told[some]])
    assert rejected.replay(config.kafka, [told[some]], value=sent[3][1]) == 1


def test_unknown_reason_is_refused(command):
    """Else it would look as if there was nothing to do."""
    for verb in ("list", "replay"):
        with pytest.raises(ConfigError, match="--reason not-json: there is no such reason; there are .*not_json"):
            command(verb, "--reason", "not-json")


def test_newest_of_one_id_is_shown(own, produce):
    """After a new beginning a message may be rejected for another reason."""
    config = own()
    name = config.kafka.topics.rejected
    kafka.ensure(config.kafka, name)
    for reason in ("not_json", "bad_label"):
        ours = [(header, reason.encode()) for header in sorted(rejected._OURS - {"event-id"})]
        produce(config.kafka, name, [(b"k", b"v", [*ours, ("event-id", b"ml-0-5")])])
        time.sleep(0.01)

    assert rejected.find(config.kafka, "ml-0-5").reason == "bad_label"


def test_absent_topic_is_not_one_to_seed(own):
    """That would make another one."""
    with pytest.raises(ServerError, match="rejected' does not exist .*`streamscore create`"):
        list(rejected.read(own().kafka))


def test_value_that_no_topic_takes_is_told_in_one_line(config):
    """The client itself refuses it."""
    message = next(iter(rejected.read(config.kafka)))

    with pytest.raises(ServerError, match=f"does not take {message.event_id}: .*too large"):
        rejected.replay(config.kafka, [message], bytes(33 << 20))
