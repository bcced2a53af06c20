"""Comparisons of models on a real Elasticsearch: exactly once, kept, and the same wherever they are shown."""

import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore.clients import comparison_reader, elasticsearch, quality_reader
from streamscore.quality import paired, pairs
from streamscore.quality.comparison import Pair
from streamscore.sinks.base import Batch, Replay
from streamscore.sinks.quality import QualityStatistics
from streamscore.stream.batch import aggregated

SCHEMA = (
    "event_time bigint, reason string, label double, prediction_lr double, score_lr double, prediction_svm double, "
    "score_svm double"
)


def model(name, version="1"):
    """Return the properties of a model that the sink needs."""
    return SimpleNamespace(
        name=name,
        version=version,
        score_kind="probability",
        classes=2,
        margin_scale=1.0,
        prediction=f"prediction_{name}",
        score=f"score_{name}",
        label_score=None,
        origin=f"models:/{name}/{version}",
    )


MODELS = [model("lr"), model("svm")]


@pytest.fixture
def config(own):
    """A configuration with this test's own indices."""
    config = own("elasticsearch.retry_seconds=20")
    elasticsearch.ensure(config.elasticsearch)
    return config


@pytest.fixture
def write(spark, config):
    """Return a function that writes a batch of rows."""

    def batch(rows, number, replay=None, models=MODELS, stream="s"):
        sink = QualityStatistics(config, models)
        frame = spark.createDataFrame(rows, SCHEMA)
        aggregates = aggregated([sink], frame)[sink.label]
        sink.write(frame, Batch(number, lambda: stream, wait=time.sleep, aggregates=aggregates), replay)

    return batch


def rows(count, seed, right=(0.8, 0.8), start=0):
    """Return events, one a second, of two models with a given share of right predictions."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < 0.4).astype(float)
    made = []
    for at, label in enumerate(labels.tolist()):
        predictions = [label if random.random() < share else 1 - label for share in right]
        scores = [0.3 + 0.4 * prediction for prediction in predictions]
        made.append((1_000 * (start + at), None, label, predictions[0], scores[0], predictions[1], scores[1]))
    return made


def reference(made):
    """Return the paired statistic of rows."""
    _, _, labels, first, first_scores, second, second_scores = zip(*made, strict=True)
    return pairs.of_rows(labels, first, second, first_scores, second_scores)


def compared(config):
    """Return the comparisons, the latest first."""
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.refresh(index=config.elasticsearch.quality_index)
        return comparison_reader.all_of(client, config.elasticsearch)


def assert_same(found, wanted):
    """Check that counts are equal, and sums up to rounding."""
    assert (found.labels, *(getattr(found, name) for name in pairs.COUNTS)) == (
        wanted.labels,
        *(getattr(wanted, name) for name in pairs.COUNTS),
    )
    for name in pairs.SUMS:
        assert math.isclose(getattr(found, name), getattr(wanted, name), rel_tol=1e-9, abs_tol=1e-9), name


def test_pair_is_counted_once_over_batches_and_replays(config, write):
    """The pair's whole life and each bucket over time have the events of all batches, each once."""
    parts = [rows(300, seed, start=300 * seed) for seed in range(3)]
    for number, part in enumerate(parts):
        write(part, number)
    write(parts[2], 2, Replay(2, 0))
    (found,) = compared(config)
    with elasticsearch.client(config.elasticsearch) as client:
        search = comparison_reader.courses(config.elasticsearch, 10, 0, 300_000)
        (answer,), _ = elasticsearch.search(client, config.elasticsearch, [search])
    course = comparison_reader.read_courses(answer)[found.topic, found.pair.id]

    assert found.pair == Pair("lr", "1", "svm", "1")
    assert (found.champion_uri, found.challenger_uri) == ("models:/lr/1", "models:/svm/1")
    assert found.last == 890_000
    assert_same(found.comparison.sums, reference([row for part in parts for row in part]))
    expected = [reference(part) for part in parts]
    assert [(at, one.events, one.only_challenger, one.only_champion) for at, one in course] == [
        (300_000 * number, 300, one.only_challenger, one.only_champion) for number, one in enumerate(expected)
    ]


def test_verdict_stays_and_its_evidence_is_that_of_every_batch(config, write):
    """A verdict falls in the batch that crosses the threshold, and stays although the models are equal later."""
    parts = [rows(2_000, 1, (0.75, 0.85)), rows(500, 2, (0.99, 0.6), start=2_000)]
    write(parts[0], 0)
    first = compared(config)[0].comparison
    write(parts[1], 1)
    write(parts[1], 1, Replay(1, 0))
    second = compared(config)[0].comparison

    assert first.evidence.verdict == second.evidence.verdict == "better"
    assert first.evidence.verdict_events == second.evidence.verdict_events == 2_000
    assert first.evidence.log_maximum == pytest.approx(paired.log_evidence(reference(parts[0])))
    assert second.evidence.log_maximum == first.evidence.log_maximum > paired.log_evidence(second.sums)


def test_new_version_begins_a_new_comparison(config, write):
    """A swap begins a new pair; the earlier one is kept, and the current one is shown first."""
    write(rows(200, 1), 0)
    write(rows(100, 2, start=200), 1, models=[MODELS[0], model("svm", "2")])
    found = compared(config)

    assert [(each.pair.challenger_version, each.comparison.sums.events) for each in found] == [("2", 100), ("1", 200)]
    assert comparison_reader.current(found) == found[:1]


def test_statistics_of_models_do_not_contain_pairs(config, write):
    """Readers of the models' statistics find these alone."""
    write(rows(50, 1), 0)
    compared(config)
    with elasticsearch.client(config.elasticsearch) as client:
        found, _ = quality_reader.statistics(client, config, 10, [(0, None)])

    assert sum(statistic.scored for _, statistic in found) == 2 * 50


def test_command_shows_verdict_intervals_and_counts(config, write):
    """The command prints the comparison as a table, and as one JSON object per challenger."""
    made = rows(4_000, 3, (0.75, 0.8))
    write(made, 0)
    compared(config)
    settings = config.elasticsearch
    words = ["compare", "--set", f"elasticsearch.url={settings.url}"]
    words += ["--set", f"elasticsearch.quality_index={settings.quality_index}"]
    done = CliRunner().invoke(cli.app, [*words, "--json"])
    shown = CliRunner().invoke(cli.app, words)
    unknown = CliRunner().invoke(cli.app, [*words, "--challenger", "gbt"])
    assert done.exit_code == 0, done.exception
    printed, wanted = json.loads(done.stdout), reference(made)
    interval = paired.accuracy_difference(wanted)

    assert (printed["champion"], printed["challenger"], printed["verdict"]) == ("lr", "svm", "better")
    assert (printed["n"], printed["n10"], printed["n01"]) == (4_000, wanted.only_challenger, wanted.only_champion)
    assert printed["difference"] == pytest.approx(interval.to_json())
    assert printed["e_value"] == pytest.approx(math.exp(paired.log_evidence(wanted)))
    assert printed["p_value"] == pytest.approx(1 / printed["e_value"])
    assert printed["log_loss_difference"]["low"] > 0
    assert f"{100 * interval.value:+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]" in shown.stdout
    assert "after 4,000 events" in shown.stdout
    assert (unknown.exit_code, "no challenger 'gbt' was compared; there are svm" in str(unknown.exception)) == (1, True)
