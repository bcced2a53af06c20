"""`make coverage` names the files whose coverage by `make test` is below the floor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import coverage_floor


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Return a function that compares percentages with the floor and returns the message, if any."""
    monkeypatch.setattr(coverage_floor, "REPORT", tmp_path / "report.json")
    monkeypatch.setenv("CI", "true")

    def run(percentages, reasons):
        monkeypatch.setattr(coverage_floor, "REASONS", reasons)
        files = {name: {"summary": {"percent_covered": percent}} for name, percent in percentages.items()}
        coverage_floor.REPORT.write_text(json.dumps({"files": files}))
        try:
            coverage_floor.main()
        except SystemExit as ended:
            return ended.code
        return None

    return run


def test_files_at_or_above_the_floor_pass(check):
    """Files at the floor or above pass."""
    assert check({"a.py": 100, "b.py": 85}, {}) is None


def test_file_below_the_floor_is_named(check):
    """The message has the file's coverage and the floor."""
    message = check({"a.py": 100, "b.py": 84.4}, {})

    assert message.startswith("b.py: 84 % of its lines are covered, less than 85 %")
    assert "a.py" not in message


def test_reason_excuses_a_file(check):
    """A recorded reason excuses a file, but only while the file is below the floor."""
    assert check({"a.py": 12}, {"a.py": "runs on Databricks"}) is None
    assert check({"a.py": 99}, {"a.py": "runs on Databricks"}) == "a.py: is not below 85 %, so its reason can go"


def test_skipped_tests_are_a_possible_cause(check, monkeypatch):
    """Outside CI the message says so, for only there tests are skipped."""
    monkeypatch.delenv("CI")

    assert check({"a.py": 12}, {}).endswith(
        "If the run has skipped tests, these may cover it: see the last lines of `make test`"
    )
    assert check({"a.py": 99}, {}) is None


@pytest.mark.parametrize(
    ("environment", "percent", "code"), [({"CI": "true"}, 84, 2), ({"CI": "true"}, 85, 0), ({}, 84, 0)]
)
def test_make_test_fails_for_it_in_ci_alone(root, tmp_path, environment, percent, code):
    """Pytest's last line stays the last one unless the check fails; elsewhere there is no check."""
    for name in ("Makefile", "tools/coverage_floor.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((root / name).read_text())
    (tmp_path / ".coverage").mkdir()
    report = {"files": {"a.py": {"summary": {"percent_covered": percent}}}}
    (tmp_path / ".coverage" / "report.json").write_text(json.dumps(report))
    words = ["test", "--old-file=lint", "--old-file=types", "PYTEST=echo", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(
        ["make", *words],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("--durations=30 --cov")
    assert ("a.py: 84 % of its lines" in done.stderr) == (code != 0)


def test_missing_report_is_explained(monkeypatch, tmp_path):
    """The message names the target that makes the report."""
    monkeypatch.setattr(coverage_floor, "REPORT", tmp_path / "report.json")

    with pytest.raises(SystemExit, match="`make test` writes it"):
        coverage_floor.main()


def test_make_test_measures_each_file_and_commands_too(root, tmp_path):
    """With the project's settings, commands that tests start count for coverage."""
    makefile = (root / "Makefile").read_text()
    line = next(line for line in makefile.splitlines() if line.startswith("\t$(PYTEST)") and "--cov" in line)
    options = [word for word in line.split() if word.startswith("--cov")]
    assert f"--cov-report=json:{coverage_floor.REPORT.relative_to(root)}" in options
    (tmp_path / "pyproject.toml").write_text((root / "pyproject.toml").read_text())
    (tmp_path / "test_one.py").write_text(
        "import subprocess, sys\n"
        "def test_one():\n"
        "    subprocess.run([sys.executable, '-c', 'from streamscore.system import processes'], check=True)\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "pyproject.toml",
        *options,
        "test_one.py",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST"))}
    done = subprocess.run(
        [*command, "test_one.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    files = json.loads((tmp_path / ".coverage" / "report.json").read_text())["files"]
    (covered,) = (file for name, file in files.items() if name.endswith("system/processes.py"))
    assert covered["summary"]["covered_lines"] > 0
