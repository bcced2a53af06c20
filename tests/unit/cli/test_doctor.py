"""What the doctor says of this process's user and memory; tests/integration/test_doctor.py has the other checks."""

import os

import psutil
import pytest

from streamscore.cli import doctor
from streamscore.system import processes


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """The folder of this process's control groups, which is empty."""
    monkeypatch.setattr(processes, "_CGROUP", tmp_path)
    return tmp_path


def finding(config, subject):
    """Return the only finding of a subject."""
    (found,) = (one for one in doctor.examine(config) if one.subject == subject)
    return found


@pytest.fixture
def only(monkeypatch):
    """Return a function that runs one check alone: the others ask servers."""

    def run(config, subject):
        monkeypatch.setattr(doctor, "_CHECKS", {subject: doctor._CHECKS[subject]})
        return finding(config, subject)

    return run


@pytest.mark.parametrize(
    ("name", "limit", "status"),
    [
        ("memory.max", "629145600\n", "fault"),
        ("memory.max", "4294967296\n", "ok"),
        ("memory.max", "max\n", "ok"),
        ("memory/memory.limit_in_bytes", "629145600\n", "fault"),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", "ok"),
    ],
)
def test_memory_of_a_container_holds_the_heap(make_config, groups, only, name, limit, status):
    """A container whose memory is less than the heap and the rest is a fault, with both versions of control groups."""
    (groups / name).parent.mkdir(exist_ok=True)
    (groups / name).write_text(limit)

    found = only(make_config("spark.driver_memory=2g", "spark.master=local[*]"), "memory")

    assert found.status == status, found.text
    assert ("code 137" in found.text) == (status == "fault")
    assert ("spark.driver_memory, 2g" in found.text) == (status == "fault")


def test_memory_does_not_matter_where_spark_is_elsewhere(make_config, groups, only):
    """On a cluster the heap is not in this process's container."""
    (groups / "memory.max").write_text("629145600\n")

    assert only(make_config("spark.master=null"), "memory").status == "ok"


@pytest.mark.usefixtures("groups")
def test_without_a_limit_it_is_the_machine_s():
    """Without control groups the machine's memory is the limit."""
    assert processes.memory_limit() == psutil.virtual_memory().total


def test_user_without_a_name_is_a_fault(make_config, only, monkeypatch):
    """A uid that /etc/passwd lacks is a fault with the way out."""
    assert only(make_config(), "user").status == "ok"

    monkeypatch.setattr(os, "getuid", lambda: 54321)
    found = finding(make_config(), "user")

    assert found.status == "fault"
    assert "uid 54321 is not in /etc/passwd" in found.text
    assert "entry point" in found.text
