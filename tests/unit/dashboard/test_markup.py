"""The texts and the tables of the page and of the report."""

import re
from dataclasses import replace
from datetime import timezone
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from streamscore import config
from streamscore.dashboard import key_figures, markup, palette
from streamscore.dashboard.batches import BatchReport, StreamReport, Version
from streamscore.dashboard.buckets import Bucket, Tally
from streamscore.dashboard.figures import ModelFigures, Snapshot
from streamscore.dashboard.reader import Fault, View
from streamscore.quality.attribution import Attribution
from streamscore.quality.statistic import EMPTY, Statistic, of_rows
from streamscore.quality.windows import Period, Window

NOW = 1_795_514_400_000  # 2026-11-24 10:00:00 UTC
EVIL = "<script>alert(1)</script>"


class Text(HTMLParser):
    """A parser that collects the text, the tags and the attributes of HTML."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.values, self.names, self.all_values = "", [], {}, [], []
        self.feed(str(html))

    def handle_data(self, data):
        """Collect text."""
        self.text += re.sub(r"\s*\n\s*", "", data)  # without the templates' layout

    def handle_starttag(self, tag, attrs):
        """Collect a tag and its attributes."""
        self.tags.append(tag)
        given = dict(attrs)
        self.names += given
        self.all_values += given.values()
        if "data-testid" in given:
            self.values[given["data-testid"]] = given.get("data-value")


def snapshot(
    model="lr",
    version="3",
    reason="not_json",
    last=NOW - 5_000,
    synthetic=False,
    refused=(),
    batch=NOW - 3_000,
):
    """Return a snapshot of four events of a model, two of them right, and two rejected messages."""
    confusion = {(0.0, 0.0): 1, (0.0, 1.0): 1, (1.0, 1.0): 1}
    return Snapshot(
        read_at=NOW,
        period=Period(NOW - 90_000, last),
        window=Window(NOW - 90_000, 1_000, whole=True),
        batch_window=Window(NOW - 90_000, 1_000, whole=False),
        buckets=(Bucket(NOW - 90_000, (Tally(model, version, Statistic(None, 4, confusion=confusion)),)),),
        rejected={reason: 2},
        stream=StreamReport(
            (BatchReport(batch - 10_000, 400, 90, 0), BatchReport(batch, 400, 124, 17, refused=refused)), synthetic
        ),
        versions=(Version(model, "2", NOW - 90_000, NOW - 50_000), Version(model, version, NOW - 50_000, NOW)),
        throughput=(),
        took=7,
    )


@pytest.mark.parametrize(
    ("view", "state", "words"),
    [
        (View(snapshot()), "live", "Events from 09:58:30 to 09:59:55. Read at 10:00:00."),
        (View(snapshot(last=NOW - 7_200_000, batch=NOW - 60_000)), "quiet", "The last event came 2 h ago."),
        (View(snapshot(last=NOW - 7_200_000)), "live", "catching up with older events"),
        (View(snapshot(last=NOW * 1_000, batch=NOW - 60_000)), "quiet", "The last event is dated ahead"),
        (View(snapshot(last=NOW * 1_000)), "live", "to 31 Dec 9999 00:00:00"),
        (View(snapshot(), Fault(NOW - 8_000, "no answer", False)), "away", "Elasticsearch is away since 09:59:52"),
        (View(None, Fault(NOW, "no answer", False)), "away", "Elasticsearch is away"),
        (View(None, Fault(NOW, "no answer", True)), "away", "Elasticsearch refuses to answer since 10:00:00"),
    ],
)
def test_status_says_of_which_time_the_figures_are(view, state, words):
    """The status has the time range of the figures, and whether newer figures are missing."""
    html = markup.status(view, timezone.utc, NOW)

    assert f'data-state="{state}"' in html
    assert words in Text(html).text
    assert ("no answer" in html) == (state == "away")


def test_made_up_events_are_named_as_such():
    """Only synthetic events are labelled as such."""
    shown = [Text(markup.status(View(snapshot(synthetic=flag)), timezone.utc, NOW)).values for flag in (True, False)]

    assert ["synthetic" in values for values in shown] == [True, False]


def test_key_figures_carry_the_exact_numbers():
    """Key figures have rounded texts, and exact numbers as attributes."""
    shown = snapshot()
    text = Text(key_figures.html(key_figures.of_page(shown, shown.models, {"lr": "blue"})))

    assert {key: float(value) for key, value in text.values.items() if value} == {
        "kpi-events": 6,
        "kpi-rate": 12.4,
        "kpi-lag": 17,
        "kpi-rejected": 2,
        "kpi-accuracy-lr": 2 / 3,
    }
    assert "33.33% of the events" in text.text
    assert "66.67%baseline 66.67%" in text.text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0"), (0.2, "0.2"), (0.049, "0.049"), (3.42, "3.4"), (12.4, "12"), (12_345.6, "12,346")],
)
def test_slow_stream_has_a_rate(per_second, text):
    """Only a stopped stream has the rate 0."""
    assert markup.rate(per_second) == text


def test_unknown_is_a_dash():
    """Unknown values are dashes."""
    nothing = ModelFigures("lr", EMPTY)

    assert markup.percent(nothing.accuracy) == "–"
    assert "No event with a label" in markup.confusion(nothing)


def counted(confusion):
    """Return a model with the given outcomes."""
    return ModelFigures("lr", Statistic(None, sum(confusion.values()), confusion=confusion))


def test_labels_that_are_no_classes_are_counted_together():
    """Labels that are not classes share one row, so that the table stays small."""
    labels = {(number + 0.5, 0.0): 1 for number in range(1_500)}
    text = Text(markup.confusion(counted({**labels, (7.0, 7.0): 60, (0.0, 0.0): 40})))

    assert len(text.values) == 20 * 20
    assert {cell: value for cell, value in text.values.items() if cell.startswith(("lr-other", "lr-7-"))} == {
        **{cell: "0" for cell in text.values if cell.startswith(("lr-other", "lr-7-"))},
        "lr-other-0": str(1_500 - 17),
        "lr-7-7": "60",
    }
    assert "label other" in text.text


def test_confusion_has_a_row_per_label_and_a_column_per_prediction():
    """Classes without labels or predictions have zeros; shares are relative to the row."""
    text = Text(markup.confusion(counted({(0.0, 0.0): 6, (0.0, 2.0): 2})))

    assert text.values == {"lr-0-0": "6", "lr-0-2": "2", "lr-2-0": "0", "lr-2-2": "0"}
    assert "label 0675.0%225.0%" in text.text


def test_change_of_version_is_marked():
    """A change of version is shown with its time in the viewer's zone."""
    shown = snapshot()
    text = Text(markup.versions(shown, ["lr"], {"lr": "blue"}, ZoneInfo("Europe/Berlin")))

    assert "lr310:59:10 changed11:00:00" in text.text
    assert text.text.count("changed") == 1


