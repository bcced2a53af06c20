"""The unit and the manifest of docs/production.md, checked without systemd and Kubernetes."""

from __future__ import annotations

import json
import re
import shlex
from itertools import product

import pytest
import typer
import yaml
from secured import grants

from streamscore import cli, errors, score_stream
from streamscore import config as configuration
from streamscore.clients import privileges
from streamscore.launch import supervisor


@pytest.fixture(scope="module")
def blocks(root):
    """Return a function that returns the document's only code block in a language."""
    text = (root / "docs" / "production.md").read_text(encoding="utf-8")

    def only(language: str, word: str = "") -> str:
        (found,) = (block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if word in block)
        return found

    return only


@pytest.fixture(scope="module")
def unit(blocks):
    """The unit's settings; each has one value."""
    pairs = re.findall(r"^(\w+)=(.*)$", blocks("ini"), re.MULTILINE)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.fixture(scope="module")
def manifest(blocks):
    """The manifest's objects by kind."""
    return {one["kind"]: one for one in yaml.safe_load_all(blocks("yaml"))}


@pytest.fixture(scope="module")
def pod(manifest):
    """The specification of the pod."""
    return manifest["Deployment"]["spec"]["template"]["spec"]


def codes(kind=errors.StreamscoreError):
    """Return the exit codes of an error class and its subclasses."""
    return {kind.exit_code}.union(*(codes(one) for one in kind.__subclasses__()))


def check_command(words, tmp_path):
    """Check that a command starts scoring with a configuration file, without supervision."""
    verb, option, file, *rest = words
    (tmp_path / "my.yml").write_text("{}")

    assert (verb, option, rest) == ("score", "--config", [])
    assert verb in typer.main.get_command(cli.app).commands
    assert file == "/etc/streamscore/my.yml"
    assert score_stream.JOB.parse([option, str(tmp_path / "my.yml")]).config


def seconds_to_stop():
    """Return the default time limit of the batch in flight, in seconds."""
    return configuration.load("local").stream.drain_seconds


def test_systemd_restarts_what_the_supervisor_would(unit):
    """The unit and the supervisor give up on the same exit codes."""
    assert unit["Restart"] == "on-failure"
    given_up = (codes() - supervisor.PASSING) | supervisor.OUT_OF_MEMORY
    assert set(map(int, unit["RestartPreventExitStatus"].split())) == given_up
    assert set(map(int, unit["SuccessExitStatus"].split())) == {130, supervisor.SIGNALLED + 15}


def test_the_table_of_exit_codes_says_the_same(root):
    """The table of docs/guarantees.md has the same exit codes."""
    text = (root / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .* \| (yes|no)\b[^|]*\|$", text, re.MULTILINE)

    assert {int(code) for code, _ in rows} == codes()
    assert {int(code) for code, restarts in rows if restarts == "yes"} == supervisor.PASSING


def test_unit_starts_the_job_and_lets_it_finish(unit, tmp_path):
    """The unit starts the installed command, and leaves time for the batch in flight."""
    program, *words = shlex.split(unit["ExecStart"])

    assert program.endswith("/.venv/bin/streamscore")
    check_command(words, tmp_path)
    assert int(unit["TimeoutStopSec"]) > seconds_to_stop()
    assert unit["WorkingDirectory"] == f"/var/lib/{unit['StateDirectory']}"


def test_pod_is_the_image_s(root, pod, tmp_path):
    """The pod has the image's user, state folder and entry point, and time for the batch in flight."""
    dockerfile = (root / "docker" / "Dockerfile").read_text()
    (user,) = re.findall(r"useradd --uid (\d+)", dockerfile)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}

    ids = {"runAsNonRoot": True, "runAsUser": int(user), "fsGroup": int(user)}
    assert pod["securityContext"] == ids | {"seccompProfile": {"type": "RuntimeDefault"}}
    assert f"WORKDIR {mounts['state']}\n" in dockerfile
    assert 'ENTRYPOINT ["entrypoint.sh"]' in dockerfile
    assert "command" not in container
    check_command(container["args"], tmp_path)
    assert mounts["config"] == "/etc/streamscore"
    assert pod["terminationGracePeriodSeconds"] > seconds_to_stop()


def test_pod_has_no_privileges(pod):
    """The pod fits the strictest standard of Kubernetes; its root is read-only, but for temporary files."""
    (container,) = pod["containers"]

    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod["automountServiceAccountToken"] is False
    assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_there_is_never_a_second_pod(manifest):
    """There is never a second pod, and all mounts, labels and claims resolve."""
    claim, deployment = manifest["PersistentVolumeClaim"], manifest["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]

    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"] for volume in pod["volumes"]]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_key_for_elasticsearch_is_for_the_indices_of_the_readme(root, blocks):
    """The API key covers exactly the README's four indices."""
    request, body = blocks("text", "_security").split("\n", 1)
    (role,) = json.loads(body)["role_descriptors"].values()
    (indices,) = role["indices"]
    (example,) = re.findall(r"```yaml\n# my.yml\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    named = yaml.safe_load(example)["elasticsearch"]

    assert request == "POST /_security/api_key"
    assert role["cluster"] == ["monitor"]
    assert indices["names"] == [named[name] for name in ("index", "rejected_index", "status_index", "quality_index")]
    assert set(indices["privileges"]) == {"read", "write", "manage"}


def test_key_for_elasticsearch_has_the_privileges_of_the_table(root, blocks):
    """The API key's privileges are those of the scoring job, and the job asks for the same."""
    (role,) = json.loads(blocks("text", "_security").split("\n", 1)[1])["role_descriptors"].values()
    document = (root / "docs" / "production.md").read_text(encoding="utf-8")
    listed = grants(document, "| command | on | privileges |", "score")
    (indices,) = role["indices"]

    assert {grant[1:] for grant in listed if grant.kind == "ind"} == set(product(indices["names"], privileges.OF_JOBS))
    assert [grant.operation for grant in listed if grant.kind == "cluster"] == list(privileges.OF_CLUSTER)
    assert tuple(indices["privileges"]) == privileges.OF_JOBS
    assert role["cluster"] == list(privileges.OF_CLUSTER)
