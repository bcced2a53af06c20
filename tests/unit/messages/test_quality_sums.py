"""The JVM's sums of quality equal the reference, for any rows and partitions."""

import math
import random
from collections import defaultdict
from types import SimpleNamespace

import pytest

from streamscore.messages import decoder
from streamscore.quality import pairs
from streamscore.quality.confusion import OTHER
from streamscore.quality.packed import unpack
from streamscore.quality.statistic import SUMS, of_rows, total

SCHEMA = (
    "event_time bigint, reason string, label double, prediction_lr double, score_lr double, prediction_svm double, "
    "score_svm double, prediction_nb double, score_nb double, label_score_nb double, prediction_gbt double, "
    "score_gbt double"
)
INFINITE = float("inf")
PROBABILITIES = (0.0, 1.0, 0.5, 2.0**-60, 1 - 2.0**-53, 0.25, math.nan, None)
MARGINS = (0.0, -0.0, INFINITE, -INFINITE, math.nan, 1e300, -40.0, 1 / 16, None)


def served(name, kind, classes=2, scale=1.0):
    """Return the properties of a model that the sums need."""
    return SimpleNamespace(
        name=name,
        score_kind=kind,
        classes=classes,
        margin_scale=scale,
        prediction=f"prediction_{name}",
        score=f"score_{name}",
        label_score=f"label_score_{name}" if kind == "class_probability" else None,
    )


MODELS = [served("lr", "probability"), served("svm", "margin", scale=1.7), served("nb", "class_probability", 4)]


def made(seed, count):
    """Return rows with ties, nulls and unusual numbers and times, some of them of bad messages."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        label = chance.choice([0.0, 1.0, 1.0, None, 2.0, 3.0])
        rows.append(
            (
                chance.choice([0, -1, 25_000, 25_001, 39_999, 40_000, -120_500, chance.randrange(10**7)]),
                "not_json" if chance.random() < 0.05 else None,
                label,
                float(chance.random() < 0.5),
                chance.choice(PROBABILITIES) if chance.random() < 0.3 else chance.random(),
                None if chance.random() < 0.1 else float(chance.random() < 0.5),  # declined
                chance.choice(MARGINS) if chance.random() < 0.3 else chance.gauss(0, 3),
                float(chance.randrange(4)),
                chance.random(),
                None if label is None else chance.choice([0.0, 1.0, chance.random()]),
                float(chance.random() < 0.5),
                chance.choice(PROBABILITIES) if chance.random() < 0.3 else chance.random(),
            )
        )
    return rows


def number(value):
    """Return a number, NaN for None."""
    return math.nan if value is None else value


def reference(rows, seconds):
    """Return the reference's statistics by window and model."""
    windows = defaultdict(list)
    for row in rows:
        if row[1] is None:
            windows[row[0] // (1000 * seconds) * 1000 * seconds if seconds else 0].append(row)
    found = {}
    for window, inside in windows.items():
        for position, (prediction, score) in enumerate([(3, 4), (5, 6), (7, 9)]):
            columns = ([number(row[column]) for row in inside] for column in (2, prediction, score))
            model = MODELS[position]
            found[window, position] = of_rows(*columns, model.score_kind, model.margin_scale)
    return found


def summed(spark, rows, models=MODELS, seconds=None, parts=3):
    """Return the JVM's statistics of rows."""
    frame = spark.createDataFrame(rows, SCHEMA).repartition(parts)
    data = frame.agg(decoder.quality_sums(spark, models, 0, seconds)).collect()[0][0]
    of_models, of_pairs = unpack(data, kinds(models))
    assert {part.challenger for part in of_pairs} == (set(range(1, len(models))) if of_models else set())
    return {(at, model): statistic for at, model, statistic in of_models}


def assert_same(found, expected):
    """Check that counts are equal, and sums up to rounding."""
    assert found.keys() == expected.keys()
    for key, statistic in found.items():
        wanted = expected[key]
        for name in ("score_kind", "scored", "declined", "predictions", "confusion", "labels", "loss_events"):
            assert getattr(statistic, name) == getattr(wanted, name), (key, name)
        for name in SUMS:
            assert getattr(statistic, name) == pytest.approx(getattr(wanted, name), rel=1e-12, abs=1e-12), (key, name)


@pytest.mark.parametrize("seconds", [None, 10, 3600])
def test_sums_equal_the_reference(spark, seconds):
    """The sums by window and model equal the reference, with all edge cases."""
    rows = made(1, 3000)

    assert_same(summed(spark, rows, seconds=seconds), reference(rows, seconds))


def test_sums_of_windows_are_those_of_all(spark):
    """The sums of windows add up to those without windows."""
    rows = made(2, 1000)
    parts = summed(spark, rows, seconds=10)
    whole = summed(spark, rows)

    assert_same({(0, at): total(s for (_, model), s in parts.items() if model == at) for at in range(3)}, whole)


def test_no_rows_have_no_sums(spark):
    """No rows, or only bad messages, give no sums."""
    assert summed(spark, []) == {}
    assert summed(spark, [(0, "not_json", *[None] * 10)]) == {}


def test_labels_that_are_no_classes_are_counted_together(spark):
    """Labels that are not classes share one code, so that the statistic stays bounded."""
    rows = [(0, None, label, 1.0, 0.5, *[None] * 7) for label in (0.5, -1.0, 100.0, 1e300, 99.0)]
    ((_, statistic),) = summed(spark, rows, MODELS[:1]).items()

    assert statistic.confusion == {(OTHER, 1.0): 4, (99.0, 1.0): 1}
    assert statistic.loss_events == 0


def test_sums_can_be_observed_on_a_stream_and_beside_other_counts(spark, tmp_path):
    """The sums can be observed on a stream, in the same pass as other counts."""
    rows = made(3, 500)
    folder = str(tmp_path / "rows")
    spark.createDataFrame(rows, SCHEMA).write.parquet(folder)
    observed = (
        spark.readStream.schema(SCHEMA)
        .parquet(folder)
        .observe("quality", decoder.quality_sums(spark, MODELS, 0, 10).alias("sums"))
    )
    query = observed.writeStream.foreachBatch(lambda frame, _: frame.foreach(lambda _: None))
    query = query.option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True).start()
    query.awaitTermination(60)
    import base64

    observation = query.recentProgress[0]["observedMetrics"]["quality"]["sums"]
    found, _ = unpack(base64.b64decode(observation), kinds(MODELS))

    assert_same({(at, model): statistic for at, model, statistic in found}, reference(rows, 10))


