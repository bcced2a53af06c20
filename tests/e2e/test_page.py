"""The live page in a real browser, while the stream runs and while Elasticsearch is down."""

import contextlib
import json
import os
import re
import shutil
import socket
import time
from collections import Counter

import pytest
from browsing import counted, is_far, lines, marks, shown, value, wait_for

from streamscore import seed_topic
from streamscore.clients import elasticsearch
from streamscore.dashboard import server
from streamscore.local import elasticsearch as local_elasticsearch
from streamscore.local import process, stack
from streamscore.local.ports import free_port

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
IN_CI = os.environ.get("CI") == "true"
DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}
NOISE = {"error", "warning"}


def needs(here, what):
    """Skip the test if an optional program is missing, but never in CI."""
    if not here:
        assert not IN_CI, f"{what} is missing"
        pytest.skip(f"{what} is missing")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    needs(CHROMIUM, "the browser chromium")
    needs(server.installed(), f"the extra of the page ({server.INSTALL})")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def serve(job, as_file):
    """Return a function that serves the page of a configuration and returns its address."""

    def start(config) -> str:
        config = config.model_copy(update={"dashboard": config.dashboard.model_copy(update={"port": free_port()})})
        job(["streamscore", "dashboard", "--config", as_file(config, f"page-{config.dashboard.port}.yml")])
        address, deadline = server.address(config), time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", config.dashboard.port)):
                return address
            assert time.monotonic() < deadline
            time.sleep(0.1)

    return start


@pytest.fixture
def visit(browser):
    """Return a function that opens an address; no page may log an error or make a remote request."""
    contexts, faults = [], []

    def go(address, scheme="light", viewport=None):
        context = browser.new_context(color_scheme=scheme, viewport=viewport or DESKTOP, timezone_id="Europe/Berlin")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: faults.append(message.text) if message.type in NOISE else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if is_far(request.url, address) else None)
        page.goto(address)
        page.get_by_test_id("status").wait_for()
        return page

    yield go
    for context in contexts:
        context.close()
    assert faults == []


def test_every_number_is_that_of_the_documents(own, fill, serve, visit, documents):
    """Each number equals a count of the documents."""
    config = own()
    fill(config, events=3_000, seconds=100, end=round(time.time() * 1_000) + 40_000)  # keeps the rate constant
    page = visit(serve(config))
    page.get_by_test_id("versions").wait_for()
    found = counted(documents, config)
    events = {document["event_id"] for document in documents(config).values()}
    reasons = Counter(
        document["reason"] for document in documents(config, config.elasticsearch.rejected_index).values()
    )

    assert shown(page, r"(lr|svm)-.*") == found
    assert shown(page, "reason-.*") == {f"reason-{reason}": number for reason, number in reasons.items()}
    assert value(page, "kpi-events") == len(events) + reasons.total() == 3_000
    assert value(page, "kpi-rejected") == reasons.total()
    assert value(page, "kpi-lag") == 1_001
    assert value(page, "kpi-rate") == pytest.approx(30, rel=0.05)
    for model in ("lr", "svm"):
        right, wrong = found[f"{model}-correct"], found[f"{model}-incorrect"]
        accuracy = right / (right + wrong)

        assert value(page, f"kpi-accuracy-{model}") == accuracy
        assert f"{accuracy:.2%}" in page.get_by_test_id(f"kpi-accuracy-{model}").inner_text()
        assert f"{accuracy:.1%}" in page.locator(f".st-key-ring_{model}").inner_text()
        assert page.locator(f".st-key-ring_{model} svg .mark-arc path").count() == 3


