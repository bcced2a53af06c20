"""The figures of the page, from statistics."""

from dataclasses import replace

import numpy as np
import pytest

from streamscore.dashboard.batches import BatchReport, StreamReport, Throughput, Version
from streamscore.dashboard.buckets import Bucket, Tally
from streamscore.dashboard.figures import SHOWN, ModelFigures, Point, Snapshot, in_order, span, stripes
from streamscore.quality.attribution import Attribution
from streamscore.quality.estimates import wilson
from streamscore.quality.evaluation import evaluate
from streamscore.quality.figures import BASELINE
from streamscore.quality.statistic import Statistic, of_rows
from streamscore.quality.windows import Period, Window

MODELS = ["lr", "svm"]


def tally(model, right, wrong, unlabelled=0, version="1", clicks=0):
    """Return a tally of right and wrong predictions for label 0, and right ones for label 1 (clicks)."""
    confusion = {(0.0, 0.0): right, (0.0, 1.0): wrong, (1.0, 1.0): clicks}
    occurring = {pair: events for pair, events in confusion.items() if events}
    return Tally(model, version, Statistic(None, right + wrong + clicks + unlabelled, confusion=occurring))


def bucket(start, *tallies):
    """Return a bucket of some tallies."""
    return Bucket(start, tallies)


def snapshot(*buckets, rejected=None, versions=(), read_at=100_000, last=10_000, min_labelled=1):
    """Return a snapshot with buckets of a second."""
    return Snapshot(
        read_at=read_at,
        period=Period(0, last),
        window=Window(0, 1_000, whole=True),
        batch_window=Window(0, 1_000, whole=False),
        buckets=buckets,
        rejected=rejected or {},
        stream=StreamReport((), synthetic=False),
        versions=versions,
        throughput=(),
        took=1,
        min_labelled=min_labelled,
    )


def test_model_is_summed_over_buckets_and_versions():
    """Correct, incorrect and unlabelled events add up to the scored ones."""
    shown = snapshot(
        bucket(0, tally("lr", 7, 2, unlabelled=1)),
        bucket(1_000, tally("lr", 3, 1, version="1"), tally("lr", 4, 0, unlabelled=2, version="2")),
    )
    (model,) = shown.models

    assert (model.correct, model.incorrect, model.unlabelled, model.events) == (14, 3, 3, 20)
    assert model.accuracy == 14 / 17
    assert model.confusion == {(0.0, 0.0): 14, (0.0, 1.0): 3}


def test_model_without_labels_has_no_accuracy():
    """Without labels the accuracy is None."""
    (model,) = snapshot(bucket(0, tally("lr", 0, 0, unlabelled=5))).models

    assert model.accuracy is None
    assert model.unlabelled == 5


def test_events_count_once_however_many_models_score_them():
    """An added or removed model does not change the number of events."""
    shown = snapshot(
        bucket(0, tally("lr", 10, 0), tally("svm", 10, 0)),
        bucket(1_000, tally("lr", 5, 0), tally("svm", 5, 0), tally("gbt", 5, 0)),
        bucket(2_000, tally("gbt", 8, 0)),
        rejected={"not_json": 2},
    )

    assert shown.scored == 23
    assert shown.events == 25


def test_events_of_several_topics_are_summed():
    """The events of two streams in one index are summed; documents without a topic count as a further stream."""
    topics = [("lr", "ads", 1_000), ("svm", "ads", 1_000), ("gbt", "mails", 600), ("old", "", 7)]
    tallies = [replace(tally(model, events - 5, 3, clicks=2), topic=topic) for model, topic, events in topics]
    shown = snapshot(bucket(0, *tallies), bucket(1_000, *tallies[:3]))

    assert [one.events for one in shown.buckets] == [1_607, 1_600]
    assert shown.scored == 3_207
    assert shown.labels == {0.0: 3_207 - 10, 1.0: 10}


def test_baseline_is_the_accuracy_of_predicting_the_most_frequent_label():
    """The baseline covers the whole window and counts each event once."""
    shown = snapshot(
        bucket(0, tally("lr", 3, 0, clicks=1), tally("svm", 2, 1, clicks=1)),
        bucket(1_000, tally("lr", 4, 0, clicks=2), tally("svm", 4, 0, clicks=2)),
    )

    assert shown.labels == {0.0: 7, 1.0: 3}
    assert shown.baseline == 0.7


def test_no_label_no_baseline():
    """Without labels the baseline is None."""
    assert snapshot(bucket(0, tally("lr", 0, 0, unlabelled=3))).baseline is None


