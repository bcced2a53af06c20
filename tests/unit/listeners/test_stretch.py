"""The progress of a replay."""

import logging

import pytest

from streamscore.listeners.stretch import StretchProgress, duration
from streamscore.listeners.totals import Totals


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (3_540, "59 min"), (3_600, "1 h 0 min"), (11_100, "3 h 5 min")],
)
def test_duration(seconds, text):
    """Lengths of time are in words."""
    assert duration(seconds) == text


def test_share_and_time_left_follow_from_the_records(caplog):
    """The time left is that of the mean rate so far; it is left out before the first batch and at the end."""
    logging.getLogger("streamscore").propagate = True
    totals = Totals([], synthetic=False)
    progress = StretchProgress(totals, 2_000, 0.0)
    assert progress.text(10) == "0 of 2,000 records (0%)"
    totals.lag = 1_500
    assert progress.text(100) == "500 of 2,000 records (25%), 5 min left"
    with caplog.at_level(logging.INFO, "streamscore"):
        progress.refresh()
    assert "500 of 2,000 records (25%)" in caplog.text
    totals.lag = 0
    assert progress.text(400) == "2,000 of 2,000 records (100%)"
