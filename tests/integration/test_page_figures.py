"""The figures of the page and of the report, read from the statistics and compared with the outcomes."""

import contextlib
import time
from collections import Counter
from datetime import timezone

import pytest

from streamscore.clients import elasticsearch, quality_reader
from streamscore.dashboard import markup, report
from streamscore.dashboard.reader import Reader, View
from streamscore.errors import InputError, ServerError
from streamscore.quality.evaluation import evaluate
from streamscore.quality.figures import BASELINE
from streamscore.schema import OUTCOME_PROPERTIES, REJECTED_PROPERTIES, STATUS_PROPERTIES


def now():
    """Return the current time in epoch milliseconds."""
    return round(time.time() * 1_000)


@pytest.fixture
def read():
    """Return a function that reads a snapshot with a new reader."""

    def once(config, time_range="all"):
        with contextlib.closing(Reader(config)) as reader:
            return reader.read(time_range, now())

    return once


@pytest.fixture
def filled(own, fill):
    """A configuration with a minute of outcomes of three models, the last of which was added later."""
    config = own("dashboard.min_labelled=1")
    end = now()
    fill(config, events=2_000, seconds=60, end=end - 40_000)
    fill(config, events=1_000, seconds=40, end=end, first=2_000, models=("lr", "svm", "gbt"))
    return config


def test_numbers_of_each_model_are_those_of_its_documents(filled, read, documents):
    """Correct, incorrect and unlabelled counts and the confusion table equal those of the documents."""
    found = documents(filled).values()
    shown = {model.name: model for model in read(filled).models}

    assert set(shown) == {"lr", "svm", "gbt"}
    for name, model in shown.items():
        own = [document for document in found if document["model"] == name]
        labelled = [document for document in own if "label" in document]
        cells = Counter((document["label"], document["prediction"]) for document in labelled)

        assert model.events == len(own)
        assert model.correct == sum(document["correct"] == 1 for document in labelled)
        assert model.incorrect == sum(document["correct"] == 0 for document in labelled)
        assert model.unlabelled == len(own) - len(labelled)
        assert model.confusion == cells


def test_events_and_rejected_messages_are_counted_once(filled, read, documents):
    """The counts do not depend on the number of models."""
    found, bad = documents(filled).values(), documents(filled, filled.elasticsearch.rejected_index).values()
    shown = read(filled)

    assert shown.scored == len({document["event_id"] for document in found})
    assert shown.rejected == Counter(document["reason"] for document in bad)
    assert list(shown.rejected.values()) == sorted(shown.rejected.values(), reverse=True)
    assert shown.events == shown.scored + len(bad) == 3_000
    first, last = (end(document["@timestamp"] for document in (*found, *bad)) for end in (min, max))
    assert first - 10_000 < shown.period.first <= first
    assert shown.period.last <= last <= shown.until


def test_streams_of_several_topics_are_summed(own, fill, read, documents):
    """Events, labels, lag, rate and throughput are summed, also with different model names in one index."""
    config = own("dashboard.min_labelled=1")
    end = now()
    fill(config, events=1_000, seconds=40, end=end, models=("lr", "svm"), topic="ads")
    fill(config, events=600, seconds=40, end=end, first=2_000, models=("gbt",), topic="mails")
    shown = read(config)
    bad = documents(config, config.elasticsearch.rejected_index)
    labels = {entry["event_id"]: entry["label"] for entry in documents(config).values() if "label" in entry}

    assert shown.events == 1_600
    assert shown.scored == 1_600 - len(bad)
    assert shown.labels == Counter(labels.values())
    assert shown.stream.lag(shown.read_at) == 2 * 1_001
    assert shown.stream.rate(shown.read_at) == pytest.approx(25 + 15)
    assert sum(part.events for part in shown.throughput) == 40 * (25 + 15)
    assert max(rate for _, rate in shown.events_per_second()) == pytest.approx(25 + 15)


def made_by_an_earlier_version(config):
    """Create the indices of the version before the fields ``topic`` and ``score_kinds``."""
    mappings = {
        config.elasticsearch.index: OUTCOME_PROPERTIES,
        config.elasticsearch.rejected_index: REJECTED_PROPERTIES,
        config.elasticsearch.status_index: STATUS_PROPERTIES,
    }
    with elasticsearch.client(config.elasticsearch) as client:
        for index, properties in mappings.items():
            old = {name: field for name, field in properties.items() if name not in {"topic", "score_kinds"}}
            client.indices.create(index=index, mappings={"dynamic": "strict", "properties": old})


def test_index_of_an_earlier_version_gets_the_new_fields(own, fill, read):
    """Without statistics nothing is shown; the next start adds the fields and the quality index."""
    config = own()
    made_by_an_earlier_version(config)
    before = read(config)
    absent = elasticsearch.compare(config.elasticsearch)
    created = elasticsearch.ensure(config.elasticsearch)
    fill(config, events=600, seconds=30, models=("gbt",))
    after = read(config)

    assert before.events == 0
    assert absent == created == [config.elasticsearch.quality_index]
    assert after.events == 600
    assert after.stream.lag(after.read_at) == 1_001