def test_page_says_what_it_shows(own, fill, serve, visit):
    """It shows the title, the time range in the viewer's zone, whether data are synthetic, and changes of version."""
    config = own("dashboard.title='# Clicks of *today*'", "dashboard.min_labelled=1")
    end = round(time.time() * 1_000)
    fill(config, seconds=60, end=end)
    page = visit(serve(config))
    page.get_by_test_id("versions").wait_for()
    status = page.get_by_test_id("status")

    assert page.locator("h1 em").inner_text() == "today"
    assert status.get_attribute("data-state") == "live"
    assert re.search(r"Events from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d\. Read at \d\d:\d\d:\d\d\.", status.inner_text())
    assert page.get_by_test_id("synthetic").inner_text() == "synthetic data"
    assert page.get_by_test_id("version-lr").inner_text() == "version 2"
    assert "changed" in page.get_by_test_id("served-lr-2").inner_text()
    wait_for(lambda: "lr → 2" in page.locator(".st-key-card_over_time").inner_text())  # the chart is drawn later
    wait_for(lambda: status.get_attribute("data-state") == "quiet", 60)


def test_real_data_are_not_called_synthetic(own, fill, serve, visit):
    """The label follows the flag of the status index."""
    config = own()
    fill(config, synthetic=False)
    page = visit(serve(config))
    page.get_by_test_id("kpis").wait_for()

    assert page.get_by_test_id("synthetic").count() == 0


def test_few_labels_are_not_drawn(own, fill, serve, visit):
    """A point of only a few labelled events would be misleading."""
    config = own("dashboard.min_labelled=500")
    fill(config)
    page = visit(serve(config))

    assert "stands for at least 500" in page.get_by_test_id("no-line").inner_text()


