"""What tools/containers.py assumes of the Dockerfile and the compose file."""

import ast
import json
import re

import pytest
import yaml

import containers


@pytest.fixture(scope="module")
def compose(root):
    """The compose file's text."""
    return (root / "docker" / "compose.yml").read_text()


@pytest.fixture(scope="module")
def services(compose):
    """The services of the compose file, without those that monitor: they are not run."""
    services = yaml.safe_load(compose)["services"]
    return {name: service for name, service in services.items() if service.get("profiles") != ["monitoring"]}


def test_it_knows_every_service(services):
    """Each service is ours or a server; without Kibana are those that do not wait for it and have no profile."""
    ours = {name for name, service in services.items() if service["image"] == "streamscore"}
    kibana = {"kibana", "passwords", "kibana-import"}

    assert set(containers.OURS) == ours
    assert set(containers.WITHOUT_KIBANA) == set(services) - kibana - {"label"}
    assert not {wait for name in containers.WITHOUT_KIBANA for wait in services[name].get("depends_on", {})} & kibana


def test_it_sets_every_variable(compose):
    """The compose file uses exactly the variables that a run sets."""
    assert {*containers.SECRETS, *containers.PORTS} == set(re.findall(r"\$\{(\w+)", compose))


def test_it_asks_for_the_images_of_the_files(services):
    """The images to pull are those that the compose file and the Dockerfile name."""
    wanted = containers.wanted()

    assert wanted.python.startswith("python:3.11.")
    assert not wanted.are_stand_ins
    assert wanted[1:] == tuple(services[name]["image"] for name in ("kafka", "elasticsearch", "kibana"))


def test_it_replaces_every_image_and_nothing_else(services, tmp_path, monkeypatch):
    """With stand-ins, no image of the compose file is left; the passwords' file is for its user only."""
    monkeypatch.setattr(containers, "WORK", tmp_path)
    made = containers.Images(*(f"{containers.NAME}/{name}" for name in containers.Images._fields))

    containers.write_settings(made, None)

    second = json.loads((tmp_path / "compose.json").read_text())["services"]
    assert made.are_stand_ins
    assert set(second) == set(services)
    assert all(service["image"].startswith(containers.NAME) for service in second.values())
    assert {key for service in second.values() for key in service} == {"image", "build"}
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600


def test_fewer_rows_are_trained_with_once(services, tmp_path, monkeypatch):
    """With a number of rows, the training is still left out where its models are there."""
    monkeypatch.setattr(containers, "WORK", tmp_path)

    containers.write_settings(containers.Images("a", "b", "c", "d"), 1000)

    (own,) = services["train"]["command"]
    second = json.loads((tmp_path / "compose.json").read_text())["services"]["train"]
    assert second["command"] == [f"{own} --set train.rows=1000 --set train.test_rows=500"]
    assert "entrypoint" not in second


def test_what_it_runs_in_a_container_is_python():
    """The scripts for the containers compile."""
    assert ast.parse(containers.COUNTS)
    assert ast.parse(containers.KILL.format(every=True))