def test_refused_version_is_shown_with_its_reason():
    """Refused versions are shown with their reasons, beside the serving ones."""
    refused = ("lr:4: it has another number of features",)
    text = Text(markup.versions(snapshot(refused=refused), ["lr"], {"lr": "blue"}, timezone.utc))

    assert "lr:4: it has another number of features" in text.text
    assert "refused" in text.values
    assert "refused" not in Text(markup.versions(snapshot(), ["lr"], {"lr": "blue"}, timezone.utc)).values
    nothing_scored = Text(markup.versions(snapshot(refused=refused), [], {}, timezone.utc))
    assert "No event was scored." in nothing_scored.text
    assert "refused" in nothing_scored.values


def test_moment_beyond_python_s_time_is_told_in_every_zone():
    """Times beyond Python's latest date are shown as the last day, in every time zone."""
    for zone, shown in (("Pacific/Kiritimati", "31 Dec 9999 14:00:00"), ("Pacific/Pago_Pago", "30 Dec 9999 13:00:00")):
        assert markup.clock(NOW * 1_000, ZoneInfo(zone), NOW) == shown


def test_yesterday_has_its_date():
    """A time of another day has its date."""
    assert markup.clock(NOW - 86_400_000, timezone.utc, NOW) == "23 Nov 2026 10:00:00"


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(900, "just now"), (59_999, "59 s ago"), (60_000, "1 min ago"), (7_200_000, "2 h ago"), (172_800_000, "2 d ago")],
)
def test_ago(milliseconds, words):
    """An age is one number and its unit."""
    assert markup.ago(milliseconds) == words


