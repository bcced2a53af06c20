"""The image's entry point, run as other users without a container engine."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PASSWD = """#!/bin/sh
{ echo "$HOME"; python3 -c 'import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)'; echo "$@"; } 2>&1
"""


@pytest.fixture
def entry_point(root):
    """The entry point in a folder that every user can read, beside a program that shows what it is given."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o777)
        (folder / "streamscore").write_text(PASSWD)
        (folder / "streamscore").chmod(0o755)
        yield Path(shutil.copy(root / "docker" / "entrypoint.sh", folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
@pytest.mark.skipif(not list(Path("/usr/lib").glob("*/libnss_wrapper.so")), reason="there is no libnss-wrapper")
def test_entry_point_names_a_user_without_a_name(entry_point):
    """A uid without a line in /etc/passwd has a name and a home; the words of the command pass through."""
    assert start(entry_point, "0", "0").stdout.splitlines() == ["/root", "root", "score --restart"]

    unnamed = start(entry_point, "54321", "0")
    assert unnamed.stdout.splitlines() == [str(entry_point.parent), "uid54321", "score --restart"], unnamed.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_entry_point_says_that_nothing_can_be_written(entry_point):
    """A uid that can write nowhere is told so, with the way out."""
    refused = start(entry_point, "54321", "54321", TMPDIR="/proc")

    assert refused.returncode == 6
    assert "--user 54321:0" in refused.stderr


def start(entry, uid, gid, **variables):
    """Run the entry point as a user and group."""
    environment = {"PATH": f"{entry.parent}:/bin:/usr/bin", "HOME": "/root", "TMPDIR": f"{entry.parent}/tmp"}
    environment |= variables
    command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "sh", entry, "score", "--restart"]
    return subprocess.run(command, cwd=entry.parent, env=environment, capture_output=True, text=True, check=False)
