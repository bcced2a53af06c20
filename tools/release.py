"""Release a version: check, test, write it down, commit, build, tag. ``make release VERSION=x.y.z`` calls this.

Nothing is pushed: what was made can be looked at first, and `git push --follow-tags` is left to a person.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PACKAGE = ROOT / "jobs" / "streamscore" / "__init__.py"
CHANGELOG = ROOT / "CHANGELOG.md"
VERSION_LINE = re.compile(r'^__version__ = "(\d+\.\d+\.\d+)"$', re.MULTILINE)
UNRELEASED = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Release the version that the command line names, or show what would be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="x.y.z, not lower than the package's own")
    parser.add_argument("--dry-run", action="store_true", help="check everything, show the steps and change nothing")
    parser.add_argument("--skip-tests", action="store_true", help="do not run `make test` first")
    given = parser.parse_args()

    if problems := list(refusals(given.version)):
        sys.exit("\n".join(f"no release: {problem}" for problem in problems))
    steps: dict[str, Callable[[], object]] = {
        "run every test: make test": run_tests,
        f"write {given.version} into {PACKAGE.relative_to(ROOT)}": lambda: write_version(given.version),
        f"date the section {given.version} of {CHANGELOG.name}": lambda: write_changelog(given.version),
        f"commit both: Release {given.version}": lambda: commit(given.version),
        "build sdist and wheel from that commit into dist/": build,
        "write dist/SHA256SUMS": write_checksums,
        f"tag the commit: v{given.version}": lambda: git("tag", "--annotate", tag(given.version), "-m", given.version),
    }
    for name, do in steps.items():
        skipped = do is run_tests and given.skip_tests
        print(f"{'skipped: ' if skipped else ''}{name}", flush=True)
        if not given.dry_run and not skipped:
            do()
    if given.dry_run:
        print("a dry run: nothing was changed")
    else:
        print(f"released {given.version}; push it with: git push --follow-tags")


def refusals(version: str) -> list[str]:
    """Return the reasons why a version cannot be released now."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return [f"{version!r} is not a version; give one as x.y.z: make release VERSION=1.2.3"]
    problems = []
    if git("status", "--porcelain"):
        problems.append("the tree has changes that are not committed; commit them or put them away")
    if not git("branch", "--show-current"):
        problems.append("no branch is checked out, so the commit would belong to none; git switch to one")
    if git("tag", "--list", tag(version)):
        problems.append(f"the tag {tag(version)} exists; released versions do not change, so take the next one")
    if numbers(version) < numbers(current_version()):
        problems.append(f"{version} is lower than {current_version()}, the version of the package")
    section = UNRELEASED.search(CHANGELOG.read_text(encoding="utf-8"))
    if section is None or not section[1].strip():
        problems.append(f"{CHANGELOG.name} has nothing under '## Unreleased'; write down what is new for its users")
    return problems


def run_tests() -> None:
    """Run what CI runs, without the variables of the make that called this."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    subprocess.run(["make", "test"], cwd=ROOT, env=environment, check=True)


def write_version(version: str) -> None:
    """Write the version into the one place that has it."""
    text = PACKAGE.read_text(encoding="utf-8")
    PACKAGE.write_text(VERSION_LINE.sub(f'__version__ = "{version}"', text), encoding="utf-8")


def write_changelog(version: str) -> None:
    """Give what is unreleased its version and date, below an empty section for what comes next."""
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    text = CHANGELOG.read_text(encoding="utf-8")
    heading = f"## Unreleased\n\n## {version} - {today}\n"
    CHANGELOG.write_text(text.replace("## Unreleased\n", heading, 1), encoding="utf-8")


def commit(version: str) -> None:
    """Commit the two files."""
    git("add", str(PACKAGE), str(CHANGELOG))
    git("commit", "--quiet", "--message", f"Release {version}")


def build() -> None:
    """Build the sdist and, from it, the wheel; from a clone, so that no file gets in that is not committed."""
    for old in DIST.glob("streamscore-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        git("clone", "--quiet", "--no-tags", str(ROOT), folder)
        # The time of the commit makes a second build of it the same, byte for byte.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}the build failed; there is a commit, but no tag: git reset --hard HEAD~1")


def write_checksums() -> None:
    """Write the sha256 of what was built, as `sha256sum --check` reads it."""
    built = sorted(DIST.glob("streamscore-*"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in built]
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def current_version() -> str:
    """Return the package's version."""
    (version,) = VERSION_LINE.findall(PACKAGE.read_text(encoding="utf-8"))
    return str(version)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers, which compare as versions do."""
    return tuple(map(int, version.split(".")))


def tag(version: str) -> str:
    """Return the name of a version's tag."""
    return f"v{version}"


def git(*arguments: str) -> str:
    """Return what a git command prints; one that fails ends the release, with git's own message."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {arguments[0]} failed")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
