"""The output of status, doctor and models list: one JSON document, or a table."""

import io
import json
import re
import subprocess
import sys

import pytest

from streamscore import __version__, cli
from streamscore.cli import doctor
from streamscore.system import console

RUN = "from streamscore.cli import main; main()"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command without servers, in a new state folder."""
    away = ("kafka.bootstrap_servers=127.0.0.1:1", "elasticsearch.url=http://127.0.0.1:1", f"state_dir={tmp_path}")

    def run(*words, more=()):
        options = [word for override in (*away, *more) for word in ("--set", override)]
        command = [sys.executable, "-c", RUN, *words, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_status_as_json_is_the_whole_output(run, tmp_path):
    """The JSON includes unreachable servers, and the exit code is that of the table."""
    done = run("status", "--json", more=[f"stream.checkpoint={tmp_path}/checkpoint"])
    status = json.loads(done.stdout)

    assert done.returncode == 1
    assert list(status) == ["ok", "version", "state_dir", "java", "spark", "servers", "job"]
    assert (status["ok"], status["version"], status["state_dir"]) == (False, __version__, str(tmp_path))
    assert [(server["name"], server["address"], server["ok"]) for server in status["servers"]] == [
        ("kafka", "127.0.0.1:1", False),
        ("elasticsearch", "http://127.0.0.1:1", False),
    ]
    assert status["servers"][0]["detail"].startswith("no Kafka broker answers at 127.0.0.1:1")
    assert status["job"] == {"checkpoint": f"{tmp_path}/checkpoint", "process": None, "error": None}


def test_status_without_json_is_a_line_per_part(run):
    """Without a terminal the output has a line per part."""
    lines = run("status", more=["elasticsearch.enabled=false", "stream.checkpoint=s3a://key:pa/ss@bucket/x"]).stdout

    assert re.search(r"^streamscore    \d\S*, state in /", lines, re.MULTILINE)
    assert re.search("^kafka          no Kafka broker answers at ", lines, re.MULTILINE)
    assert len(lines.splitlines()) == 4


def test_models_list_as_json_names_what_is_refused(run):
    """The JSON has the refused models, with masked credentials."""
    models = "models=[{name: a, uri: /nowhere}, {name: b, uri: 's3a://key:pa/ss@bucket/m'}]"
    done = run("models", "list", "--json", more=[models])
    listed = json.loads(done.stdout)

    assert done.returncode == 1
    assert listed["ok"] is False
    assert [list(model) for model in listed["models"]] == [["name", "uri", "version", "metrics", "refused", "note"]] * 2
    refused, far = listed["models"]
    assert (refused["name"], refused["uri"], refused["version"], refused["refused"]) == ("a", "/nowhere", None, True)
    assert "no folder at /nowhere" in refused["note"]
    assert (far["uri"], far["refused"], far["metrics"]) == ("s3a://********@bucket/m", False, {})
    assert run("models", "list", more=[models]).stdout.startswith("a              /nowhere  the model 'a': no folder")


def test_doctor_as_json_has_every_finding(run):
    """The JSON has every finding, and the exit code is that of the table."""
    done = run("doctor", "--json", more=["models=[{name: a, uri: /nowhere}]"])
    checked = json.loads(done.stdout)

    assert done.returncode == 1
    assert checked["ok"] is False
    assert all(list(finding) == ["subject", "status", "text"] for finding in checked["findings"])
    subjects = {finding["subject"] for finding in checked["findings"]}
    assert subjects == set(doctor._CHECKS) - {"labels"}  # of which nothing is said without the topic of labels
    assert {"kafka", "elasticsearch", "models"} <= {
        finding["subject"] for finding in checked["findings"] if finding["status"] == "fault"
    }


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("fault", 1)])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_doctor_ends_with_code_1_for_a_fault_only(monkeypatch, status, code, option):
    """Only a fault gives exit code 1, in both formats."""
    from typer.testing import CliRunner

    monkeypatch.setattr(doctor, "_CHECKS", {"disk": lambda _: iter([(status, "text")])})
    done = CliRunner().invoke(cli.app, ["doctor", *option])

    assert done.exit_code == code
    if option:
        expected = {"ok": code == 0, "findings": [{"subject": "disk", "status": status, "text": "text"}]}
        assert json.loads(done.stdout) == expected
    else:
        assert done.stdout == f"{'FAULT' if code else status:<5} disk           text\n"


def test_wrong_configuration_leaves_stdout_empty(run):
    """A wrong configuration prints nothing on standard output."""
    done = run("status", "--json", more=["kafka.partitions=x"])

    assert (done.returncode, done.stdout) == (2, "")
    assert "kafka.partitions" in done.stderr


@pytest.mark.parametrize("words", [["status"], ["doctor"], ["models", "list"]])
def test_help_describes_the_json(run, words):
    """The help names every top-level key of the document."""
    done = subprocess.run([sys.executable, "-c", RUN, *words, "--help"], capture_output=True, text=True, check=True)
    help_text = re.sub(r"\s+", " ", done.stdout)
    document = json.loads(run(*words, "--json", more=["models=[{name: a, uri: /nowhere}]"]).stdout)

    assert "With --json: ok" in help_text
    assert [key for key in document if not re.search(rf"\b{key}\b", help_text)] == []


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self):
        """Return True."""
        return True


def test_people_get_a_table(monkeypatch):
    """A terminal gets a table with literal cell texts, brackets included, and without credentials."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    rows = [("FAULT", "kafka", "[bold] at http://user:pa/ss@host"), ("ok", "disk", "5 GiB")]
    console.print_table({"status": 5, "subject": 14, "finding": 0}, iter(rows))
    shown = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", screen.getvalue())

    assert re.search(r"┃ status ┃ subject ┃ finding +┃", shown)
    assert re.search(r"│ FAULT +│ kafka +│ \[bold\] at http://\*+@host +│", shown)
    assert re.search(r"│ ok +│ disk +│ 5 GiB +│", shown)
