"""``streamscore replay``: the job without a verb, and the verbs."""

import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore.errors import ConfigError


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the command."""
    return lambda *words: CliRunner().invoke(cli.app, ["replay", *words, "--set", f"state_dir={tmp_path}"])


def test_without_a_verb_it_is_the_job():
    """The help is that of the job, which takes --model several times."""
    done = CliRunner().invoke(cli.app, ["replay", "--help"])

    assert done.exit_code == 0
    assert "usage: replay_topic" in done.stdout
    assert "--model NAME=URI" in done.stdout


def test_command_that_is_run(run):
    """The arguments go to the job as they are."""
    words = ["--from", "2026-11-30", "--to", "2026-12-01", "--model", "a=/a", "--model", "b=/b", "--dry-run"]
    done = run(*words)

    assert done.exit_code == 0, done.exception
    assert "replay_topic.py" in done.stdout
    assert done.stdout.count("--model") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "noon", "--to", "5"], "replay.begin: 'noon' is not a time: expected ISO 8601"),
        (["--from", "5", "--to", "5"], r"the begin \(--from\), 1970-01-01T00:00:00.005Z, is not before the end"),
        (["--from", "1", "--to", "5", "--name", "A/b"], "replay.name: 'A/b' is no name of a run"),
        (["--from", "1", "--to", "5", "--model", "lr2"], "'lr2' is not name=uri"),
        (["--from", "1", "--to", "5", "--model", "lr=/x"], "'lr' is used more than once; a replay scores with the con"),
        (["--from", "1"], "--from TIME and --to TIME"),
        (["--from", "1", "--to", "5", "--set", "elasticsearch.enabled=false"], "elasticsearch.enabled is false"),
        (["delete", "../x"], "'../x' is no name of a run"),
        (["delete", "x", "--set", "elasticsearch.enabled=false"], "there is no run 'x'; there are: none"),
    ],
)
def test_wrong_arguments(run, words, message):
    """Each is refused before any server is asked, with what is allowed."""
    done = run(*words)

    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    with pytest.raises(ConfigError, match=message):
        raise done.exception


def test_list_of_no_runs(run):
    """An empty list is no error."""
    assert run("list").stdout == ""
    assert run("list", "--json").stdout == '{\n  "runs": []\n}\n'
