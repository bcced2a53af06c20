"""Untrusted text on the terminal and in the log cannot control the terminal or forge records."""

import io
import json
import logging
import re
import sys
from types import SimpleNamespace

import folders
import pytest
from rich.console import Console
from typer.testing import CliRunner

from streamscore import cli
from streamscore.clients import topic_records
from streamscore.errors import ServerError
from streamscore.launch.runner import reported
from streamscore.listeners.totals import Totals
from streamscore.models import mlflow_connection
from streamscore.quality.statistic import Statistic
from streamscore.schema import REJECTED_HEADERS
from streamscore.system import console

HOSTILE = "[bold]a\x1b[2J\n12:00:00 ERROR forged\x07\x9b1m\u202eb\u2066c"
VISIBLE = r"[bold]a\x1b[2J\n12:00:00 ERROR forged\x07\x9b1m\u202eb\u2066c"


def is_safe(text):
    """Return whether a text has no terminal commands and no forged lines."""
    return all(line.isprintable() and not line.startswith("12:00:00") for line in text.split("\n"))


@pytest.fixture
def logged(monkeypatch):
    """Return a function that sets up logging like a job and returns the log's output."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    console.set_up_logging()
    return written.getvalue


@pytest.fixture
def screen(monkeypatch):
    """Return a function that returns the terminal's output without rich's own styles."""
    written = io.StringIO()
    shown = Console(file=written, force_terminal=True, width=300, color_system=None)
    monkeypatch.setattr(console, "terminal", lambda: shown)
    return lambda: re.sub("\x1b\\[[0-9;?]*[A-Za-z]|\r", "", written.getvalue())


@pytest.fixture
def command(tmp_path):
    """Return a function that runs a command and returns its output."""

    def run(*words):
        options = ("--set", f"state_dir={tmp_path}", "--set", "kafka.bootstrap_servers=127.0.0.1:9")
        done = CliRunner().invoke(cli.app, [*words, *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_control_characters_are_shown_and_long_texts_cut():
    """Control characters appear as in Python's repr; text in any language is unchanged."""
    assert console.printable(HOSTILE) == VISIBLE
    assert console.printable("Größe 中 😀 [x]") == "Größe 中 😀 [x]"
    assert console.printable("\ud800") == r"\ud800"
    assert console.printable("\x1b" * 9, limit=2) == r"\x1b\x1b…"
    assert console.printable("a" * 9_999) == "a" * console.MAX_LINE + "…"


def test_log_has_a_record_per_call(logged):
    """Line ends in a message, even a thousand, start no new record."""
    console.log.warning("keeping the current models: %s", HOSTILE)
    console.log.error("%s", "\n" * 1_000)
    text = logged()

    assert "12:00:00 ERROR forged" in text
    assert is_safe(text)
    assert len(text.splitlines()) < 200
    assert sum(not line.startswith("    ") for line in text.splitlines()) == 2


def test_error_is_one_record(logged):
    """An error is one record, whose further lines are indented."""
    with pytest.raises(SystemExit), reported():
        raise ServerError(f"Kafka says {HOSTILE}")

    assert is_safe(logged())


def test_what_the_registry_says_is_one_line(logged, make_config, tmp_path):
    """A server's answer, which MLflow repeats, becomes one line."""
    from mlflow.exceptions import MlflowException

    with (
        pytest.raises(SystemExit),
        reported(),
        mlflow_connection.connected(make_config(f"mlflow.tracking_uri=sqlite:///{tmp_path}/m.db")),
    ):
        raise MlflowException(HOSTILE)

    assert "MLflow at" in logged()
    assert is_safe(logged())


def test_step_shows_its_title_as_it_is(screen):
    """Brackets in a title are not read as markup."""
    with console.step(HOSTILE) as progress:
        progress(HOSTILE)

    assert VISIBLE in screen()
    assert is_safe(screen())


def test_tables_show_versions_as_they_are(screen):
    """Brackets in versions are not read as markup."""
    totals = Totals([SimpleNamespace(name="m", version=HOSTILE)], synthetic=True)
    totals.of_version["m", HOSTILE] = Statistic(scored=1)
    console.terminal().print(totals.table())

    assert VISIBLE in screen()
    assert is_safe(screen())


def test_rows_and_json_are_safe(capsys):
    """Printed rows and JSON have no control characters, and the parsed JSON has the original text."""
    console.print_table({"a": 1, "b": 0}, [(HOSTILE, HOSTILE)])
    console.print_json({HOSTILE: [HOSTILE]})
    table, _, document = capsys.readouterr().out.partition("\n")

    assert table == f"{VISIBLE} {VISIBLE}"
    assert is_safe(document)
    assert json.loads(document) == {HOSTILE: [HOSTILE]}


def test_manifest_is_shown_as_text(command, tmp_path):
    """Names of metrics and provenance in a manifest are shown as text."""
    model = folders.write_model(tmp_path / "model")
    folders.write_manifest(model, metrics={HOSTILE: 1.0}, origin={HOSTILE: HOSTILE})

    shown = command("models", "check", str(model), "--files-only")

    assert VISIBLE in shown
    assert is_safe(shown)


@pytest.mark.parametrize("key", ["class", "uid"])
def test_refused_stage_is_named_as_text(logged, tmp_path, key):
    """The command's error shows the stage's name as text."""
    model = folders.write_model(tmp_path / "model")
    folders.changed(model, folders.SCALER, **{key: HOSTILE})

    with pytest.raises(SystemExit), reported():
        folders.gate.inspect(folders.LocalFiles(model), "unsigned")

    assert logged()
    assert is_safe(logged())


class Record:
    """A fake record of the rejected topic with hostile texts, or without readable headers."""

    def __init__(self, number, *, is_readable):
        self._number, self._is_readable = number, is_readable

    def headers(self):
        """Return the headers: one of the message, and ours, one of which is not UTF-8."""
        if not self._is_readable:
            return None
        ours = [(name, HOSTILE.encode(errors="surrogatepass")) for name in REJECTED_HEADERS]
        return [(HOSTILE, HOSTILE.encode(errors="replace")), *ours]

    def key(self):
        """Return the key."""
        return HOSTILE.encode(errors="replace")

    value = key

    def timestamp(self):
        """Return the timestamp."""
        return (1, self._number)

    def topic(self):
        """Return the topic."""
        return "ml.rejected"

    def partition(self):
        """Return the partition."""
        return 0

    def offset(self):
        """Return the offset."""
        return self._number


def test_rejected_messages_are_listed_as_text_and_unreadable_ones_counted(command, monkeypatch):
    """Hostile records are listed as text, and unreadable ones are counted."""
    records = [Record(0, is_readable=True), Record(1, is_readable=False), Record(2, is_readable=False)]
    monkeypatch.setattr(topic_records, "read", lambda *_, **__: iter(records))
    listed = command("rejected", "list")

    assert VISIBLE in listed
    assert is_safe(listed)
    assert (
        "not listed: 2 whose headers this client does not read, the last at ml.rejected-0-2: it takes 100,000" in listed
    )
    event_id = HOSTILE.encode(errors="surrogatepass").decode(errors="replace")
    assert is_safe(command("rejected", "show", event_id))


def test_others_logs_are_not_touched():
    """Only this program's logger is set up."""
    before = logging.getLogger().handlers[:]
    console.set_up_logging()

    assert logging.getLogger().handlers == before
