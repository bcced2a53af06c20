"""`make release` checks, sets the version, commits, builds and tags; a dry run changes nothing."""

import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from streamscore import __version__

VERSION = "9.8.7"
PEOPLE = {f"GIT_{role}_{what}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
OUTER = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
ENVIRONMENT = {**OUTER, **PEOPLE, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def run(folder, *words):
    """Run a command in a repository and return its result."""
    return subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def git(folder, *words):
    """Return the output of a git command."""
    done = run(folder, "git", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def release(folder, version=VERSION, *options):
    """Run the script of `make release`."""
    return run(folder, sys.executable, "tools/release.py", version, *options)


@pytest.fixture(scope="module")
def tree(root, tmp_path_factory):
    """The current files of the repository as one commit of a new repository."""
    folder = tmp_path_factory.mktemp("tree") / "streamscore"
    for name in git(root, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "As it is")
    return folder


@pytest.fixture
def repository(tree, tmp_path):
    """A clone of the new repository, for one test."""
    git(tree, "clone", "--quiet", str(tree), str(tmp_path / "clone"))
    return tmp_path / "clone"


@pytest.fixture(scope="module")
def released(tree, tmp_path_factory):
    """A clone with a released version, without a run of the tests, and with an uncommitted secret."""
    folder = tmp_path_factory.mktemp("released") / "clone"
    git(tree, "clone", "--quiet", str(tree), str(folder))
    (folder / "conf" / "secret-mine.yml").write_text("password: s3cret\n")
    before = (folder / "CHANGELOG.md").read_text()
    done = release(folder, VERSION, "--skip-tests")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return SimpleNamespace(folder=folder, output=done.stdout, before=before, wheel=wheel, sdist=sdist)


def test_dry_run_shows_every_step_and_changes_nothing(repository):
    """`make release` with a dry run shows every step, and needs no virtual environment."""
    head = git(repository, "rev-parse", "HEAD")
    done = run(repository, "make", "release", f"VERSION={VERSION}", "DRY_RUN=1", f"PYTHON={sys.executable}")

    assert done.returncode == 0, done.stdout + done.stderr
    shown = [line for line in done.stdout.splitlines() if "release.py" not in line and "--dry-run" not in line]
    assert shown == [
        "run every test: make test",
        "write 9.8.7 into jobs/streamscore/__init__.py",
        "date the section 9.8.7 of CHANGELOG.md",
        "commit both: Release 9.8.7",
        "build sdist and wheel from that commit into dist/",
        "write dist/SHA256SUMS",
        "tag the commit: v9.8.7",
        "a dry run: nothing was changed",
    ]
    assert git(repository, "rev-parse", "HEAD") == head
    assert git(repository, "status", "--porcelain", "--ignored") == ""
    assert git(repository, "tag") == ""


def test_tests_are_left_out_by_a_variable(repository):
    """SKIP_TESTS=1 skips the tests of a commit that CI has tested."""
    words = ("make", "release", f"VERSION={VERSION}", "DRY_RUN=1", "SKIP_TESTS=1", f"PYTHON={sys.executable}")

    assert "skipped: run every test: make test" in run(repository, *words).stdout


def spoil(repository, name):
    """Bring a repository into a state that cannot be released."""
    if name == "dirty":
        (repository / "notes.txt").write_text("mine")
    elif name == "detached":
        git(repository, "checkout", "--quiet", "--detach")
    elif name == "tagged":
        git(repository, "tag", f"v{VERSION}")
    else:
        text = (repository / "CHANGELOG.md").read_text()
        (repository / "CHANGELOG.md").write_text(text.replace("## Unreleased\n", "## Unreleased\n\n## 0.0.1\n"))
        git(repository, "commit", "--quiet", "--all", "--message", "Nothing new")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dirty", "the tree has changes that are not committed"),
        ("detached", "no branch is checked out"),
        ("tagged", "the tag v9.8.7 exists"),
        ("nothing new", "CHANGELOG.md has nothing under '## Unreleased'"),
    ],
)
def test_what_cannot_be_released_is_refused(repository, name, message):
    """The release is refused before any change, also in a dry run."""
    spoil(repository, name)
    head = git(repository, "rev-parse", "HEAD")
    for options in (["--dry-run"], ["--skip-tests"]):
        done = release(repository, VERSION, *options)

        assert done.returncode == 1
        assert done.stderr.startswith(f"no release: {message}")
        assert done.stdout == ""
    assert git(repository, "rev-parse", "HEAD") == head


@pytest.mark.parametrize(
    ("version", "message"),
    [("", "'' is not a version"), ("1.2", "'1.2' is not a version"), ("0.0.9", "0.0.9 is lower than")],
)
def test_version_that_does_not_follow_is_refused(repository, version, message):
    """A version must have the form x.y.z, and not be lower than the last one."""
    assert release(repository, version, "--dry-run").stderr.startswith(f"no release: {message}")


def test_release_is_one_commit_of_two_files_with_a_tag(released):
    """A release is one tagged commit of two files, and leaves a clean tree."""
    assert git(released.folder, "log", "-1", "--format=%s") == f"Release {VERSION}"
    assert git(released.folder, "show", "--format=", "--name-only").splitlines() == [
        "CHANGELOG.md",
        "jobs/streamscore/__init__.py",
    ]
    assert git(released.folder, "rev-parse", f"v{VERSION}^{{commit}}") == git(released.folder, "rev-parse", "HEAD")
    assert git(released.folder, "status", "--porcelain") == ""


def test_changelog_section_gets_version_and_date(released):
    """The unreleased entries move unchanged under the version, below a new empty section."""
    text = (released.folder / "CHANGELOG.md").read_text()
    heading = re.search(rf"^## Unreleased\n\n## {re.escape(VERSION)} - \d{{4}}-\d\d-\d\d\n", text, re.MULTILINE)

    assert heading
    assert text.replace(heading[0], "## Unreleased\n") == released.before


def test_checksums_are_those_of_what_was_built(released):
    """The checksums are those of the built files, in the format of sha256sum."""
    lines = (released.folder / "dist" / "SHA256SUMS").read_text().splitlines()

    assert lines == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in (released.wheel, released.sdist)
    ]


