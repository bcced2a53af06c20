"""The figures of the page and of the report, each compared with a count of the documents themselves."""

import contextlib
import time
from collections import Counter
from datetime import timezone

import pytest

from streamscore.clients import elasticsearch
from streamscore.dashboard import markup, report
from streamscore.dashboard.reader import Reader, View
from streamscore.errors import InputError, ServerError
from streamscore.quality.figures import BASELINE
from streamscore.schema import OUTCOME_PROPERTIES, REJECTED_PROPERTIES, STATUS_PROPERTIES


def now():
    """Return this moment in epoch milliseconds."""
    return round(time.time() * 1_000)


@pytest.fixture
def read():
    """Return a function that reads a snapshot with a reader of its own."""

    def once(config, time_range="all", budget=None):
        with contextlib.closing(Reader(config.elasticsearch, budget=budget)) as reader:
            return reader.read(time_range, now())

    return once


@pytest.fixture
def filled(own, fill):
    """A configuration with a minute of outcomes of three models, the last of which came later."""
    config = own("dashboard.min_labelled=1")
    end = now()
    fill(config, events=2_000, seconds=60, end=end - 40_000)
    fill(config, events=1_000, seconds=40, end=end, first=2_000, models=("lr", "svm", "gbt"))
    return config


def test_numbers_of_each_model_are_those_of_its_documents(filled, read, documents):
    """Correct, incorrect, unlabelled and every cell of the confusion table."""
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
    """However many models scored them."""
    found, bad = documents(filled).values(), documents(filled, filled.elasticsearch.rejected_index).values()
    shown = read(filled)

    assert shown.scored == len({document["event_id"] for document in found})
    assert shown.rejected == Counter(document["reason"] for document in bad)
    assert list(shown.rejected.values()) == sorted(shown.rejected.values(), reverse=True)
    assert shown.events == shown.scored + len(bad) == 3_000
    assert (shown.period.first, shown.period.last) == (
        min(document["@timestamp"] for document in (*found, *bad)),
        max(document["@timestamp"] for document in (*found, *bad)),
    )


def test_streams_of_several_topics_are_summed(own, fill, read, documents):
    """With models of other names in one index, and of all figures: events, labels, lag, rate, throughput."""
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
    """Make the indices as the version before the fields ``topic`` and ``score_kinds`` made them."""
    mappings = {
        config.elasticsearch.index: OUTCOME_PROPERTIES,
        config.elasticsearch.rejected_index: REJECTED_PROPERTIES,
        config.elasticsearch.status_index: STATUS_PROPERTIES,
    }
    with elasticsearch.client(config.elasticsearch) as client:
        for index, properties in mappings.items():
            old = {name: field for name, field in properties.items() if name not in {"topic", "score_kinds"}}
            client.indices.create(index=index, mappings={"dynamic": "strict", "properties": old})


def old_documents(config, events, models, end):
    """Write outcomes and a status as that version did."""
    settings, lines = config.elasticsearch, []
    for number in range(events):
        for model in models:
            lines += [{"index": {"_index": settings.index}}]
            lines += [{"@timestamp": end, "event_id": f"ml-0-{number}", "model": model, "model_version": "1"}]
            lines[-1] |= {"prediction": float(number % 2), "score": number % 2 / 2 + 0.2}
            lines[-1] |= {"label": float(number % 2), "correct": 1}
    lines += [{"index": {"_index": settings.status_index}}]
    lines += [{"@timestamp": end, "query": "q", "batch": 1, "events": events, "rejected": 0, "lag": 9, "batch_ms": 5}]
    lines[-1] |= {"events_per_second": 1.0, "models": [f"{model}:1" for model in models], "synthetic": True}
    with elasticsearch.client(settings) as client:
        assert not client.bulk(operations=lines, refresh=True)["errors"]


def test_index_of_an_earlier_version_gets_the_new_fields(own, fill, read):
    """It is read before that, its documents count as one stream, and the next start adds the fields."""
    config = own()
    made_by_an_earlier_version(config)
    old_documents(config, 10, ("lr", "svm"), now() - 50_000)
    before = read(config)
    _, curves = report.read(config.elasticsearch, "all", now())
    absent = elasticsearch.compare(config.elasticsearch)
    created = elasticsearch.ensure(config.elasticsearch)
    fill(config, events=600, seconds=30, models=("gbt",))
    after = read(config)

    assert before.scored == 10
    assert before.stream.lag(before.read_at) == 9
    assert {found.model: found.calibration for found in curves} == {"lr": (), "svm": ()}  # nobody says what they are
    assert absent == created == []
    assert after.events == 610
    assert after.stream.lag(after.read_at) == 1_001