def test_field_of_another_type_is_refused(own):
    """An index whose field has the new name but another type cannot hold the outcomes."""
    config = own()
    made_by_an_earlier_version(config)
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.put_mapping(index=config.elasticsearch.index, properties={"topic": {"type": "long"}})

    with pytest.raises(ServerError, match="topic is long, expected keyword"):
        elasticsearch.ensure(config.elasticsearch)


def test_without_documents_per_event_every_number_is_the_same(filled, read):
    """Page and report show the same numbers without the index of outcomes."""
    before = read(filled)
    moment = now()
    reports = [report.compose(filled, report.read(filled, "all", moment))]
    with elasticsearch.client(filled.elasticsearch) as client:
        client.indices.delete(index=filled.elasticsearch.index)
    after = read(filled)
    reports.append(report.compose(filled, report.read(filled, "all", moment)))

    assert after.scored == before.scored > 2_800
    assert [model.evaluation for model in after.models] == [model.evaluation for model in before.models]
    assert after.buckets == before.buckets
    assert reports[0] == reports[1]


def test_figures_are_those_of_scikit_learn_on_the_single_outcomes(filled, read, documents):
    """Exact figures agree to a billionth, the AUC within its bound; the command line prints the same."""
    from sklearn import metrics

    shown = {model.name: model.evaluation.figures for model in read(filled).models}
    for name, figures in shown.items():
        own = [entry for entry in documents(filled).values() if entry["model"] == name and "label" in entry]
        labels, scores = ([entry[field] for entry in own] for field in ("label", "score"))

        assert abs(metrics.roc_auc_score(labels, scores) - figures["auc"].value) <= figures["auc"].bound
        if name == "lr":
            assert figures["log_loss"].value == pytest.approx(metrics.log_loss(labels, scores), abs=1e-9)
            assert figures["rig"].value == pytest.approx(metrics.d2_log_loss_score(labels, scores), abs=1e-9)
            assert figures["calibration_ratio"].value == pytest.approx(sum(scores) / sum(labels), abs=1e-9)
        else:
            assert figures["log_loss"] is figures["rig"] is figures["calibration_ratio"] is None
    with elasticsearch.client(filled.elasticsearch) as server:
        statistics = quality_reader.of_range(server, filled, "all", now())
    by_version = {(model.name, model.version): model.evaluation.figures for model in read(filled).by_version}

    assert {of: evaluate(statistic).figures["auc"] for of, statistic in statistics.items()} == {
        of: figures["auc"] for of, figures in by_version.items()
    }


def test_refresh_reads_only_what_was_written_to(filled, fill, monkeypatch):
    """A refresh reads the last one or two windows, or none without new events."""
    read, lengths = quality_reader.statistics, []

    def recorded(*arguments):
        found, took = read(*arguments)
        lengths.append(len({part.begin for part, _ in found}))
        return found, took

    monkeypatch.setattr(quality_reader, "statistics", recorded)
    with contextlib.closing(Reader(filled)) as reader:
        reader.read("all", now())
        reader.read("all", now())
        fill(filled, events=20, seconds=1, first=50_000)
        reader.read("all", now())

    assert lengths[0] >= 7
    assert len(lengths) == 2
    assert lengths[1] <= 2


def test_points_of_the_accuracy_chart_are_those_of_their_stretch_of_time(filled, read, documents):
    """The points of the models and of the baseline equal those of their buckets' documents."""
    found = [document for document in documents(filled).values() if "label" in document]
    shown = read(filled)
    points = {(point.at, point.line): point for point in shown.lines("accuracy", ["lr", "svm", "gbt"])}
    within = {}
    for document in found:
        start = document["@timestamp"] // shown.window.interval * shown.window.interval
        within.setdefault((start, document["model"]), []).append(document)

    assert len({at for at, _ in points}) >= 5
    for (at, line), point in points.items():
        own = within.get((at, "lr" if line == BASELINE else line), [])
        right = [document["label"] == 0.0 if line == BASELINE else document["correct"] == 1 for document in own]

        assert point.labelled == len(own)
        assert point.value == (sum(right) / len(own) if own else None)


def test_time_range_leaves_out_what_is_older(own, fill, read, documents):
    """A range is exact to the bucket, for both models and for rejected messages."""
    config = own()
    fill(config, events=3_000, seconds=1_200)
    shown = read(config, "5m")
    found = [entry for entry in documents(config).values() if entry["@timestamp"] >= shown.window.start]
    bad = documents(config, config.elasticsearch.rejected_index).values()

    assert 0 <= (shown.read_at - 300_000) - shown.window.start < shown.window.interval
    assert sum(model.events for model in shown.models) == len(found)
    assert shown.rejected_total == sum(entry["@timestamp"] >= shown.window.start for entry in bad)
    assert 700 < shown.events < 800


