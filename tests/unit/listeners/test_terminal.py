"""The table of a running job on a real pseudo-terminal, and what stands in its place without one."""

import io
import sys
import time

import pytest

from streamscore.listeners.stretch import StretchProgress
from streamscore.listeners.terminal import LogLines, Terminal, print_summary
from streamscore.listeners.totals import Totals
from streamscore.scoring.served import ServedModel
from streamscore.system.console import terminal


@pytest.fixture
def totals():
    """Totals of one model before the first batch."""
    return Totals([ServedModel("lr", "3", None, 2)], synthetic=False)


@pytest.fixture(params=["score", "replay"])
def table(request, screen, totals):
    """The live table of a job."""
    if request.param == "replay":
        return StretchProgress(totals, 2_000, 10.0)
    return Terminal(totals, terminal())


def test_table_follows_the_totals(table, totals, screen):
    """The table is drawn at the start and after each batch."""
    table.open()
    screen.wait_for("lr 3")
    totals.events, totals.lag = 1_500, 500
    table.refresh()

    assert "1,500 events" in screen.wait_for("(75%)" if isinstance(table, StretchProgress) else "lr 3")
    table.close()


def test_job_goes_on_if_its_terminal_closes(table, totals, screen):
    """A closed window ends neither a batch nor the job."""
    table.open()
    screen.close()
    totals.events = 1_500

    table.refresh()
    table.close()


def test_terminal_that_closes_before_the_table_is_drawn(table, screen):
    """The job starts all the same."""
    screen.close()

    table.open()
    table.refresh()
    table.close()


@pytest.mark.parametrize("job", ["score", "replay"])
def test_log_has_lines_at_the_interval(job, monkeypatch, totals, lines):
    """Without a terminal the totals are logged, but no more often than the interval says."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    listener = StretchProgress(totals, 2_000, 10.0) if job == "replay" else LogLines(totals, 10.0)
    listener.open()
    totals.events, totals.lag = 1_500, 500
    for seconds in (4, 5, 2, 0):
        clock[0] += seconds
        listener.refresh()
    listener.close()
    expected = ["1,500 of 2,000 records (75%), 4 s left"] if job == "replay" else totals.lines()

    assert lines() == expected


def test_summary_is_on_the_terminal_and_in_the_log(screen, totals, lines):
    """The table stays on the terminal, and the log has the summary, also if the terminal has closed."""
    totals.events = 1_500
    print_summary(totals)
    screen.wait_for("1,500 events")
    screen.close()
    print_summary(totals)

    assert [line.split()[:3] for line in lines()] == [["summary:", "events", "1,500"], ["summary:", "lr", "3:"]] * 2