def test_charts_move_in_place_while_documents_come_in(own, fill, serve, visit):
    """The charts update within seconds without a redraw, so nothing flickers."""
    config = own("dashboard.min_labelled=1")
    # From the start of a bucket on, because a bucket with an event or two would stretch the axis.
    fill(config, events=3_000, seconds=90, end=(int(time.time()) // 10 * 10 - 10) * 1_000)
    page = visit(serve(config))
    page.get_by_test_id("versions").wait_for()
    wait_for(lambda: len(lines(page)) == 3)
    time.sleep(3)  # let the first drawing settle
    page.evaluate(
        """() => {
            window.drawings = [...document.querySelectorAll('[data-testid=stVegaLiteChart] svg')];
            window.dimmed = 0;
            const look = () => {
                for (const one of document.querySelectorAll('[data-testid=stElementContainer]'))
                    if (getComputedStyle(one).opacity !== '1') window.dimmed += 1;
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    before, donut = lines(page), page.locator(".st-key-ring_lr svg .mark-arc").inner_html()
    axis = marks(page)
    fill(config, events=20, seconds=10, first=3_000)  # few per second, so that accuracy and axis jump
    wait_for(lambda: value(page, "kpi-events") == 3_020)

    wait_for(lambda: lines(page) != before)
    wait_for(lambda: page.locator(".st-key-ring_lr svg .mark-arc").inner_html() != donut)
    time.sleep(3)
    assert marks(page) != axis
    assert page.evaluate("window.drawings.map(one => one.isConnected)") == [True] * 3
    assert page.evaluate("window.dimmed") == 0


def test_elasticsearch_goes_and_comes_back(servers, own, fill, serve, visit):
    """The last figures stay, with the time of the outage; afterwards the page updates again by itself."""
    config = own()
    fill(config)
    page = visit(serve(config))
    page.get_by_test_id("kpis").wait_for()
    status = page.get_by_test_id("status")
    (running,) = (one for one in stack.running(servers) if one.name == local_elasticsearch.NAME)
    process.stop(running)
    try:
        wait_for(lambda: status.get_attribute("data-state") == "away")
        time.sleep(3)

        assert re.search(r"Elasticsearch is away since \d\d:\d\d:\d\d", status.inner_text())
        assert f"no Elasticsearch answers at {config.elasticsearch.url}" in page.get_by_test_id("fault").inner_text()
        assert value(page, "kpi-events") == 1_000
    finally:
        stack.up(servers)
    wait_for(lambda: status.get_attribute("data-state") in {"live", "quiet"})
    fill(config, events=500, first=1_000)
    wait_for(lambda: value(page, "kpi-events") == 1_500)

    assert page.get_by_test_id("fault").count() == 0


def test_elasticsearch_that_never_answered_is_waited_for(own, serve, visit):
    """A page that was opened too early says that it waits."""
    page = visit(serve(own("elasticsearch.url=http://127.0.0.1:1")))

    assert page.get_by_test_id("status").get_attribute("data-state") == "away"
    assert "is it running?" in page.get_by_test_id("fault").inner_text()


def test_empty_index_shows_what_to_do_next(own, fill, serve, visit):
    """The page shows instructions for an empty or missing index, and fills by itself."""
    config = own()
    page = visit(serve(config))
    steps = page.get_by_test_id("next-steps")

    assert "No event has been scored yet" in steps.inner_text()
    assert "streamscore score" in steps.inner_text()

    elasticsearch.ensure(config.elasticsearch)
    time.sleep(3)

    assert steps.is_visible()

    fill(config)
    page.get_by_test_id("kpi-events").wait_for()

    assert steps.count() == 0


def test_every_figure_has_its_interval_and_a_chart(own, fill, serve, visit):
    """Each model's table has the intervals; the chart over time shows the selected figure with a band."""
    config = own("dashboard.min_labelled=1")
    fill(config, events=3_000, seconds=100)
    page = visit(serve(config))
    page.get_by_test_id("versions").wait_for()
    cell = page.get_by_test_id("figure-lr-2-auc")

    assert value(page, "figure-lr-2-rig") < 0  # the made-up scores are in order, but no probabilities
    assert value(page, "figure-lr-1-auc") != value(page, "figure-lr-2-auc") == pytest.approx(0.8, abs=0.1)
    assert re.search(r"0\.\d{4}\s+0\.\d{4} – 0\.\d{4}, bins ± 0\.\d{4}", cell.inner_text())
    assert "its scores are margins" in page.get_by_test_id("figure-svm-1-log_loss").inner_text()
    assert page.locator(".st-key-card_roc img.ss-plot").is_visible()
    assert page.locator(".st-key-card_calibration img.ss-plot").is_visible()
    assert "svm (margins)" in page.get_by_test_id("uncalibrated").inner_text()

    bands = page.locator(".st-key-card_over_time svg .mark-area path")
    wait_for(lambda: bands.count() > 0 and marks(page))
    page.get_by_role("radio", name="log loss", exact=True).click()
    wait_for(lambda: bands.count() == 0 and lines(page))  # it has no interval
    wait_for(lambda: not marks(page))  # and is no percentage


def test_time_range_and_models_can_be_picked(own, fill, serve, visit, documents):
    """A selection survives a refresh; one model's figures do not depend on the other's selection."""
    config = own()
    fill(config, events=3_000, seconds=1_200)
    page = visit(serve(config))
    page.get_by_test_id("versions").wait_for()
    everything = counted(documents, config)
    page.get_by_role("radio", name="5m", exact=True).click()
    wait_for(lambda: 0 < value(page, "kpi-events") < 800)  # the number shrinks with time
    page.get_by_role("radio", name="all", exact=True).click()
    wait_for(lambda: value(page, "kpi-events") == 3_000)
    page.get_by_role("combobox", name="Models").click()
    page.get_by_role("option", name="svm").click()
    page.keyboard.press("Escape")
    page.get_by_test_id("model-lr").wait_for(state="detached")
    time.sleep(5)

    assert page.get_by_test_id("model-lr").count() == 0
    assert shown(page, "svm-.*") == {key: number for key, number in everything.items() if key.startswith("svm")}
    assert shown(page, "(kpi-accuracy|served)-lr.*") == {}


def test_third_model_appears_and_the_pick_stays(own, fill, serve, visit, documents):
    """The page shows any number of models; a new model appears unless some were selected."""
    config = own()
    fill(config, end=round(time.time() * 1_000) - 30_000)
    address = serve(config)
    page, picky = visit(address), visit(address)
    picky.get_by_test_id("model-lr").wait_for()
    picky.get_by_role("combobox", name="Models").click()
    picky.get_by_role("option", name="lr").click()
    picky.keyboard.press("Escape")
    picky.get_by_test_id("model-svm").wait_for(state="detached")
    fill(config, events=600, seconds=20, first=1_000, models=("lr", "svm", "gbt"))
    page.get_by_test_id("model-gbt").wait_for()
    wait_for(lambda: shown(page, "(lr|svm|gbt)-.*") == counted(documents, config))

    assert value(page, "kpi-events") == 1_600
    wait_for(lambda: value(picky, "kpi-events") == 1_600)
    assert picky.get_by_test_id("model-lr").is_visible()
    assert picky.get_by_test_id("model-gbt").count() == 0


def test_time_range_without_events_says_so(own, fill, serve, visit):
    """The message differs from that of an empty index."""
    config = own("dashboard.time_range=5m")
    fill(config, end=round(time.time() * 1_000) - 3_600_000)
    page = visit(serve(config))

    assert "Choose a longer time range." in page.get_by_test_id("nothing-in-range").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_page_is_readable(own, fill, serve, visit, scheme, viewport):
    """In light and dark, on large and small screens, contrast suffices and nothing is cut off or overflows."""
    config = own("dashboard.min_labelled=1")
    fill(config, models=("lr", "svm", "gbt"))
    page = visit(serve(config), scheme, viewport)
    page.get_by_test_id("versions").wait_for()
    time.sleep(2)
    text, back = (
        sum(int(part) for part in re.findall(r"\d+", page.evaluate(script))[:3])
        for script in (
            "getComputedStyle(document.querySelector('[data-testid=kpi-events]')).color",
            "getComputedStyle(document.querySelector('.stApp')).backgroundColor",
        )
    )
    overflowing = page.evaluate(
        """() => [...document.querySelectorAll('.ss td, .ss-kpi-value, .ss-heading, .st-key-controls *')]
            .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map(one => one.outerHTML.slice(0, 90))"""
    )

    assert (text < back) == (scheme == "light")
    assert abs(text - back) > 500
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert overflowing == []


def test_real_stream_moves_the_page_and_a_third_model_comes_by_configuration(
    own, trained, spark, serve, visit, job, as_file, documents
):
    """From topic over job and index to browser, every number finally equals that of the documents."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "stream.synthetic=true", "seed.limit=3000")
    seed_topic.check(config)
    seed_topic.run(spark, config)
    page = visit(serve(config))
    page.get_by_test_id("next-steps").wait_for()
    scorer = job(
        ["streamscore", "score", "--config", as_file(config), "--set", "stream.max_events_per_batch=400"],
    )
    page.get_by_test_id("kpi-events").wait_for(timeout=120_000)
    seen = set()
    wait_for(lambda: seen.add(value(page, "kpi-events")) or 3_000 in seen, 120)
    scorer.process.terminate()

    assert scorer.wait() == 0, scorer.output
    assert len(seen) > 1
    wait_for(lambda: shown(page, "(lr|svm)-.*") == counted(documents, config))

    models = [{"name": model.name, "uri": model.uri} for model in config.models]
    models.append({"name": "twin", "uri": config.models[0].uri})
    again = own(f"seed.source={figures['test_set']}", "seed.limit=1000", f"models={json.dumps(models)}")
    seed_topic.run(spark, again)
    scorer = job(["streamscore", "score", "--available-now", "--config", as_file(again, "again.yml")])

    assert scorer.wait() == 0, scorer.output
    page.get_by_test_id("model-twin").wait_for()
    wait_for(lambda: shown(page, "(lr|svm|twin)-.*") == counted(documents, config))
    assert value(page, "kpi-events") == 4_000
    assert value(page, "twin-scored") == 1_000
