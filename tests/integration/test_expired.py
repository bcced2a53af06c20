"""Events that the topic no longer holds when they are next: the job says so, in the place of Spark's words."""

import oracle
import pytest
from confluent_kafka import TopicPartition

from streamscore import score_stream
from streamscore.cli.doctor import examine
from streamscore.clients import kafka, topic_records
from streamscore.errors import CheckpointError, StreamError
from streamscore.stream import checkpoint, folders
from streamscore.stream.ownership import TopicWatch


def expire(config):
    """Delete all records of the input topic, as its retention would; return how many."""
    name = config.kafka.topics.input
    held = topic_records.extent(config.kafka, name)
    client = kafka.admin(config.kafka)
    ends = [TopicPartition(name, partition, end) for partition, end in held.end.items()]
    for future in client.delete_records(ends).values():
        future.result()
    return held.records


def fill(config, produce, count):
    """Send events with a vector of 110 features."""
    kafka.ensure(config.kafka, config.kafka.topics.input)
    events = oracle.Ledger(3).next_messages(count, share_bad=0.0)
    produce(config.kafka, config.kafka.topics.input, [(key.encode(), value, []) for key, value in events])


def test_events_that_expired_while_the_job_was_away_are_counted_at_the_start(spark, own, small_models, produce):
    """The start is refused with the number and the way out; the doctor says the same, and a fault of a running job."""
    config = own(oracle.listed(small_models), "stream.available_now=true")
    fill(config, produce, 100)
    score_stream.check(config)
    score_stream.run(spark, config)
    fill(config, produce, 40)
    files = folders.open_folder(config.stream.checkpoint)
    watch = TopicWatch(config, files, checkpoint.inspect(files, config.stream.checkpoint))
    expire(config)

    message = r"^40 events of the topic 't\w+' have expired .*retention\.ms.*--new-checkpoint$"
    with pytest.raises(CheckpointError, match=message) as refused:
        score_stream.run(spark, config)
    faults = [finding.text for finding in examine(config) if finding[:2] == ("past", "fault")]
    assert faults == [str(refused.value)]
    with pytest.raises(CheckpointError, match=message), watch.required():
        raise StreamError("the stream stopped while reading the input topic")


def test_events_that_expired_before_the_first_batch_was_committed_are_counted(spark, own, small_models, produce):
    """A checkpoint without a committed batch has the offsets at which the first one begins."""
    config = own(oracle.listed(small_models), "stream.max_events_per_batch=100")
    fill(config, produce, 200)
    score_stream.check(config)
    with pytest.MonkeyPatch.context() as armed:
        armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
        armed.setenv("STREAMSCORE_FAULT", "entry:raise:1")
        with pytest.raises(Exception, match="the stream stopped"):
            score_stream.run(spark, config)
    expire(config)

    with pytest.raises(CheckpointError, match=r"^200 events of the topic 't\w+' have expired"):
        score_stream.run(spark, config)
