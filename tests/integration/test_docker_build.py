"""The image's build steps, run in a clean folder without the base image and the locked packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CACHE = "/var/cache/streamscore"
BUILD_FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "conf", "jobs", "requirements")


@pytest.fixture(scope="module")
def place(root, jars, tmp_path_factory):
    """Return a function that runs a shell line in a clean copy of the image's build context.

    The virtual environment is new, with this one's packages instead of the locked ones; existing jars are copied to
    the image's folder.
    """
    folder = tmp_path_factory.mktemp("image")
    source, target = folder / "src", folder / "opt"
    source.mkdir()
    for name in BUILD_FILES:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, source / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    shutil.copytree(jars[0].parent, folder / "cache" / "spark")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target / "venv"], check=True)
    (packages,) = (target / "venv" / "lib").glob("python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "streamscore" not in path.name:  # the test uses the wheel that it builds
            (packages / path.name).symlink_to(path)
    pip = target / "venv" / "bin" / "pip"
    pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    pip.chmod(0o755)
    environment = {**os.environ, "PATH": f"{target / 'venv' / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": ""}
    environment.pop("PYTHONPATH", None)

    def run(line, *prefix):
        for inside, here in (("/opt/streamscore", target), (CACHE, folder / "cache"), (" /dist/", f" {source}/dist/")):
            line = line.replace(inside, str(here))
        return subprocess.run(
            [*prefix, "bash", "-euc", line], cwd=source, env=environment, capture_output=True, text=True, check=False
        )

    return run


LOOPBACK_ONLY = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""


def offline():
    """Return a command prefix that disables the network except loopback, if this system allows it."""
    prefix = ["unshare", "--net", sys.executable, "-c", LOOPBACK_ONLY]
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if tried.returncode == 0 else []


def test_the_images_own_steps_run(root, place):
    """The wheel is built and installed, and provides the verified jars without a network."""
    text = re.sub(r"\\\n\s*", "", (root / "docker" / "Dockerfile").read_text())
    steps = [re.sub(r"^RUN (--mount=\S+\s+)*", "", line) for line in text.splitlines() if line.startswith("RUN ")]
    wheel, jars = (line for line in steps if re.search("python -m build| jars ", line))

    built = place(wheel)
    assert built.returncode == 0, built.stdout + built.stderr
    told = place(jars, *offline())
    assert told.returncode == 0, told.stderr
    assert "Fetching" not in told.stderr
    installed = place("python -c 'import streamscore; print(streamscore.__file__)'")
    assert "/opt/venv/lib/" in installed.stdout, installed.stderr
    found = place("streamscore jars --set local.artifacts_dir=/opt/streamscore/artifacts", *offline())
    assert found.returncode == 0, found.stderr
    assert "done in" not in found.stderr  # the decoder is compiled already
    paths = found.stdout.strip().split(",")
    assert len(paths) == 8
    assert all("/opt/artifacts/" in path and Path(path).is_file() for path in paths)
    scripts = place("ls /opt/streamscore/venv/bin/{streamscore,score_stream.py,seed_topic.py,train_models.py}")
    assert scripts.returncode == 0, scripts.stderr


def test_a_damaged_jar_ends_the_build(place):
    """A file that differs from the lock never gets into the image."""
    damaged = place(f"echo x >> {CACHE}/spark/kafka-clients-3.9.2.jar")
    assert damaged.returncode == 0

    told = place(f"streamscore jars --set local.artifacts_dir={CACHE}", *offline())

    assert told.returncode == 6
    assert "kafka-clients-3.9.2.jar is not the file that was locked" in told.stderr