def test_field_of_another_type_is_refused(own):
    """An index of an earlier version that somebody gave such a field cannot hold the outcomes."""
    config = own()
    made_by_an_earlier_version(config)
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.put_mapping(index=config.elasticsearch.index, properties={"topic": {"type": "long"}})

    with pytest.raises(ServerError, match="topic is long, expected keyword"):
        elasticsearch.ensure(config.elasticsearch)


def test_margin_between_0_and_1_is_not_taken_for_a_probability(own, fill, documents):
    """What a score is, the status documents say; nobody guesses it from the range."""
    config = own()
    fill(config, events=600, seconds=30)
    between = [
        line
        for name, entry in documents(config).items()
        for line in ({"update": {"_id": name}}, {"doc": {"score": entry["score"] / 6 + 0.5}})
        if entry["model"] == "svm"
    ]
    with elasticsearch.client(config.elasticsearch) as client:
        assert not client.bulk(index=config.elasticsearch.index, operations=between, refresh=True)["errors"]
    _, curves = report.read(config.elasticsearch, "all", now())

    assert {found.model: (found.kind, bool(found.calibration)) for found in curves} == {
        "lr": ("probability", True),
        "svm": ("margin", False),
    }


def test_points_of_the_accuracy_chart_are_those_of_their_stretch_of_time(filled, read, documents):
    """The models' and the baseline's."""
    found = [document for document in documents(filled).values() if "label" in document]
    shown = read(filled)
    points = {(point.at, point.line): point for point in shown.lines(1, ["lr", "svm", "gbt"])}
    within = {}
    for document in found:
        start = document["@timestamp"] // shown.window.interval * shown.window.interval
        within.setdefault((start, document["model"]), []).append(document)

    assert len({at for at, _ in points}) >= 45
    for (at, line), point in points.items():
        own = within.get((at, "lr" if line == BASELINE else line), [])
        right = [document["label"] == 0.0 if line == BASELINE else document["correct"] == 1 for document in own]

        assert point.labelled == len(own)
        assert point.accuracy == (sum(right) / len(own) if own else None)


