"""What the demo does when its jobs fail, and what it checks at the end; README's test runs it as a whole."""

import json
import subprocess
import sys
import time

import pytest

from streamscore.cli import demo
from streamscore.clients import elasticsearch, kafka, labels
from streamscore.errors import CheckError, ConfigError, StreamError

LATE = ("seed.rate=100", "seed.label_delay=5", "labels.window=30")
ENDLESS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"


@pytest.fixture
def config(own):
    """A configuration with topics and indices of its own, and labels that come later."""
    config = own(*LATE)
    names = config.kafka.topics
    kafka.ensure(config.kafka, names.input, names.predictions, names.rejected, names.labels, names.labelled)
    elasticsearch.ensure(config.elasticsearch)
    labels.ensure(config.elasticsearch)
    return config


@pytest.fixture
def started():
    """Return a function that runs Python code in a process; it is ended after the test."""
    processes = []

    def start(code):
        processes.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def ended(started, code):
    """Return a process that has ended with a code."""
    process = started(f"raise SystemExit({code})")
    process.wait()
    return process


@pytest.mark.parametrize(
    ("keys", "reason"),
    [(["seed.rate=null"], "needs a rate"), (["seed.rate=100", "elasticsearch.enabled=false"], "compares both sinks")],
)
def test_configuration_without_what_the_demo_shows_is_refused(make_config, keys, reason):
    """No server is started for it."""
    with pytest.raises(ConfigError, match=reason):
        demo.run(make_config(*keys), [], keep=False)


def test_failed_seed_ends_the_demo_with_the_end_of_its_log(config, started, tmp_path):
    """The scoring job is still running then."""
    log = tmp_path / "seed_topic.log"
    log.write_text("no such file: rows.parquet\n")
    scorer, seeder = started(ENDLESS), ended(started, 5)

    with pytest.raises(StreamError, match=r"seed_topic ended with code 5(.|\n)*no such file: rows\.parquet"):
        demo._follow(config, scorer, seeder, log)


def test_training_that_fails_ends_the_demo(started):
    """The message names the job and its code."""
    with pytest.raises(StreamError, match="train_models ended with code 3"):
        demo._wait_for(ended(started, 3), "train_models")


def test_scoring_that_ends_is_noticed(config, started, tmp_path):
    """Neither its start nor its outcomes are waited for."""
    scorer = ended(started, 1)

    assert not demo._comes_up(config, scorer)
    assert not demo._follow(config, scorer, started(ENDLESS), tmp_path / "seed_topic.log")


def test_job_that_does_not_end_is_killed(started, monkeypatch):
    """It has its time to finish a batch first."""
    monkeypatch.setattr(demo, "PATIENCE", 0.5)
    job = started(ENDLESS)
    job.stdout.readline()
    demo._stop(job)

    assert job.returncode == -9


def summary(config):
    """Return the summary of a scoring job that has scored nothing."""
    return {"events": 0, "models": {model.name: {"correct": 0, "scored": 0} for model in config.models}}


def test_counts_that_differ_fail_the_demo(config, produce):
    """A demo that was stopped early has nothing to compare."""
    produce(config.kafka, config.kafka.topics.input, ["{}"])
    demo._conclude(config, summary(config), complete=False)

    with pytest.raises(CheckError, match=r"do not agree: 1 events × \d models = \d; in Kafka 0, in Elasticsearch 0"):
        demo._conclude(config, summary(config), complete=True)


def test_outcome_too_many_in_kafka_fails_the_demo(config, produce):
    """Elasticsearch has what it should have."""
    produce(config.kafka, config.kafka.topics.predictions, ["{}"])

    with pytest.raises(CheckError, match="do not agree: 0 events .* in Kafka 1, in Elasticsearch 0"):
        demo._conclude(config, summary(config), complete=True)


def test_document_too_many_in_elasticsearch_fails_the_demo(config):
    """Kafka has what it should have."""
    with elasticsearch.client(config.elasticsearch) as client:
        client.index(index=config.elasticsearch.index, document={"event_id": "clicks-0-0"}, refresh=True)

    with pytest.raises(CheckError, match="do not agree: 0 events .* in Kafka 0, in Elasticsearch 1"):
        demo._conclude(config, summary(config), complete=True)


def test_labels_that_are_not_joined_fail_the_demo(config, produce, started, monkeypatch):
    """They are waited for as long as the label job runs, and no longer than patience lasts."""
    monkeypatch.setattr(demo, "PATIENCE", 1.0)
    demo._conclude(config, summary(config), complete=True)  # no label was sent yet
    produce(config.kafka, config.kafka.topics.labels, [json.dumps({"event_id": "clicks-0-0", "label": 1})])
    began = time.monotonic()
    demo._await_labels(config, ended(started, 0))
    assert time.monotonic() - began < 1.0
    demo._await_labels(config, started(ENDLESS))
    assert time.monotonic() - began >= 1.0

    with pytest.raises(CheckError, match="1 labels sent, 0 joined by label_stream, 0 without their event"):
        demo._conclude(config, summary(config), complete=True)
