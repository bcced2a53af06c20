"""A topic that is recreated under the same name with more events than were scored before."""

import threading
import time

import oracle
import pytest

from streamscore import score_stream
from streamscore.cli.doctor import examine
from streamscore.clients import kafka
from streamscore.errors import CheckpointError, ServerError, StreamError
from streamscore.stream import checkpoint, folders, ownership
from streamscore.stream.stop import StopRequest
from streamscore.system import failpoints


@pytest.fixture
def fill(produce):
    """Return a function that sends a number of events to the input topic of a configuration."""

    def send(config, count):
        kafka.ensure(config.kafka, config.kafka.topics.input)
        produce(config.kafka, config.kafka.topics.input, oracle_values(count))

    return send


def oracle_values(count):
    """Return events with a vector of 110 features."""
    ledger = oracle.Ledger(3)
    return [(key.encode(), value, []) for key, value in ledger.next_messages(count, share_bad=0.0)]


def create_again(config, count, fill):
    """Recreate the input topic and fill it."""
    kafka.delete(config.kafka, config.kafka.topics.input)
    fill(config, count)


def test_topic_that_has_outgrown_the_old_one_is_refused(spark, own, small_models, fill, outcomes):
    """Spark would skip the new topic's first 500 events; the job and doctor refuse it with a remedy."""
    config = own(oracle.listed(small_models), "stream.available_now=true")
    fill(config, 500)
    score_stream.check(config)
    score_stream.run(spark, config)
    score_stream.run(spark, config)  # the same topic is accepted
    create_again(config, 1500, fill)

    with pytest.raises(CheckpointError, match="was deleted and created again .*--new-checkpoint") as refused:
        score_stream.run(spark, config)

    assert refused.value.exit_code == 9
    assert len(outcomes(config)) == 1000
    findings = [finding for finding in examine(config) if finding.subject == "past"]
    assert [(finding.status, finding.text) for finding in findings] == [("fault", str(refused.value))]


def test_outcomes_of_the_topic_before_do_not_count_for_the_new_one(
    spark, own, small_models, fill, produce, outcomes, consume, monkeypatch, tmp_path
):
    """Recent outcomes and rejected messages of the old topic, with the same event ids, do not suppress new ones."""
    options = (oracle.listed(small_models), "stream.available_now=true", "elasticsearch.enabled=false")
    config = own(*options, "stream.max_rejected_share=null")
    recreated = own(
        *options,
        "stream.max_rejected_share=null",
        "stream.new_checkpoint=true",
        f"stream.checkpoint={tmp_path / 'recreated'}",
    )
    fill(config, 100)
    produce(config.kafka, config.kafka.topics.input, [b"bad"] * 40)
    score_stream.check(config)
    score_stream.run(spark, config)
    create_again(config, 200, fill)
    produce(config.kafka, config.kafka.topics.input, [b"bad"] * 80)
    with monkeypatch.context() as armed:
        armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
        armed.setenv("STREAMSCORE_FAULT", "records-half:raise:1")
        with pytest.raises(StreamError):
            score_stream.run(spark, recreated)
    failpoints.arm(0)
    score_stream.run(spark, recreated)

    assert len(outcomes(config)) == 2 * (100 + 200)
    assert len(consume(config.kafka, config.kafka.topics.rejected)) == 40 + 80


def test_running_job_stops_when_the_topic_is_created_again(spark, own, small_models, fill, monkeypatch):
    """The job ends with code 9, after which the supervisor does not restart it."""
    monkeypatch.setattr(ownership, "TOPIC_POLL_SECONDS", 0.5)
    config = own(oracle.listed(small_models))
    fill(config, 100)
    score_stream.check(config)
    stop, remade = StopRequest(60), []

    def watch(totals):
        if totals.events >= 100 and not remade:
            remade.append(threading.Thread(target=create_again, args=(config, 300, fill)))
            remade[0].start()

    with pytest.raises(CheckpointError, match="was deleted and created again"):
        score_stream.run(spark, config, stop=stop, watch=watch)
    remade[0].join()


def test_topic_created_again_before_anything_was_scored_is_let_in(own, fill):
    """A checkpoint without offsets accepts a recreated topic."""
    config = own()
    fill(config, 1)
    files = folders.open_folder(config.stream.checkpoint)
    past = checkpoint.inspect(files, config.stream.checkpoint)
    ownership.TopicWatch(config, files, past)
    create_again(config, 1, fill)
    ownership.TopicWatch(config, files, past)

    ownership.require_same_topic(config, files)


def test_id_of_a_topic_tells_it_from_its_successor(own):
    """A topic's id is stable; a missing topic has none."""
    config = own()
    topic = config.kafka.topics.input
    kafka.ensure(config.kafka, topic)
    first = kafka.topic_id(config.kafka, topic)
    assert first == kafka.topic_id(config.kafka, topic, kafka.admin(config.kafka))
    kafka.delete(config.kafka, topic)
    with pytest.raises(ServerError, match=f"the topic '{topic}' cannot be described"):
        kafka.topic_id(config.kafka, topic)
    kafka.ensure(config.kafka, topic)

    assert kafka.topic_id(config.kafka, topic) not in {first, None}


def test_topic_is_asked_for_now_and_then_and_a_missing_one_is_no_other(own, monkeypatch):
    """The query itself reports a missing topic; only a recreated topic counts as another one."""
    monkeypatch.setattr(ownership, "TOPIC_POLL_SECONDS", 0.1)
    config = own()
    kafka.ensure(config.kafka, config.kafka.topics.input)
    files = folders.open_folder(config.stream.checkpoint)
    watch = ownership.TopicWatch(config, files, checkpoint.inspect(files, config.stream.checkpoint))
    kafka.delete(config.kafka, config.kafka.topics.input)
    for _ in range(10):
        assert not watch.has_changed()
        time.sleep(0.1)
    kafka.ensure(config.kafka, config.kafka.topics.input)
    deadline = time.monotonic() + 20
    while not watch.has_changed():
        assert time.monotonic() < deadline
        time.sleep(0.1)

    with pytest.raises(CheckpointError, match="was deleted and created again"), watch.required():
        pass
