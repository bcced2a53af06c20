"""Functions that read the live page in a browser, and the expected values."""

import re
import time
from collections import Counter


def is_far(url, address):
    """Return whether a request goes to another host than the page's."""
    return not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def value(page, key):
    """Return the exact number of a figure on the page."""
    return float(page.get_by_test_id(key).get_attribute("data-value"))


def wait_for(check, seconds=30.0):
    """Wait until a check holds, and return what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > deadline:
            assert found
            return found
        time.sleep(0.2)


def shown(page, pattern):
    """Return every figure whose key matches a pattern, as whole numbers."""
    keys = page.locator("[data-testid][data-value]").evaluate_all(
        "all => all.map(one => [one.dataset.testid, Number(one.dataset.value)])"
    )
    return {key: number for key, number in keys if re.fullmatch(pattern, key)}


def counted(documents, config):
    """Return counts of the documents, under the page's keys."""
    found = Counter()
    for document in documents(config).values():
        model, label = document["model"], document.get("label")
        found[f"{model}-scored"] += 1
        for outcome in ("correct", "incorrect", "unlabelled"):
            found[f"{model}-{outcome}"] += 0
        found[f"{model}-{ {1: 'correct', 0: 'incorrect', None: 'unlabelled'}[document.get('correct')] }"] += 1
        if label is not None:
            found[f"{model}-{label:g}-{document['prediction']:g}"] += 1
    return dict(found)


def lines(page):
    """Return the paths of the accuracy chart's lines."""
    return page.locator(".st-key-card_over_time svg .mark-line path").evaluate_all(
        "all => all.map(one => one.outerHTML)"
    )


def marks(page):
    """Return the ticks of the accuracy chart's percentage axis."""
    texts = page.locator(".st-key-card_over_time svg .role-axis-label text").all_text_contents()
    return [text for text in texts if text.endswith("%")]