def test_job_says_its_lag_its_speed_and_its_versions(filled, read):
    """They come from the last batch, the batches of the last thirty seconds, and each version's first batch."""
    shown = read(filled)

    assert shown.stream.synthetic
    assert shown.stream.lag(shown.read_at) == 1_001
    assert shown.stream.rate(shown.read_at) == pytest.approx(25)
    assert sum(bucket.events for bucket in shown.throughput) == 60 * (2_000 // 60) + 40 * 25
    assert [(version.model, version.version) for version in shown.changes()] == [("lr", "2"), ("lr", "1"), ("lr", "2")]
    assert shown.version("lr") == "2"


def test_message_that_is_dated_ahead_spoils_nothing(own, fill, read):
    """Page and report show a message with a time in microseconds along with the others, each in its bucket."""
    config = own("dashboard.min_labelled=1")
    fill(config, events=600, seconds=30)
    before = read(config)
    fill(config, events=1, seconds=1, first=601, end=now() * 1_000)
    after = read(config)

    assert after.window == before.window
    assert after.events == before.events + 1
    assert len([point for point in after.lines("accuracy", ["lr"]) if point.value is not None]) >= 2 * 2
    assert "31 Dec 9999" in markup.status(View(after), timezone.utc, now())
    assert "9999-12-31" in report.compose(config, report.read(config, "all", now()))


def test_batches_have_a_window_of_their_own(own, fill, read):
    """Events of five seconds, scored over a day, give neither thousands of points nor omit a batch."""
    config = own()
    fill(config, events=500, seconds=5, end=now() - 86_400_000)
    with elasticsearch.client(config.elasticsearch) as client:
        batch = {"query": "q", "batch": 9, "events": 10, "rejected": 0, "lag": 0, "batch_ms": 400, "models": ["lr:9"]}
        late = {**batch, "@timestamp": now(), "events_per_second": 25.0, "synthetic": True}
        client.index(index=config.elasticsearch.status_index, document=late, refresh=True)
    shown = read(config)

    assert shown.window.interval == 10_000
    assert len(shown.events_per_second()) <= 62
    assert sum(part.events for part in shown.throughput) == 510
    assert shown.version("lr") == "9"


def test_documents_that_come_late_are_counted(filled, fill, read, documents):
    """A reader counts late documents of a time that it has read before."""
    with contextlib.closing(Reader(filled)) as reader:
        before = reader.read("all", now())
        fill(filled, events=500, seconds=30, end=now() - 50_000, first=9_000)
        after = reader.read("all", now())

    assert sum(model.events for model in before.models) < sum(model.events for model in after.models)
    assert sum(model.events for model in after.models) == len(documents(filled))


def test_replay_changes_nothing(filled, fill, read):
    """The same documents under the same ids change no figure."""
    end = now()
    fill(filled, events=500, seconds=30, end=end, first=20_000)
    before = read(filled)
    fill(filled, events=500, seconds=30, end=end, first=20_000)

    assert read(filled).models == before.models


def test_index_may_be_empty_or_absent(own, read):
    """An empty or missing index gives an empty snapshot."""
    config = own()
    absent = read(config)
    elasticsearch.ensure(config.elasticsearch)
    empty = read(config)

    for shown in (absent, empty):
        assert shown.period is None
        assert shown.models == ()
        assert shown.events == 0
        assert shown.stream.rate(shown.read_at) is None


def test_search_that_is_refused_says_why(own):
    """The failure of one search in a request raises an error with the reason."""
    config = own()
    elasticsearch.ensure(config.elasticsearch)
    wrong = {"size": 0, "aggs": {"mean": {"avg": {"field": "model"}}}}

    with (
        elasticsearch.client(config.elasticsearch) as client,
        pytest.raises(ServerError, match=f"cannot search {config.elasticsearch.index}: .*keyword"),
    ):
        elasticsearch.search(client, config.elasticsearch, [(config.elasticsearch.index, wrong)])


def test_report_has_the_curves_of_the_scores(filled):
    """The report has ROC curves of all models, and a reliability diagram of the model with probabilities."""
    html = report.compose(filled, report.read(filled, "all", now()))

    assert all(f">{name}: area 0." in html for name in ("lr", "svm", "gbt"))
    assert ">lr: calibration error" in html
    assert "Not in the reliability diagram: svm (margins); gbt (margins)." in html


def test_report_of_nothing_is_an_error(own, tmp_path):
    """The error says what is missing, and no file is written."""
    config = own()

    with pytest.raises(
        InputError, match=f"nothing to report: the index '{config.elasticsearch.quality_index}' .* no event"
    ):
        report.write(config, "all", tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_report_is_written_with_the_numbers_of_the_documents(filled, documents, tmp_path):
    """The report is one file, small enough for a mail."""
    out = tmp_path / "report.html"
    size = report.write(filled, "all", out)
    html = out.read_text(encoding="utf-8")
    right = sum(entry["model"] == "svm" and entry.get("correct") == 1 for entry in documents(filled).values())

    assert f'data-testid="svm-correct" data-value="{right}"' in html
    assert "&lt;i&gt;odd&lt;/i&gt;" in html
    assert size < 1_000_000
