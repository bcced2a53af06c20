"""score_stream in a notebook: watched and stopped by its caller, in any thread, in a session that continues."""

import threading

import pytest

from streamscore import score_stream, seed_topic
from streamscore.clients import elasticsearch
from streamscore.stream.stop import StopRequest


@pytest.fixture
def seeded(spark, own, trained):
    """A configuration whose topic holds 2,000 events, for at least two batches."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "seed.limit=2000", "stream.max_events_per_batch=1000")
    seed_topic.check(config)
    seed_topic.run(spark, config)
    score_stream.check(config)
    return config


def test_stream_in_another_thread_is_watched_and_stopped_by_its_caller(spark, seeded):
    """All counted outcomes are written, and no query continues."""
    stop = StopRequest()
    seen = []
    summaries = []

    def watch(totals) -> None:
        seen.append(totals.events)
        if totals.events:
            stop.ask("enough")

    thread = threading.Thread(target=lambda: summaries.append(score_stream.run(spark, seeded, stop, watch)))
    thread.start()
    thread.join(300)
    (summary,) = summaries

    assert seen == sorted(seen)
    assert 0 < summary["events"] == seen[-1]
    assert elasticsearch.count(seeded.elasticsearch) == 2 * summary["events"]
    assert spark.streams.active == []


def test_stream_ends_when_its_watcher_fails(spark, seeded):
    """An error of the watch function ends the stream."""

    def watch(_totals) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        score_stream.run(spark, seeded, watch=watch)
    assert spark.streams.active == []
