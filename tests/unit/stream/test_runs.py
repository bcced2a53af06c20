"""What a replay was asked for: its configuration, its file, and what must stay the same."""

import dataclasses

import pytest

from streamscore.clients.topic_records import Stretch
from streamscore.errors import CheckpointError, ConfigError
from streamscore.stream import runs

FROM, TO = "replay.begin=2026-11-30T12:00:00Z", "replay.end=2026-11-30T13:30:00Z"
CANDIDATE = 'replay.models=["lr2=/models/lr2"]'


@pytest.fixture
def of(make_config, tmp_path):
    """Return a function that returns a replay's configuration."""
    return lambda *overrides: runs.of_config(make_config(f"state_dir={tmp_path}", *overrides))


def test_replay_has_indices_models_and_a_checkpoint_of_its_own(of, tmp_path):
    """Nothing that is written is the stream's; the input topic and the message are."""
    config = of(FROM, TO, CANDIDATE, "replay.name=try")
    search = config.elasticsearch

    assert [model.name for model in config.models] == ["lr", "svm", "lr2"]
    assert search.indices == (
        "predictions-run-try",
        "predictions-rejected-run-try",
        "predictions-status-run-try",
        "predictions-quality-run-try",
    )
    assert search.documents == 0
    assert config.stream.checkpoint == str(tmp_path / "replays" / "try")
    assert of(FROM, TO, "replay.documents=true", "elasticsearch.documents=0.1").elasticsearch.documents == 0.1


def test_name_follows_from_the_stretch(of):
    """Without a name the same command finds its run again; another stretch has another one."""
    assert of(FROM, TO).replay.name == "20261130t120000z-20261130t133000z"
    assert of("replay.begin=5", TO).replay.name == "19700101t000000.005z-20261130t133000z"


@pytest.mark.parametrize("given", [[], [FROM], [TO]])
def test_stretch_is_needed(of, given):
    """Both ends must be given."""
    with pytest.raises(ConfigError, match="--from TIME and --to TIME"):
        of(*given)


def test_file_holds_what_was_asked_for(of, tmp_path):
    """A run is read as it was written."""
    run = runs.with_stretch(runs.asked_for(of(FROM, TO, CANDIDATE)), Stretch({0: 3, 1: 0}, {0: 10, 1: 0}, {}), "id")
    runs.write(tmp_path, run)

    assert runs.read(tmp_path) == run
    assert run.records == 7
    assert runs.read(tmp_path / "absent") is None
    assert runs.progress(tmp_path).state == "0%, stopped"
    (tmp_path / runs.FILE).write_text("{")
    with pytest.raises(CheckpointError, match=f"{runs.FILE} is damaged: `streamscore replay delete"):
        runs.read(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([FROM, "replay.end=2026-11-30T14:00:00Z"], r"--to \(2026-11-30T13:30:00Z instead of 2026-11-30T14:00:00Z\)"),
        ([FROM, TO, CANDIDATE], "the models .* instead of .*lr2=/models/lr2"),
        ([FROM, TO, "replay.documents=true"], r"--documents \(0.0 instead of 1.0\)"),
        ([FROM, TO, "quality.windows=[60]"], "quality.windows"),
        ([FROM, TO, "elasticsearch.index=other"], "the indices of elasticsearch"),
    ],
)
def test_run_goes_on_with_the_same_arguments_only(of, other, message):
    """The message names each argument that differs, and the way out."""
    begun = dataclasses.replace(runs.asked_for(of(FROM, TO, "replay.name=x")), topic_id="id", last={0: 1})
    runs.require_same(begun, runs.asked_for(of(FROM, TO, "replay.name=x")))
    with pytest.raises(ConfigError, match=f"{message}.*another --name, or delete"):
        runs.require_same(begun, runs.asked_for(of(*other, "replay.name=x")))


def test_no_run_is_there(make_config, tmp_path):
    """Without runs the list is empty, and none can be deleted."""
    config = make_config(f"state_dir={tmp_path}", "elasticsearch.enabled=false")

    assert runs.all_of(config) == []
    with pytest.raises(ConfigError, match="there is no run 'x'; there are: none"):
        runs.delete(config, "x")