def test_lines_follow_the_buckets():
    """In each bucket the baseline predicts the most frequent label of the whole window."""
    shown = snapshot(
        bucket(0, tally("lr", 8, 2), tally("svm", 6, 4)),
        bucket(1_000, tally("lr", 1, 1, clicks=8), tally("svm", 2, 0, clicks=8)),
    )

    def point(at, line, right):
        interval = wilson(right, 10)
        return Point(at, line, right / 10, 10, interval.low, interval.high)

    assert shown.lines("accuracy", MODELS) == [
        Point(0, BASELINE, 1.0, 10),
        point(0, "lr", 8),
        point(0, "svm", 6),
        Point(1_000, BASELINE, 0.2, 10),
        point(1_000, "lr", 9),
        point(1_000, "svm", 10),
    ]


def test_lines_have_a_gap_where_labels_are_few():
    """A line has a gap in buckets with few labels or without events."""
    buckets = (bucket(0, tally("lr", 8, 2)), bucket(3_000, tally("lr", 2, 1)), bucket(4_000, tally("lr", 5, 0)))
    shown = snapshot(*buckets, min_labelled=4)

    drawn = [point.value for point in shown.lines("accuracy", ["lr"]) if point.line == "lr"]

    assert drawn == [0.8, None, None, None, 1.0]


def drawn(shown):
    """Return the times of the drawn points."""
    return {point.at for point in shown.lines("accuracy", ["lr"])}


def test_bucket_that_is_still_filling_is_not_drawn():
    """A bucket is drawn once its time has passed."""
    buckets = [bucket(0, tally("lr", 8, 2)), bucket(1_000, tally("lr", 1, 1))]

    assert drawn(snapshot(*buckets, read_at=1_999)) == {0}
    assert drawn(snapshot(*buckets, read_at=2_000)) == {0, 1_000}


def test_bucket_that_the_events_have_only_just_reached_is_not_drawn():
    """A past bucket that the scored events have only just reached is not drawn while the stream runs."""
    buckets = [bucket(0, tally("lr", 8, 2)), bucket(1_000, tally("lr", 1, 1))]

    assert drawn(snapshot(*buckets, last=1_400, read_at=31_400)) == {0}
    assert drawn(snapshot(*buckets, last=1_400, read_at=31_401)) == {
        0,
        1_000,
    }


def test_version_is_marked_where_its_first_events_are():
    """The mark is at the version's first events, not its first batch; simultaneous changes share a mark."""
    ones = [tally("lr", 9, 1), tally("svm", 9, 1)]
    twos = [tally("lr", 9, 1, version="2"), tally("svm", 9, 1, version="2")]
    shown = snapshot(
        bucket(0, *ones), bucket(1_000, *ones, *twos), bucket(2_000, *twos, tally("gbt", 9, 1)), bucket(3_000, *ones)
    )

    assert shown.marks(["svm", "lr", "gbt"]) == [(1_000, "svm → 2, lr → 2"), (3_000, "svm → 1, lr → 1")]
    assert shown.marks(["lr"]) == [(1_000, "lr → 2"), (3_000, "lr → 1")]


def test_model_is_measured_by_the_events_that_it_scored():
    """Each model's baseline is that of its own events."""
    shown = snapshot(
        bucket(0, tally("lr", 9, 0)), bucket(1_000, tally("lr", 0, 0, clicks=3), tally("gbt", 1, 0, clicks=3))
    )

    assert {model.name: model.baseline for model in shown.models} == {"gbt": 3 / 4, "lr": 9 / 12}
    assert snapshot(bucket(0, tally("lr", 0, 0, unlabelled=5))).models[0].baseline is None


def test_event_that_is_dated_ahead_does_not_keep_a_stream_alive():
    """An event time in the future does not make a stream live; the batches decide."""
    ahead = snapshot(read_at=100_000, last=10**12)
    running = replace(ahead, stream=batches(97, 98, 99))

    assert ahead.quiet
    assert not running.quiet
    assert not running.behind


def test_change_is_a_version_that_took_over():
    """The first version of a model is not a change, nor is an added model."""
    versions = (Version("gbt", "1", 50, 90), Version("lr", "3", 10, 40), Version("lr", "4", 50, 90))
    shown = snapshot(versions=versions)

    assert shown.changes() == [Version("lr", "4", 50, 90)]
    assert [shown.version(model) for model in ("lr", "gbt", "absent")] == ["4", "1", ""]


