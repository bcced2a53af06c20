"""User-visible faults: one message with the remedy, and an exit code for the kind of fault."""

import pytest

from streamscore.clients import kafka

FAULTS = {
    "unknown key": (["seed", "--set", "seed.rat=3"], 2, "seed.rat: unknown key; did you mean rate?"),
    "unknown option": (["score", "--fast"], 2, "unrecognized arguments: --fast"),
    "absent configuration": (["score", "--config", "none.yml"], 2, "--config none.yml: no such file"),
    "absent data set": (["seed", "--source", "none.parquet"], 3, "none.parquet: no such file or folder"),
    "absent Criteo file": (["train", "--data", "criteo", "--path", "none.txt"], 3, "train.path: no file at none.txt"),
    "absent folder for the summary": (["score", "--json", "none/summary.json"], 2, "--json: there is no folder none"),
    "absent value of a replay": (
        ["rejected", "replay", "ml-0-1", "--value", "none.json"],
        2,
        "'none.json' does not exist",
    ),
    "folder that nobody may make": (
        ["up", "--set", "state_dir=/proc/none"],
        6,
        "/proc/none: No such file or directory",
    ),
    "absent broker": (
        ["score", "--set", "kafka.bootstrap_servers=127.0.0.1:1"],
        5,
        "no Kafka broker answers at 127.0.0.1:1",
    ),
    "absent Elasticsearch": (
        ["score", "--set", "elasticsearch.url=http://127.0.0.1:1"],
        5,
        "no Elasticsearch answers at http://127.0.0.1:1",
    ),
    "absent topic": (["score", "--set", "kafka.topics.input=absent"], 5, "the topic 'absent' does not exist"),
}


@pytest.fixture
def config(own):
    """A configuration whose input topic exists."""
    config = own()
    kafka.ensure(config.kafka, config.kafka.topics.input)
    return config


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_before_any_jvm_starts(shell, config, as_file, tmp_path, name):
    """The message appears within seconds, on standard error, without a stack trace."""
    arguments, code, message = FAULTS[name]
    done = shell(["streamscore", *arguments], cwd=tmp_path, env={"STREAMSCORE_CONFIG": as_file(config)}, timeout=60)

    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.0.uri=/nowhere", "the model 'lr': no folder at /nowhere"),
        ("message.size=110", "was trained with 16384 features, but message.size says 110"),
    ],
)
def test_model_that_does_not_fit_ends_the_job_with_its_code(shell, config, trained, as_file, override, message):
    """The command's exit code is that of the job's process."""
    done = shell(["streamscore", "score", "--config", as_file(config), "--set", override])

    assert done.returncode == 4, done.stdout
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_help_of_every_verb_works(shell):
    """Help needs neither servers nor Java."""
    for verb in ("up", "down", "status", "jars", "config", "train", "seed", "score", "demo", "dashboard", "report"):
        done = shell(["streamscore", verb, "--help"])

        assert done.returncode == 0, verb
        assert "--config" in done.stdout
