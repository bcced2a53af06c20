"""Failpoints: malformed settings are refused, so that a typo never kills a process."""

import os

import pytest

from streamscore.errors import ConfigError
from streamscore.system import failpoints

ACTIONS = ["kill-group", "kill-jvm", "kill-python", "raise", "sleep", "stop"]


@pytest.fixture
def arm(monkeypatch):
    """Return a function that arms a failpoint from a text; signals are recorded instead of sent."""
    sent = []
    monkeypatch.setenv("STREAMSCORE_TEST_FAULTS", "1")
    monkeypatch.setattr(os, "killpg", lambda _, number: sent.append(number))

    def arm(text):
        monkeypatch.setenv("STREAMSCORE_FAULT", text)
        failpoints.arm(1)
        failpoints.reach("entry")
        return sent

    yield arm
    assert sent == []
    monkeypatch.delenv("STREAMSCORE_FAULT")
    failpoints.arm(1)


def test_mistyped_action_is_refused_with_the_actions_that_exist(arm):
    """An unknown action is refused with the list of actions."""
    with pytest.raises(ConfigError, match=f"unknown action 'rise'; there are {', '.join(ACTIONS)}"):
        arm("entry:rise:1")


@pytest.mark.parametrize("text", ["entry", "entry:raise", "entry:raise:1:2", "entry:raise:x", "entry:raise:0", ""])
def test_text_of_another_form_is_refused_with_the_form(arm, text):
    """A malformed text is refused with the expected form."""
    with pytest.raises(ConfigError, match=f"STREAMSCORE_FAULT={text}: expected <point>:<action>:<nth>, nth from 1"):
        arm(text)
