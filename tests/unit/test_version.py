"""The version is defined in one place."""

import re
import subprocess
from importlib import metadata

from typer.testing import CliRunner

from streamscore import __version__, cli


def test_installed_package_is_of_this_version():
    """The installed metadata has the package's version."""
    assert metadata.version("streamscore") == __version__


def test_command_prints_the_version():
    """--version works without a verb and prints only the version."""
    result = CliRunner().invoke(cli.app, ["--version"])

    assert result.exit_code == 0
    assert result.output == f"streamscore {__version__}\n"


def test_no_other_file_repeats_the_version(root):
    """No other file repeats the version, except the changelog."""
    listed = subprocess.run(
        ["git", "grep", "--untracked", "-I", "-n", "-F", __version__, "--", ":!*.lock", ":!CHANGELOG.md"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    ours = re.compile(rf"(streamscore|version).*(?<![\d.]){re.escape(__version__)}(?![\d.])")
    lines = [line for line in listed.stdout.splitlines() if ours.search(line.split(":", 2)[2])]

    assert [line.split(":")[0] for line in lines] == ["jobs/streamscore/__init__.py"]


def test_changelog_has_a_section_of_it(root):
    """The changelog has a section for the version, or an unreleased one."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", text, re.MULTILINE)

    assert {__version__, "Unreleased"} & set(headings)
    assert headings == sorted(headings, key=lambda name: name != "Unreleased")
