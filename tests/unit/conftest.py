"""Fixtures of the tests that need no server."""

import io
import logging
import signal
import sys

import pytest
from screen import Screen

from streamscore.system.console import TERMINAL_VARIABLE, log, terminal


@pytest.fixture
def screen(monkeypatch):
    """A terminal that the job finds as under spark-submit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it may become the terminal of the tests, and it closes
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv(TERMINAL_VARIABLE, screen.device)
    terminal.cache_clear()
    yield screen
    terminal.cache_clear()
    screen.close()
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def lines(caplog):
    """Return a function that returns the logged lines."""
    log.propagate = True
    caplog.set_level(logging.INFO, log.name)
    return lambda: caplog.messages
