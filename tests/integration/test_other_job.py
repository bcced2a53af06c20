"""The streaming job of docs/add-a-job.md, which does no scoring, writes every event once, whatever fails."""

import json
import sys

import pytest
from jobs import Job, environment, written
from pages import blocks, loaded

from streamscore.clients import kafka
from streamscore.errors import StreamError
from streamscore.launch import submit
from streamscore.launch.runner import run_job
from streamscore.system import failpoints

TEXTS = [f"text {number}" for number in range(1_000)]
LAUNCHED = """
import runpy, sys
import streamscore
streamscore.__path__.append({folder!r})
runpy.run_path({launcher!r})
print("loaded:", *sorted(name for name in sys.modules if name.startswith("streamscore.")))
"""


@pytest.fixture
def shout(root, tmp_path, monkeypatch):
    """The page's module."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setitem(sys.modules, "shout_topic", None)
    return loaded(blocks(root / "docs" / "add-a-job.md", "python")[0], folder / "shout_topic.py")


@pytest.fixture
def filled(own, produce):
    """A configuration whose input topic holds the texts, for at least four batches."""
    config = own("stream.available_now=true", "stream.max_events_per_batch=240", "elasticsearch.enabled=false")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, [text.encode() for text in TEXTS])
    return config


@pytest.fixture
def break_off(spark, shout, monkeypatch):
    """Return a function that runs the job until a fault at a point ends it; the next run has none."""

    def run(config, point, nth, error=StreamError):
        with monkeypatch.context() as armed:
            armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
            armed.setenv("STREAMSCORE_FAULT", f"{point}:raise:{nth}")
            with pytest.raises(error):
                shout.JOB.run(spark, config)

    yield run
    failpoints.arm(0)


def values(consume, config):
    """Return the values of the output topic, in order."""
    return sorted(value.decode() for _, value, _ in consume(config.kafka, config.kafka.topics.predictions))


def test_job_of_the_page_runs(shout, filled, consume, tmp_path):
    """The job runs from its command line to its summary, and calls its listener once per batch."""
    file, summary = tmp_path / "test.yml", tmp_path / "summary.json"
    file.write_text(written(filled))
    run_job(shout.JOB, ["--config", str(file), "--available-now", "--json", str(summary)])

    assert json.loads(summary.read_text()) == {"events": len(TEXTS), "letters": sum(map(len, TEXTS))}
    assert values(consume, filled) == sorted(text.upper() for text in TEXTS)


def run_to_the_end(spark, shout, filled, break_off):
    """Run with faults during and between batches, each time further on, then without a fault."""
    shout.JOB.check(filled)
    for point, nth, error in (
        ("entry", 1, StreamError),
        ("shouts-half", 1, StreamError),
        ("shouts", 2, StreamError),
        ("committed", 1, RuntimeError),
        ("shouts-half", 1, StreamError),
    ):
        break_off(filled, point, nth, error)
    shout.JOB.run(spark, filled)


def test_every_event_once_whatever_fails_in_between(spark, shout, filled, break_off, consume):
    """A replay omits the records that the sink has written."""
    run_to_the_end(spark, shout, filled, break_off)

    assert values(consume, filled) == sorted(text.upper() for text in TEXTS)


def test_without_a_filter_the_replay_would_show(spark, shout, filled, break_off, consume, monkeypatch):
    """Without the replay's filter the test above would fail."""
    monkeypatch.setattr(shout, "written_since", lambda spark, *_: spark.range(0).selectExpr("binary('') AS key"))
    run_to_the_end(spark, shout, filled, break_off)
    found = values(consume, filled)

    assert len(found) > len(TEXTS)
    assert set(found) == {text.upper() for text in TEXTS}


def test_every_event_once_after_kills_of_the_process(shout, root, filled, consume, tmp_path):
    """SIGKILL during and between batches loses and duplicates nothing; the job never imports scoring."""
    launcher, script, file = tmp_path / "shout_topic.py", tmp_path / "launched.py", tmp_path / "test.yml"
    launcher.write_text(blocks(root / "docs" / "add-a-job.md", "python")[1])
    script.write_text(LAUNCHED.format(folder=str(tmp_path / "package"), launcher=str(launcher)))
    file.write_text(written(filled))
    words = submit.command(shout.JOB, filled, ["--config", str(file)])
    words = [str(script) if word.endswith("/shout_topic.py") else word for word in words]
    base = environment() | submit.prepare(filled)
    for fault in ("shouts-half:kill-group:2", "committed:kill-group:1"):
        killed = Job(words, env=base | {"STREAMSCORE_TEST_FAULTS": "1", "STREAMSCORE_FAULT": fault})
        assert killed.wait() == -9, killed.output
    last = Job(words, env=base)
    assert last.wait() == 0, last.output

    assert values(consume, filled) == sorted(text.upper() for text in TEXTS)
    (line,) = (line for line in last.lines if line.startswith("loaded:"))
    names = line.split()
    assert "streamscore.stream.query" in names
    assert not [
        name
        for name in names
        if name.startswith(("streamscore.scoring", "streamscore.models", "streamscore.score_stream"))
    ]
