"""The provenance of a model: the data and the code of its training."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from streamscore import __version__
from streamscore.system.files import sha256
from streamscore.system.paths import local_path

_PATIENCE: Final = 10.0
"""Timeout of git, in seconds."""


def tags(data: str) -> dict[str, str]:
    """Return the known facts of a training, under names that every registry accepts.

    Args:
        data: the training's file; a file on another file system is not hashed.
    """
    facts = {"streamscore_version": __version__, "data_sha256": _sha256(data), "git_commit": _git_commit()}
    return {name: value for name, value in facts.items() if value is not None}


def _sha256(data: str) -> str | None:
    path = local_path(data)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return sha256(file)


def _git_commit() -> str | None:
    """Return the commit of the working tree that contains this package; None outside a working tree or without git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607 (git from the PATH)
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
