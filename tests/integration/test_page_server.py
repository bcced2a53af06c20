"""The live page beside the local servers: the demo starts it, and `down` stops it."""

import contextlib
import logging
import os
import socket

import pytest
from typer.testing import CliRunner

from streamscore import cli, score_stream
from streamscore import config as configuration
from streamscore.cli import demo
from streamscore.dashboard import server
from streamscore.errors import CheckpointError, SetupError
from streamscore.local import stack
from streamscore.local.ports import free_port
from streamscore.stream import checkpoint, folders
from streamscore.system import console


@pytest.fixture
def config(tmp_path):
    """A configuration with this test's own state folder and port; its servers are stopped after the test."""
    if not server.installed():
        pytest.skip("the extra of the page is not installed")
    config = configuration.load("local", [f"state_dir={tmp_path / 'state'}", f"dashboard.port={free_port()}"])
    yield config
    stack.down(config)


@pytest.fixture
def said(caplog):
    """Return a function that returns the logged lines."""
    caplog.set_level(logging.INFO, console.log.name)
    return lambda: caplog.messages


def answers(config):
    """Return whether the page's server answers."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", config.dashboard.port), timeout=5):
        return True
    return False


def test_demo_opens_the_page_once_and_down_stops_it(config, said):
    """The demo logs the page's address; a second demo reuses the running page."""
    first = demo._open_page(config, ["--config", "local"])
    again = demo._open_page(config, ["--config", "local"])

    assert first == again == server.address(config)
    assert said().count(f"watch it live: {first}") == 2
    assert answers(config)
    assert [running.name for running in stack.running(config)] == ["page"]
    assert stack.down(config) == ["page"]
    assert not answers(config)


def test_demo_goes_on_without_a_page(config, said, monkeypatch):
    """The demo continues with a message if the extra is not installed or the port is taken."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", config.dashboard.port))
        other.listen()
        taken = demo._open_page(config, [])
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    absent = demo._open_page(config, [])

    assert taken is absent is None
    assert "no live page: port" in said()[0]
    assert 'pip install "$(ls dist/streamscore-*.whl)[dashboard]"' in said()[1]
    assert stack.running(config) == []


def test_demo_registers_its_models_nowhere_else(make_config, monkeypatch, tmp_path):
    """The demo ignores the environment's registry, from whose aliases other jobs may score."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    given = []
    monkeypatch.setattr(demo, "run", lambda config, argv, **_: given.append((config, argv)))
    done = CliRunner().invoke(cli.app, ["demo", "--set", f"state_dir={tmp_path}"])
    ((config, argv),) = given

    assert done.exit_code == 0
    assert config.mlflow.tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert score_stream.JOB.parse(argv).config.mlflow == config.mlflow


def test_demo_leaves_alone_what_a_running_job_has(config, tmp_path):
    """The demo refuses to empty the topics and the checkpoint of a running job."""
    location = tmp_path / "checkpoint"
    used = config.model_copy(update={"stream": config.stream.model_copy(update={"checkpoint": f"file://{location}"})})
    with (
        checkpoint.hold(folders.open_folder(str(location)), str(location), os.getpid()),
        pytest.raises(CheckpointError, match=f"process {os.getpid()} uses .* file://{location}, .*stop that job"),
    ):
        demo._reset(used)


def test_page_that_does_not_come_up_is_not_left_running(config):
    """A page that does not start is stopped, and the message has the end of its log."""
    broken = server.server(config, [])
    broken.command[3:] = ["run", "/nowhere/app.py"]

    with pytest.raises(SetupError, match="page ended while it started"):
        stack.add(config, broken)
    assert stack.running(config) == []