def rows_of(shown, name="lr"):
    """Return the text of each row of the table of figures, by the suffix of its key."""
    html = str(markup.table(name, shown))
    rows = re.findall(r'data-testid="figure-[^"]*?-(\w+)".*?>(.*?)</tr>', html, re.DOTALL)
    return {key: Text(text).text for key, text in rows}


def of_events(count, right, seed=0, shift=0.0):
    """Return a snapshot of a model with a number of right predictions, and probabilities of 0.3 and 0.6."""
    labels = np.arange(count) % 4 == 0
    scores = np.where(labels == (np.arange(count) < right), 0.6, 0.3) + shift
    statistic = of_rows(labels.astype(float), (scores > 0.5).astype(float), scores, "probability")
    return replace(snapshot(), buckets=(Bucket(NOW - 90_000, (Tally("lr", "3", statistic),)),), min_labelled=20)


def test_table_has_every_figure_with_its_interval_and_bound():
    """The table has rounded figures with intervals and bounds, and verdicts only if the interval allows them."""
    rows = rows_of(of_events(4_000, 3_600))

    assert rows["accuracy"] == "accuracy90.00%89.03 – 90.89 above the baseline"
    assert re.fullmatch(r"RIG-?0\.\d{4}-?0\.\d{4} – -?0\.\d{4} better than the rate alone", rows["rig"])
    assert re.fullmatch(r"log loss0\.\d{4}", rows["log_loss"])
    auc = r"ROC AUC0\.\d{4}0\.\d{4} – 0\.\d{4}, bins ± 0\.\d{4} uncertain"
    assert re.fullmatch(auc, rows["auc"])
    assert rows["calibration_ratio"].endswith("predicts too many")


def test_few_events_are_called_uncertain_and_fewer_have_no_figures():
    """Few events give uncertain figures, and fewer give none."""
    assert rows_of(of_events(36, 29))["accuracy"].endswith("uncertain")
    assert "baseline" not in rows_of(of_events(36, 29))["accuracy"]
    assert set(rows_of(of_events(19, 15)).values()) == {
        f"{name}–" for name in ("accuracy", "RIG", "log loss", "ROC AUC", "calibration ratio")
    }
    assert "19 events with a label: too few" in Text(markup.table("lr", of_events(19, 15))).text


def test_each_version_has_figures_of_its_own():
    """Each version has its figures, the latest first; the number of omitted versions is shown."""
    parts = [Tally("lr", str(number), Statistic(None, 30, confusion={(0.0, 0.0): 30})) for number in range(1, 6)]
    buckets = tuple(Bucket(NOW - 90_000 + 1_000 * at, (part,)) for at, part in enumerate(parts))
    text = Text(markup.table("lr", replace(snapshot(), buckets=buckets))).text

    assert re.findall(r"version (\d)", text) == ["5", "4", "3"]
    assert "Not shown: 2 earlier versions" in text


def test_points_above_the_baseline_have_a_colour_only_where_they_are_clear():
    """The points above the baseline are coloured only if the whole interval lies on one side."""
    unclear, clear = of_events(36, 29), of_events(4_000, 3_600)
    html = [str(key_figures.html(key_figures.of_models(shown.models, {"lr": "blue"}))) for shown in (unclear, clear)]

    assert ["ss-above" in each for each in html] == [False, True]