def test_package_page_is_complete(released, root):
    """The wheel has description, licence, Python versions and the README."""
    with zipfile.ZipFile(released.wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"streamscore-{VERSION}.dist-info/METADATA"))
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]

    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert len(licences) == 1
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().strip() == (root / "README.md").read_text().strip()
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11)} <= set(metadata.get_all("Classifier"))
    assert metadata["Keywords"]
    assert metadata["Summary"]


def test_archives_hold_what_is_needed_and_no_secret(released):
    """The sdist suffices to build the wheel, and neither contains uncommitted files."""
    with zipfile.ZipFile(released.wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(released.sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}

    assert {"streamscore/conf/base.yml", "streamscore/local/artifacts.lock", "streamscore/py.typed"} <= in_wheel
    assert {"streamscore/messages/MessageDecoder.java", "streamscore/dashboard/style.css"} <= in_wheel
    assert {"LICENSE", "README.md", "CHANGELOG.md", "conf/base.yml", "requirements/dev.lock", "Makefile"} <= in_sdist
    assert not {name for name in in_wheel | in_sdist if "secret" in name}


def test_built_without_a_release_a_secret_stays_out_too(tree, tmp_path):
    """`make wheel` builds from the working folder, but omits the user's own configuration."""
    folder = shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    (folder / "conf" / "secret-mine.yml").write_text("password: s3cret\n")
    done = run(folder, sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), ".")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")

    assert "secret-mine" not in " ".join(zipfile.ZipFile(wheel).namelist())
    assert f"streamscore-{__version__}" in wheel.name
