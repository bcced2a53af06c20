"""``streamscore quality``: its output for given statistics, and its exit codes without any."""

import io
import json
import re
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore.cli import figures
from streamscore.clients import quality_reader
from streamscore.clients.quality_reader import Counted
from streamscore.quality.evaluation import evaluate
from streamscore.quality.statistic import of_rows

LABELS = np.arange(2_000) % 2
RIGHT = np.arange(2_000) < 1_400
PREDICTIONS = np.where(RIGHT, LABELS, 1 - LABELS)
NOISE = np.random.default_rng(5).normal(0, 0.1, 2_000)
STATISTICS = {
    ("lr", "3"): of_rows(LABELS, PREDICTIONS, np.clip(0.3 + 0.4 * PREDICTIONS + NOISE, 0.01, 0.99), "probability"),
    ("svm", "4"): of_rows(LABELS, 1 - PREDICTIONS, 1.0 - 2.0 * PREDICTIONS + NOISE, "margin"),
}


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs the command on given statistics."""
    monkeypatch.setattr(quality_reader, "counted", lambda *_: Counted(STATISTICS, 0))

    def command(*words):
        return CliRunner().invoke(cli.app, ["quality", *words])

    return command


def test_json_is_what_the_evaluation_says(run):
    """The output is one JSON document with the range and all figures of each version."""
    printed = json.loads(run("--json", "--range", "7d").stdout)
    expected = [evaluate(statistic).to_json(*of) for of, statistic in STATISTICS.items()]

    assert printed == {"range": "7d", "models": expected}
    assert list(printed["models"][0]) == ["name", "version", "score_kind", "scored", "declined", "labelled", "figures"]
    assert printed["models"][1]["figures"]["rig"] is None
    assert set(printed["models"][0]["figures"]["auc"]) == {"value", "low", "high", "bound"}


def test_help_describes_the_json(run):
    """The help names every key of the document and of its models."""
    document = json.loads(run("--json").stdout)
    help_text = run("--help").stdout

    assert [key for key in (*document, *document["models"][0]) if not re.search(rf"\b{key}\b", help_text)] == []


def test_lines_have_a_column_per_version(run):
    """In a pipe the output is plain text, with a column per version."""
    lines = run().stdout.splitlines()
    rows = {line.split("  ")[0]: re.split(r" {2,}", line.strip())[1:] for line in lines if line}

    assert rows["figure"] == ["lr 3", "svm 4"]
    assert rows["scores"] == ["probabilities", "margins"]
    assert rows["scored"] == rows["labelled"] == ["2,000", "2,000"]
    assert rows["accuracy"] == ["70.00% [67.95, 71.97]", "30.00% [28.03, 32.05]"]
    assert rows["RIG"][1] == "–"
    assert rows["majority-class baseline"] == ["50.00%"] * 2
    assert "\x1b" not in "".join(lines)


def test_one_model_can_be_asked_for(run):
    """--model selects the versions of one model."""
    printed = json.loads(run("--json", "--model", "svm").stdout)

    assert [(model["name"], model["version"]) for model in printed["models"]] == [("svm", "4")]


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self):
        """Return True."""
        return True


@pytest.mark.parametrize(("width", "headings"), [(80, 2), (100, 1)])
def test_terminal_shows_as_many_versions_side_by_side_as_fit(monkeypatch, width, headings):
    """Further versions follow below; a figure is coloured only if its interval allows it."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(quality_reader, "counted", lambda *_: Counted(STATISTICS, 0))
    cli.app(["quality"], standalone_mode=False)
    coloured = screen.getvalue()
    shown = re.sub("\x1b\\[[0-9;]*m", "", coloured)

    assert len(re.findall("^figure", shown, re.MULTILINE)) == headings
    assert all(len(line.rstrip()) <= width for line in shown.splitlines())
    found = re.findall("\x1b\\[(3[0-9])m(\\S+ \\S+ \\S+)", coloured)
    assert {("32", "70.00% [67.95, 71.97]"), ("31", "30.00% [28.03, 32.05]")} <= set(found)
    assert "…" not in shown


@pytest.mark.parametrize(
    ("statistics", "words", "code", "message"),
    [
        ({}, [], 3, "no event of the last 1h was scored, as far as 'predictions-quality' at .* says: --range all"),
        ({}, ["--range", "all"], 3, "no event was scored, .*: has `streamscore score` run?"),
        ({("lr", "3"): STATISTICS["lr", "3"]}, ["--model", "svm"], 3, "no event of the last 1h was scored by svm"),
        (STATISTICS, ["--model", "gbt"], 2, "no model 'gbt' is configured or has scored; there are lr, svm"),
        (STATISTICS, ["--set", "elasticsearch.enabled=false"], 2, "elasticsearch.enabled is false"),
    ],
)
def test_exit_code_says_why_there_are_no_figures(monkeypatch, statistics, words, code, message):
    """The exit code has the kind of the fault, and the message the remedy."""
    monkeypatch.setattr(quality_reader, "counted", lambda *_: Counted(statistics, 0))
    done = CliRunner().invoke(cli.app, ["quality", *words])

    assert done.exception.exit_code == code
    assert re.search(message, str(done.exception))
    assert done.stdout == ""


def test_unknown_range_is_a_wrong_argument(run):
    """The message lists the valid ranges."""
    done = run("--range", "2h")

    assert done.exit_code == 2
    assert "'24h'" in done.output


def test_server_that_does_not_answer_is_its_own_fault(monkeypatch):
    """An unreachable server gives exit code 5."""
    done = CliRunner().invoke(cli.app, ["quality", "--set", "elasticsearch.url=http://127.0.0.1:1"])

    assert done.exception.exit_code == 5
    assert "127.0.0.1:1" in str(done.exception)


def test_more_versions_than_fit_are_all_there():
    """Versions beyond the terminal's width are in further tables."""
    version = figures.Version("lr", "3", evaluate(STATISTICS["lr", "3"]))

    assert [len(table.columns) - 1 for table in figures.tables([version] * 5, 100)] == [2, 2, 1]
    assert [len(table.columns) - 1 for table in figures.tables([version] * 2, 20)] == [1, 1]