def test_version_that_came_back_is_the_one_that_serves():
    """After a rollback the restored version is the current one, and the rollback is a change."""
    shown = snapshot(versions=(Version("lr", "3", 10, 39), Version("lr", "4", 40, 60), Version("lr", "3", 61, 90)))

    assert shown.version("lr") == "3"
    assert shown.changes() == list(shown.versions[1:])


def test_models_stand_in_the_order_of_the_configuration():
    """Unknown models follow the configured ones."""
    shown = snapshot(bucket(0, tally("a", 1, 0), tally("lr", 1, 0), tally("svm", 1, 0)))

    assert [model.name for model in in_order(shown.models, ["svm", "lr"])] == ["svm", "lr", "a"]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.71, 0.84], [0.7, 0.85]),
        ([0.7, 0.8], [0.65, 0.8]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([1.01, 1.034], [1.01, 1.035]),
        ([0.5], [0.5, 0.5]),
        ([None], [0.0, 1.0]),
    ],
)
def test_axis_ends_at_round_numbers_around_the_points(values, ends):
    """The axis ends at round numbers, so that it does not move with every point."""
    assert span(Point(0, "lr", value, 9) for value in values) == pytest.approx(ends, abs=1e-6)


def test_axis_has_room_for_the_intervals():
    """The axis includes the intervals' ends."""
    assert span([Point(0, "lr", 0.8, 9, 0.71, 0.89)]) == [0.7, 0.9]


def events(kind="probability", shift=0.0, seed=0, count=400):
    """Return the statistic of events whose scores correlate with their labels."""
    chance = np.random.default_rng(seed)
    scores = chance.uniform(0.05, 0.95, count)
    labels = (chance.uniform(size=count) < scores).astype(float)
    return of_rows(labels, (scores > 0.5).astype(float), scores + shift, kind)


@pytest.mark.parametrize("figure", SHOWN)
def test_every_figure_is_drawn_with_its_interval(figure):
    """The band includes the bound of a figure from bins; the log loss has no such bound."""
    shown = snapshot(bucket(0, Tally("lr", "1", events())))
    (point,) = [point for point in shown.lines(figure, ["lr"]) if point.line == "lr"]
    exact = evaluate(events()).figures[figure]

    assert point.value == exact.value
    if figure == "log_loss":
        assert point.low is point.high is None
    else:
        assert point.low == exact.low - exact.error
        assert point.high == exact.high + exact.error


@pytest.mark.parametrize(
    ("figure", "reference"), [("auc", 0.5), ("rig", 0.0), ("calibration_ratio", 1.0), ("log_loss", None)]
)
def test_figure_is_drawn_beside_what_it_is_compared_with(figure, reference):
    """Each figure has its reference line, except the log loss."""
    lines = snapshot(bucket(0, Tally("lr", "1", events()))).lines(figure, ["lr"])

    assert [point.value for point in lines if point.line != "lr"] == ([] if reference is None else [reference])


def test_figures_of_a_range_are_those_of_the_added_statistics():
    """Figures are computed from summed statistics, by version and by model, and are not means of the buckets'."""
    parts = [events(seed=seed) for seed in range(3)]
    tallies = [Tally("lr", version, part) for version, part in zip("121", parts, strict=True)]
    shown = snapshot(*(bucket(1_000 * at, tally) for at, tally in enumerate(tallies)))

    assert [(one.version, one.statistic) for one in shown.by_version] == [("1", parts[0] + parts[2]), ("2", parts[1])]
    assert shown.models[0].evaluation.figures["auc"] == evaluate(parts[0] + parts[1] + parts[2]).figures["auc"]


def test_versions_with_scores_of_different_kinds_share_only_what_is_counted():
    """Versions with different kinds of scores share counts, and so the accuracy, but not AUC and log loss."""
    mixed = [Tally("lr", "1", events()), Tally("lr", "2", events("margin", -0.5))]
    (model,) = snapshot(bucket(0, *mixed)).models
    defined = {name for name in SHOWN if model.evaluation.figures[name]}

    assert model.events == 800
    assert model.correct == sum(tally.statistic.correct for tally in mixed)
    assert defined == {"accuracy"}


def test_few_labels_give_no_figure():
    """With few labels the figures are None, but the outcomes are counted."""
    few = ModelFigures("lr", events(count=19), min_labelled=20)

    assert (few.accuracy, few.baseline, few.labelled) == (None, None, 19)
    assert set(few.evaluation.figures.values()) == {None}


