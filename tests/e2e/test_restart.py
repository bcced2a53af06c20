"""score_stream stopped by hand; SIGTERM and kills are in ``test_crashes``."""

import signal

import pytest

from streamscore import index, seed_topic, topics
from streamscore.errors import ServerError

EVENTS = 20_000


@pytest.fixture
def seeded(spark, own, trained):
    """A configuration whose topic holds 20,000 events, to be scored in batches of 1,500."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "stream.max_events_per_batch=1500")
    seed_topic.check(config)
    seed_topic.run(spark, config)
    return config


def documents(config):
    """Return the number of documents; 0 before there is an index."""
    try:
        return index.count(config.elasticsearch)
    except ServerError:
        return 0


def outcomes(config):
    """Return the number of records in the topic of outcomes."""
    return topics.extent(config.kafka, config.kafka.topics.predictions).records


def test_ctrl_c_in_the_middle_then_start_again_loses_and_repeats_nothing(seeded, as_file, job, shell):
    """The batch in flight is committed: exit 0, a summary, and no record twice in either sink."""
    first = job(["streamscore", "score", "--config", as_file(seeded)])
    first.wait_until(lambda: documents(seeded) >= 4000)
    first.signal(signal.SIGINT)

    assert first.wait() == 0, first.output
    assert "SIGINT: finishing the batch in flight" in first.output
    assert "summary: events" in first.output
    done = outcomes(seeded)
    assert 0 < done < 2 * EVENTS
    assert documents(seeded) == done

    second = shell(["streamscore", "score", "--config", as_file(seeded), "--available-now"])

    assert second.returncode == 0, second.stderr
    assert documents(seeded) == outcomes(seeded) == 2 * EVENTS