def test_time_range_leaves_out_what_is_older(own, fill, read, documents):
    """To the bucket; both models' and the rejected messages' counts."""
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
    """As of its last batch, the batches of the last thirty seconds, and the first batch of each version."""
    shown = read(filled)

    assert shown.stream.synthetic
    assert shown.stream.lag(shown.read_at) == 1_001
    assert shown.stream.rate(shown.read_at) == pytest.approx(25)
    assert sum(bucket.events for bucket in shown.throughput) == 60 * (2_000 // 60) + 40 * 25
    assert [(version.model, version.version) for version in shown.changes()] == [("lr", "2"), ("lr", "1"), ("lr", "2")]
    assert shown.version("lr") == "2"


def test_message_that_is_dated_ahead_spoils_nothing(own, fill, read):
    """By a producer that counts microseconds: it is shown with the others, in their buckets, by page and report."""
    config = own("dashboard.min_labelled=1")
    fill(config, events=600, seconds=30)
    before = read(config)
    fill(config, events=1, seconds=1, first=601, end=now() * 1_000)
    after = read(config)

    assert after.window == before.window
    assert after.events == before.events + 1
    assert len([point for point in after.lines(1, ["lr"]) if point.accuracy is not None]) >= 2 * 28
    assert "31 Dec 9999" in markup.status(View(after), timezone.utc, now())
    assert "9999-12-31" in report.compose(config, *report.read(config.elasticsearch, "all", now()))


def test_batches_have_a_window_of_their_own(own, fill, read):
    """Events of five seconds, scored in batches over a day: neither thousands of points nor a batch left out."""
    config = own()
    fill(config, events=500, seconds=5, end=now() - 86_400_000)
    with elasticsearch.client(config.elasticsearch) as client:
        batch = {"query": "q", "batch": 9, "events": 10, "rejected": 0, "lag": 0, "batch_ms": 400, "models": ["lr:9"]}
        late = {**batch, "@timestamp": now(), "events_per_second": 25.0, "synthetic": True}
        client.index(index=config.elasticsearch.status_index, document=late, refresh=True)
    shown = read(config)

    assert shown.window.interval == 1_000
    assert len(shown.events_per_second()) <= 62
    assert sum(part.events for part in shown.throughput) == 510
    assert shown.version("lr") == "9"


def test_documents_that_come_late_are_counted(filled, fill, read, documents):
    """Wherever in the past they belong, by a reader that has counted that time before."""
    with contextlib.closing(Reader(filled.elasticsearch)) as reader:
        before = reader.read("all", now())
        fill(filled, events=500, seconds=30, end=now() - 50_000, first=9_000)
        after = reader.read("all", now())

    assert sum(model.events for model in before.models) < sum(model.events for model in after.models)
    assert sum(model.events for model in after.models) == len(documents(filled))


def test_replay_changes_nothing(filled, fill, read):
    """The same documents again, under the same ids."""
    end = now()
    fill(filled, events=500, seconds=30, end=end, first=20_000)
    before = read(filled)
    fill(filled, events=500, seconds=30, end=end, first=20_000)

    assert read(filled).models == before.models


def test_small_budget_ends_at_the_same_numbers(filled):
    """Part by part; what is left is known at every step."""
    with contextlib.closing(Reader(filled.elasticsearch, budget=1_000)) as reader:
        steps = [reader.read("all", now()) for _ in range(12)]
    pending = [step.pending for step in steps]

    assert pending[0] > 3_000
    assert pending == sorted(pending, reverse=True)
    assert pending[-1] == 0
    with contextlib.closing(Reader(filled.elasticsearch, budget=None)) as reader:
        assert reader.read("all", now()).models == steps[-1].models


def test_index_may_be_empty_or_absent(own, read):
    """There is nothing to show, and nothing fails."""
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
    """A part of a request that fails is not taken for an answer."""
    config = own()
    elasticsearch.ensure(config.elasticsearch)
    wrong = {"size": 0, "aggs": {"mean": {"avg": {"field": "model"}}}}

    with (
        elasticsearch.client(config.elasticsearch) as client,
        pytest.raises(ServerError, match=f"cannot search {config.elasticsearch.index}: .*keyword"),
    ):
        elasticsearch.search(client, config.elasticsearch, [(config.elasticsearch.index, wrong)])


def test_answer_that_is_too_large_is_asked_for_in_parts(filled, read):
    """As with many classes: fifty stretches of time, and a limit that lets some of them through at once."""
    whole = read(filled)
    with elasticsearch.client(filled.elasticsearch) as client:
        client.cluster.put_settings(persistent={"search.max_buckets": 400})
        try:
            parts = read(filled)
        finally:
            client.cluster.put_settings(persistent={"search.max_buckets": None})

    assert parts.buckets == whole.buckets
    assert len(parts.buckets) > 40


def test_report_has_the_curves_of_the_scores(filled, documents):
    """The area as scikit-learn computes it from the single scores; calibration of the probabilities only."""
    from sklearn.metrics import roc_auc_score

    _, curves = report.read(filled.elasticsearch, "all", now())

    assert {found.model: bool(found.calibration) for found in curves} == {"lr": True, "svm": False, "gbt": False}
    for found in curves:
        own = [entry for entry in documents(filled).values() if entry["model"] == found.model and "label" in entry]
        exact = roc_auc_score([entry["label"] for entry in own], [entry["score"] for entry in own])

        assert found.auc == pytest.approx(exact, abs=2e-3)
        for group in found.calibration:
            scores = [entry for entry in own if abs(entry["score"] - group.score) < 0.1]
            assert 0 < group.events <= len(scores)
    assert sum(group.events for group in curves[0].calibration) == sum(
        entry["model"] == "lr" and "label" in entry for entry in documents(filled).values()
    )


def test_report_of_nothing_is_an_error(own, tmp_path):
    """It says what is missing, and leaves no file."""
    config = own()

    with pytest.raises(InputError, match=f"nothing to report: the index '{config.elasticsearch.index}' .* no event"):
        report.write(config, "all", tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_report_is_written_with_the_numbers_of_the_documents(filled, documents, tmp_path):
    """Into one file, small enough for a mail."""
    out = tmp_path / "report.html"
    size = report.write(filled, "all", out)
    html = out.read_text(encoding="utf-8")
    right = sum(entry["model"] == "svm" and entry.get("correct") == 1 for entry in documents(filled).values())

    assert f'data-testid="svm-correct" data-value="{right}"' in html
    assert "&lt;i&gt;odd&lt;/i&gt;" in html
    assert size < 1_000_000
