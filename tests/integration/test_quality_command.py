"""``streamscore quality`` on a real Elasticsearch: the figures of a time range from the job's statistics."""

import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore.clients import elasticsearch
from streamscore.quality.evaluation import evaluate
from streamscore.quality.statistic import of_rows, total

HOUR = 3_600


@pytest.fixture
def config(own):
    """A configuration with this test's own indices."""
    config = own()
    elasticsearch.ensure(config.elasticsearch)
    return config


@pytest.fixture
def run(config):
    """Return a function that runs the command."""
    settings = config.elasticsearch
    place = (
        "--set",
        f"elasticsearch.url={settings.url}",
        "--set",
        f"elasticsearch.quality_index={settings.quality_index}",
    )
    return lambda *words: CliRunner().invoke(cli.app, ["quality", *place, *words])


def rows(events, share_right, seed):
    """Return the statistic of some events."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, events)
    predictions = np.where(random.random(events) < share_right, labels, 1 - labels)
    return of_rows(labels, predictions, np.clip(0.3 + 0.4 * predictions, 0, 1), "probability")


def put(config, ages, model="lr", version="1"):
    """Write statistics of windows of given ages (seconds) at each length, and return them by age."""
    now = int(time.time())
    found = {age: rows(400, 0.7, seed) for seed, age in enumerate(ages)}
    with elasticsearch.client(config.elasticsearch) as client:
        for seconds in config.quality.windows:
            windows = {}
            for age, statistic in found.items():
                windows.setdefault((now - age) // seconds * seconds, []).append(statistic)
            for begin, parts in windows.items():
                of = {"topic": "ml", "stream": "s", "batch": 0, "model": model, "model_version": version}
                document = {"@timestamp": begin * 1000, "seconds": seconds, **of, **total(parts).to_document()}
                client.index(index=config.elasticsearch.quality_index, document=document, refresh=True)
    return found


def test_figures_are_those_of_the_events_of_the_range(config, run):
    """The figures include all versions and count each event once; older events count in longer ranges."""
    recent = put(config, [20, 600, 1_800, 30 * HOUR])
    other = put(config, [40], version="2")
    expected = {
        "1h": [("1", total([recent[20], recent[600], recent[1_800]])), ("2", other[40])],
        "7d": [("1", total(recent.values())), ("2", other[40])],
        "all": [("1", total(recent.values())), ("2", other[40])],
    }

    for time_range, versions in expected.items():
        done = run("--json", "--range", time_range)
        assert done.exit_code == 0, done.output
        printed = json.loads(done.stdout)
        assert printed["range"] == time_range
        for found, (version, statistic) in zip(printed["models"], versions, strict=True):
            wanted = json.loads(json.dumps(evaluate(statistic).to_json("lr", version)))
            assert (found["name"], found["version"], found["scored"]) == ("lr", version, statistic.scored)
            assert found["figures"]["accuracy"] == wanted["figures"]["accuracy"]
            assert found["figures"]["auc"] == pytest.approx(wanted["figures"]["auc"])
            assert found["figures"]["log_loss"]["value"] == pytest.approx(wanted["figures"]["log_loss"]["value"])


def test_table_says_what_the_json_says(config, run):
    """The table has the figures of the JSON, also for one model alone."""
    put(config, [20])
    put(config, [20], model="svm")
    (found,) = json.loads(run("--json", "--model", "svm").stdout)["models"]
    accuracy = found["figures"]["accuracy"]
    lines = run("--model", "svm").stdout.splitlines()

    assert lines[0].split() == ["figure", "svm", "1"]
    assert any(f"{accuracy['value']:.2%} [{100 * accuracy['low']:.2f}, " in line for line in lines)


def test_without_statistics_it_says_so(config, run):
    """The message covers an empty index, one with older events only, and a missing one."""
    assert "no event was scored" in str(run("--range", "all").exception)
    put(config, [30 * HOUR])
    done = run()
    assert done.exception.exit_code == 3
    assert "no event of the last 1h was scored" in str(done.exception)
    elasticsearch.delete(config.elasticsearch)
    assert run("--range", "all").exception.exit_code == 3
