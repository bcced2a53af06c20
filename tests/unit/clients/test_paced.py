"""The progress of a paced seed: a bar on a terminal, lines in a log."""

from streamscore.clients import paced


def test_bar_follows_on_a_terminal(screen, lines):
    """It shows how many messages were sent, at which pace, and writes nothing to the log."""
    with paced._progress(2_000, 100.0) as show:
        show(500)
        assert "seeding" in screen.wait_for("500/2000")
        show(2_000)

    assert lines() == []


def test_log_has_a_line_per_interval(lines, monkeypatch):
    """It says how many are sent, and how long the rest takes at the configured rate."""
    monkeypatch.setattr(paced, "REPORT_SECONDS", 0.0)
    with paced._progress(2_000, 100.0) as show:
        show(500)

    (line,) = lines()
    assert line.startswith("sent 500 of 2,000 (")
    assert line.endswith("15 s left")


def test_log_has_no_line_between_two_intervals(lines):
    """A short seed needs none."""
    with paced._progress(2_000, 100.0) as show:
        show(500)

    assert lines() == []