def two_versions(shown, name):
    """Return a snapshot with two versions of the model."""
    (bucket,) = shown.buckets
    return replace(shown, buckets=(Bucket(0, (replace(bucket.tallies[0], version=f"{name} too"),)), bucket))


HOSTILE = [EVIL, '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</style></table>&lt;"]


def hostile_parts(evil):
    """Return every part with an untrusted text, which is ``evil``, by the kind of text."""
    shown, dots = snapshot(model=evil, version=evil, reason=evil, refused=(evil,)), {evil: "blue"}
    (model,) = shown.models
    settings = config.load().elasticsearch.model_copy(update={"url": evil, "index": evil})
    return {
        "reason of a fault": markup.status(View(shown, Fault(NOW, evil, False)), timezone.utc, NOW),
        "model in the key figures": key_figures.html(key_figures.of_page(shown, [model], dots)),
        "model and version in a heading": markup.heading(evil, evil, "blue"),
        "model beside the donut": markup.outcomes(model),
        "model in the confusion table": markup.confusion(model),
        "model and version in the table of figures": markup.table(evil, two_versions(shown, evil)),
        "model that the reliability diagram leaves out": markup.uncalibrated([evil]),
        "name of a figure without a chart": markup.no_line(evil, 1),
        "reason of a rejected message": markup.reasons(shown.rejected),
        "model, version and refusal": markup.versions(shown, [evil], dots, timezone.utc),
        "index and address in the next steps": markup.next_steps(settings),
        "index and address of the origin": markup.origin(settings, shown),
    }


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize("part", hostile_parts(""))
def test_nothing_from_outside_becomes_markup(part, evil):
    """Untrusted names, versions, reasons and faults are escaped."""
    html, harmless = Text(hostile_parts(evil)[part]), Text(hostile_parts("harmless")[part])

    assert html.tags == harmless.tags
    assert html.names == harmless.names
    assert html.text + "".join(map(str, html.all_values)) == "".join(
        [harmless.text, *map(str, harmless.all_values)]
    ).replace("harmless", evil)


def test_next_steps_are_commands_that_exist():
    """The commands on the empty page exist."""
    from streamscore.cli import app

    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    named = re.findall(r"<code>streamscore (\w+)", markup.next_steps(config.load().elasticsearch))

    assert len(named) == 5
    assert set(named) <= verbs


def test_every_colour_of_the_rules_is_defined():
    """Every colour variable is defined for light and dark backgrounds."""
    css = palette.stylesheet()
    used = set(re.findall(r"var\(--([\w-]+)\)", css)) - {"dot", "tone", "hue", "share"}

    assert used <= set(re.findall(r"--([\w-]+):light-dark\(", css))


def test_status_says_how_much_is_in_no_figure_yet():
    """A viewer must not take the hatched part for a part of the totals."""
    shown = replace(snapshot(last=NOW), attribution=Attribution(3_600_000, 0.9))
    html = markup.status(View(shown), timezone.utc, NOW)

    assert "in no figure yet: 1.0 s of events, of which fewer than 90% have a label by now" in Text(html).text
    assert "awaited" not in Text(markup.status(View(snapshot(last=NOW)), timezone.utc, NOW)).values


def test_coverage_is_shown_where_labels_come_late():
    """With how long they take; streams whose labels come with the events have no such figure."""
    late = replace(snapshot(), lags={50: 90_000.0, 90: 7_200_000.0, 99: None})
    text = Text(key_figures.html(key_figures.of_labels(late)))

    assert float(text.values["kpi-coverage"]) == 0.75
    assert "labels take p50 1.5 min, p90 2.0 h" in text.text
    assert key_figures.of_labels(replace(snapshot(), lags={50: None})) == []
