"""The script of the live page, run by Streamlit in the test's process, on a real Elasticsearch."""

import json
import re
import sys
import time

import pyarrow as pa
import pytest
from browsing import counted
from jobs import written

pytest.importorskip("streamlit")


@pytest.fixture
def visit(monkeypatch, tmp_path):
    """Return a function that runs the page of a configuration for a viewer with a theme and a time zone."""
    from streamlit.testing.v1 import AppTest

    from streamscore.dashboard import app, page

    def run(config, theme="light", zone="Europe/Berlin"):
        file = tmp_path / f"page-{len(list(tmp_path.iterdir()))}.yml"  # pages of one file share a reader
        file.write_text(written(config))
        monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(file)])
        visited = AppTest.from_file(app.__file__, default_timeout=60)
        visited.context = {"theme": theme, "timezone": zone}
        visited.run()
        assert not visited.exception
        return visited

    yield run
    page._prepare.clear()


def html(page):
    """Return all HTML of the page."""
    return "\n".join(element.proto.body for element in page.get("html"))


def shown(page, pattern):
    """Return every figure whose key matches a pattern."""
    pairs = re.findall(r'data-testid="([^"]+)" data-value="([^"]+)"', html(page))
    return {key: float(number) for key, number in pairs if re.fullmatch(pattern, key)}


def charts(page):
    """Return the charts of the page, each as its specification and its data sets as rows."""
    found = []
    for element in page.get("vega_lite_chart"):
        tables = [pa.ipc.open_stream(one.data.data).read_all().to_pylist() for one in element.proto.datasets]
        found.append((json.loads(element.proto.spec), tables))
    return found


def kinds(chart):
    """Return the kinds of marks that a chart draws."""
    return {layer["mark"]["type"] for layer in chart["layer"]}


def test_numbers_and_rings_are_those_of_the_documents(own, fill, visit, documents):
    """Figures and slices of the rings equal counts of the documents; the dark page has other colours."""
    config = own("dashboard.min_labelled=1", "dashboard.title='# Clicks'")
    fill(config, events=3_000, seconds=100)
    page, dark = visit(config), visit(config, "dark")
    found = counted(documents, config)
    rings = {"light": charts(page)[:2], "dark": charts(dark)[:2]}

    assert [element.value for element in page.markdown] == ["# Clicks"]
    assert shown(page, r"(lr|svm)-.*") == found
    assert shown(page, "kpi-events") == {"kpi-events": 3_000}
    for drawn in rings.values():
        assert [kinds(chart) for chart, _ in drawn] == [{"arc", "text"}] * 2
        for model, (_, tables) in zip(("lr", "svm"), drawn, strict=True):
            slices = next(table for table in tables if "events" in table[0])
            assert {part["outcome"]: part["events"] for part in slices} == {
                outcome: found[f"{model}-{outcome}"] for outcome in ("correct", "incorrect", "unlabelled")
            }
    assert rings["light"][0][0] != rings["dark"][0][0]


def test_chart_shows_the_picked_figure_of_the_picked_models(own, fill, visit):
    """The accuracy has a band, a baseline and marks for new versions; the log loss has neither band nor baseline."""
    config = own("dashboard.min_labelled=1")
    fill(config, events=3_000, seconds=100)
    page = visit(config)
    accuracy, tables = charts(page)[-1]
    lines = next(table for table in tables if "line" in table[0])

    assert kinds(accuracy) == {"line", "point", "area", "rule", "text"}
    assert {"lr", "svm"} < {point["line"] for point in lines}
    assert "lr → 2" in {row["change"] for table in tables for row in table if "change" in row}

    page.segmented_control(key="figure").set_value("log_loss").run()
    loss, tables = charts(page)[-1]
    assert kinds(loss) == {"line", "point", "rule", "text"}
    assert {row["line"] for table in tables for row in table if "line" in row} == {"lr", "svm"}

    page.multiselect(key="models").set_value(["svm"]).run()
    assert not page.exception
    assert len(charts(page)) == 1  # the ring: margins have no log loss
    assert "No log loss to draw" in html(page)
    assert shown(page, "lr-.*") == {}
    assert shown(page, "svm-scored") != {}


def test_times_are_those_of_the_viewer(own, fill, visit):
    """The page shows local times, and UTC if the browser's zone is unknown."""
    config = own()
    fill(config, end=1_750_000_000_000)  # 15:06:40 UTC

    assert "17:06:4" in html(visit(config, zone="Europe/Berlin"))
    assert "15:06:4" in html(visit(config, zone="Mars/Olympus"))


def test_empty_index_and_empty_range_have_no_charts(own, fill, visit):
    """Before the first event the page says how to go on; a range without events can be changed for a longer one."""
    config = own("dashboard.time_range=5m")
    assert 'data-testid="next-steps"' in html(visit(config))

    fill(config, end=round(time.time() * 1_000) - 3_600_000)
    page = visit(config)
    assert 'data-testid="nothing-in-range"' in html(page)
    assert charts(page) == []

    page.segmented_control(key="time_range").set_value("all").run()
    assert shown(page, "kpi-events") == {"kpi-events": 1_000}


def test_server_that_does_not_answer_is_named(own, visit):
    """The page shows the fault in place of figures."""
    page = visit(own("elasticsearch.url=http://127.0.0.1:1"))

    assert 'data-state="away"' in html(page)
    assert "no Elasticsearch answers at http://127.0.0.1:1" in html(page)