def batches(*starts, milliseconds=400, events=100):
    """Return a stream with batches that started at the given seconds."""
    return StreamReport(tuple(BatchReport(at * 1_000, milliseconds, events, 0) for at in starts), synthetic=True)


@pytest.mark.parametrize(
    ("stream", "rate"),
    [
        (batches(97, 98, 99), 100.0),  # a batch of a hundred events every second
        (batches(70, 80, 90, milliseconds=10_000), 10.0),  # consecutive, each of ten seconds
        (batches(-140, -80, -20, 40), 100 / 60),  # one a minute
        (batches(50, 51, 98, 99), 100.0),  # after a pause
        (batches(50, 51, 99), 100.0),  # the first after a pause
        (batches(95, milliseconds=5_000), 20.0),  # the first of all
        (batches(60, 61, 62), 0.0),  # the stream has stopped
        (batches(-300, -240, -180), 0.0),  # a stream with a batch a minute has stopped
        (StreamReport((), synthetic=True), None),  # unknown, not zero
    ],
)
def test_rate_is_that_of_the_last_batches(stream, rate):
    """The rate is right for long and for rare batches."""
    assert stream.rate(100_000) == (rate if rate is None else pytest.approx(rate))


def test_lag_and_rate_are_summed_over_the_topics_that_run():
    """Only running topics count, unless none runs."""
    ads = [BatchReport(at * 1_000, 400, 100, 5, "ads") for at in (97, 98, 99)]
    mails = [BatchReport(at * 1_000, 400, 20, 7, "mails", ("lr:4: damaged",)) for at in (95, 97, 99)]
    stopped = [BatchReport(at * 1_000, 400, 100, 1_000, "", ("lr:1: old",)) for at in (1, 2, 3)]
    report = StreamReport((*stopped, *sorted([*ads, *mails], key=lambda batch: batch.at)), synthetic=False)

    assert report.lag(100_000) == 5 + 7
    assert report.rate(100_000) == pytest.approx(100 + 10)
    assert report.refused(100_000) == ["lr:4: damaged"]
    assert StreamReport(tuple(stopped), synthetic=False).lag(100_000) == 1_000
    assert StreamReport((), synthetic=False).lag(100_000) is None


def test_long_batches_are_spread_over_the_time_they_took():
    """Batches of 1.25 seconds at a constant rate show neither peaks nor gaps."""
    long = tuple(Throughput(at, 125, 1_250) for at in range(0, 10_000, 1_250))
    short = (Throughput(0, 300, 900), Throughput(2_500, 100, 400))

    assert replace(snapshot(), throughput=long).events_per_second() == [(at * 1_000, 100.0) for at in range(10)]
    assert replace(snapshot(), throughput=short).events_per_second() == [(0, 300.0), (1_000, 0.0), (2_000, 100.0)]


def test_bucket_whose_labels_are_awaited_is_in_no_figure():
    """Its events are scored all the same; the chart has a gap; the coverage is that of all events."""
    buckets = (bucket(0, tally("lr", 6, 4, unlabelled=10)), bucket(50_000, tally("lr", 2, 0, unlabelled=8)))
    shown = replace(snapshot(*buckets, last=90_000), attribution=Attribution(60_000, 0.9))
    (model,) = shown.models

    assert shown.awaited == {50_000}
    assert (model.correct, model.incorrect, model.events) == (6, 4, 20)
    assert shown.scored == 30
    assert shown.labels.total() == 10
    assert shown.coverage == 12 / 30
    values = {point.at: point.value for point in shown.lines("accuracy", ["lr"]) if point.line == "lr"}
    assert (values[0], values[50_000]) == (0.6, None)


def test_labels_of_one_topic_do_not_make_up_for_those_of_another():
    """Each topic's labels are awaited by themselves."""
    other = replace(tally("lr", 0, 0, unlabelled=5), topic="other")
    shown = replace(snapshot(bucket(90_000, tally("lr", 95, 0), other)), attribution=Attribution(60_000, 0.9))

    assert shown.awaited == {90_000}
    assert [model.events for model in shown.models] == [95]


def test_stripes_hatch_half_of_a_bucket():
    """They lie in it, and neighbours go on at the same distance."""
    assert stripes([8_000, 0], 8_000)[:5] == [
        (0, 1_000),
        (2_000, 3_000),
        (4_000, 5_000),
        (6_000, 7_000),
        (8_000, 9_000),
    ]
