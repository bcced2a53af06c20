"""The report and its file."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from streamscore import config
from streamscore.dashboard import report
from streamscore.dashboard.batches import BatchReport, StreamReport, Throughput, Version
from streamscore.dashboard.buckets import Bucket, Tally
from streamscore.dashboard.figures import Snapshot
from streamscore.errors import ConfigError
from streamscore.quality.attribution import Attribution
from streamscore.quality.statistic import of_rows
from streamscore.quality.windows import Period, Window

START = 1_795_514_400_000  # 2026-11-24 10:00:00 UTC
CONFIG = config.load("local", ["dashboard.min_labelled=1"])


def snapshot(
    models=("lr", "svm"),
    seconds=3,
    synthetic=True,
    versions=("1", "1"),
    rejected=None,
    refused=(),
    kinds=("probability", "margin"),
    min_labelled=1,
):
    """Return a snapshot of a few seconds with ten events per second and model, eight of them right."""
    labels, predictions = [0.0] * 7 + [1.0] * 3, [0.0] * 5 + [1.0] * 5
    scores = [0.2, 0.1, 0.3, 0.15, 0.4, 0.6, 0.7, 0.55, 0.8, 0.9]
    tallies = tuple(
        Tally(model, versions[0], of_rows(labels, predictions, scores, kinds[min(at, len(kinds) - 1)]))
        for at, model in enumerate(models)
    )
    starts = [START + 1_000 * second for second in range(seconds)]
    return Snapshot(
        read_at=START + 60_000,
        period=Period(START, START + 1_000 * seconds),
        window=Window(START, 1_000, whole=True),
        batch_window=Window(START, 1_000, whole=False),
        buckets=tuple(Bucket(start, tallies) for start in starts),
        rejected=rejected or {"not_json": 2},
        stream=StreamReport((BatchReport(starts[-1], 1_000, 12, 0, refused=refused),), synthetic),
        versions=tuple(Version(model, versions[-1], START, starts[-1]) for model in models),
        throughput=tuple(Throughput(start, 12, 900) for start in starts),
        took=1,
        min_labelled=min_labelled,
    )


class Page(HTMLParser):
    """A parser that collects tags with attribute names, and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        """Collect a tag."""
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data):
        """Collect text."""
        self.text += data


def test_report_needs_nothing_but_itself():
    """The report has no script, fetches nothing, and is small enough for a mail."""
    html = report.compose(CONFIG, snapshot())

    assert not re.search(r"<script|<link|<img|<iframe|url\(|@import|\b(src|href)=", html)
    assert len(html) < 100_000


@pytest.mark.parametrize("models", [("lr",), ("lr", "svm"), tuple(f"m{number}" for number in range(9))])
def test_every_model_has_its_ring_and_its_tables(models):
    """Every model has its donut and its tables."""
    html = report.compose(CONFIG, snapshot(models))

    assert html.count("ss-donut") - html.count(".ss-donut") == len(models)
    for model in models:
        assert f'data-testid="{model}-correct" data-value="24"' in html
        assert f'data-testid="{model}-0-1" data-value="6"' in html


def test_curves_are_those_that_the_scores_allow():
    """Both models have ROC curves; the reliability diagram has the model with probabilities and names the other."""
    html = report.compose(CONFIG, snapshot())
    roc, calibration = (html[html.index(title) :].split("</section>")[0] for title in ("ROC: ", "Reliability: "))

    assert "lr: area 0.905" in roc
    assert "svm: area 0.905" in roc
    assert ">lr: calibration error" in calibration
    assert ">svm" not in calibration
    assert "Not in the reliability diagram: svm (margins)." in html


def test_without_probabilities_there_is_no_reliability_diagram():
    """Margins between 0 and 1 give no reliability diagram, and too few labels give no curve."""
    margins = report.compose(CONFIG, snapshot(kinds=("margin",)))
    few = report.compose(CONFIG, snapshot(min_labelled=31))

    assert "Reliability" not in margins
    assert margins.count(": area 0.905") == 2
    assert "ROC: " not in few


@pytest.mark.parametrize("title", ["Accuracy", "RIG", "Log loss", "ROC AUC", "Calibration ratio"])
def test_every_figure_has_a_chart_over_time(title):
    """Every figure has its chart over time."""
    html = report.compose(CONFIG, snapshot())

    assert f">{title} over time<" in html


def test_throughput_is_the_mean_over_the_batches():
    """The throughput is the events over the time from the first batch's start to the last one's end."""
    assert 'data-testid="kpi-rate" data-value="12.0"' in report.compose(CONFIG, snapshot())


def test_report_says_whether_its_events_were_made_up():
    """The label of synthetic events is at the top."""
    flags = [">synthetic data<" in report.compose(CONFIG, snapshot(synthetic=flag)) for flag in (True, False)]

    assert flags == [True, False]


def test_few_labels_are_not_drawn():
    """With few labels the number that a point needs replaces the line."""
    html = report.compose(CONFIG, snapshot(min_labelled=11))

    assert "stands for at least 11 of them" in html


def test_title_is_markdown_but_not_markup():
    """The title is rendered as Markdown, with HTML escaped."""
    titled = config.load("local", ["dashboard.title='# My *clicks* <script>'"])
    html = report.compose(titled, snapshot())

    assert "<h1>My <em>clicks</em> &lt;script&gt;</h1>" in html


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title></style>"])
def test_nothing_from_outside_becomes_markup(evil):
    """Untrusted names, versions and reasons are escaped, also in charts."""
    pages = []
    for name in (evil, "harmless"):
        shown = snapshot((name,), versions=(name, name), rejected={name: 2}, refused=(name,))
        settings = CONFIG.elasticsearch.model_copy(update={"quality_index": name, "url": name})
        page = Page(report.compose(CONFIG.model_copy(update={"elasticsearch": settings}), shown))
        pages.append((page.tags, page.text))
    (tags, text), (harmless_tags, harmless_text) = pages

    assert tags == harmless_tags
    assert text == harmless_text.replace("harmless", evil)
    assert text.count(evil) >= 8


def test_file_is_replaced_at_once(tmp_path):
    """The file is replaced atomically, and the folder has no other file."""
    out = tmp_path / "report.html"
    out.write_text("old")
    size = report._put(out, "new ✓")

    assert out.read_text(encoding="utf-8") == "new ✓"
    assert size == out.stat().st_size
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["report.html", "."])
def test_file_that_cannot_be_written_is_named(tmp_path, monkeypatch, name):
    """The error names a file whose path is a folder, and no partial file is left."""
    (tmp_path / "report.html").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=rf"--out {name}: cannot be written \(\w+"):
        report._put(Path(name), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_part_whose_labels_are_awaited_is_hatched():
    """The head says how much it is, and every chart over time has stripes there."""
    waits = replace(snapshot(seconds=40), attribution=Attribution(30_000, 1.0))
    waits = replace(
        waits, buckets=tuple(_without_labels(each) if each.start >= START + 35_000 else each for each in waits.buckets)
    )
    html = report.compose(CONFIG, waits)

    assert "in no figure yet: 5.0 s of events" in html
    assert html.count('class="ss-stripe"') == 4 * 4 * 5
    assert 'ss-stripe"' not in report.compose(CONFIG, snapshot())


def _without_labels(bucket):
    tallies = (replace(each, statistic=replace(each.statistic, confusion={}, labels={})) for each in bucket.tallies)
    return replace(bucket, tallies=tuple(tallies))