@pytest.mark.parametrize("champion", [0, 3])
@pytest.mark.parametrize("seconds", [None, 10])
def test_pairs_equal_the_reference(spark, champion, seconds):
    """The paired sums of the champion with each other model equal the reference; a pair with margins has no losses."""
    models = [*MODELS, served("gbt", "probability")]
    rows = made(4, 2000)
    frame = spark.createDataFrame(rows, SCHEMA).repartition(3)
    data = frame.agg(decoder.quality_sums(spark, models, champion, seconds)).collect()[0][0]
    found = {(part.window, part.challenger): part.statistic for part in unpack(data, kinds(models))[1]}
    windows = defaultdict(list)
    for row in rows:
        if row[1] is None:
            windows[row[0] // (1000 * seconds) * 1000 * seconds if seconds else 0].append(row)
    columns = [(3, 4), (5, None), (7, None), (10, 11)]

    assert found.keys() == {(window, other) for window in windows for other in range(4) if other != champion}
    for (window, other), pair in found.items():
        wanted = expected_pair(windows[window], columns[champion], columns[other])
        assert (pair.labels, *(getattr(pair, name) for name in pairs.COUNTS)) == (
            wanted.labels,
            *(getattr(wanted, name) for name in pairs.COUNTS),
        )
        for name in pairs.SUMS:
            assert getattr(pair, name) == pytest.approx(getattr(wanted, name), rel=1e-12, abs=1e-12), name
    rated = {other for (_, other), pair in found.items() if pair.probability_events}
    assert rated == {0, 3} - {champion}


def test_pair_leaves_out_events_that_only_one_model_scored(spark):
    """An event without a prediction of one of the two is not compared."""
    models = [MODELS[0], served("gbt", "probability")]
    rows = [
        (0, None, 1.0, *first, *[None] * 5, *second)
        for first in ((1.0, 0.9), (None, None))
        for second in ((0.0, 0.4), (None, None))
    ]
    data = spark.createDataFrame(rows, SCHEMA).agg(decoder.quality_sums(spark, models, 0)).collect()[0][0]
    (part,) = unpack(data, kinds(models))[1]

    assert (part.statistic.events, part.statistic.only_champion, part.statistic.only_challenger) == (1, 1, 0)


def kinds(models):
    """Return what the scores of models are."""
    return [model.score_kind for model in models]


def expected_pair(rows, champion, challenger):
    """Return the reference's paired statistic; a model's columns are its prediction and its probability, or None."""
    labels, first, second = ([number(row[at]) for row in rows] for at in (2, champion[0], challenger[0]))
    probabilities = [None if at is None else [number(row[at]) for row in rows] for at in (champion[1], challenger[1])]
    return pairs.of_rows(labels, first, second, *probabilities)
