"""Where a model comes from: the data and the code of its training."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from streamscore import __version__
from streamscore.system.files import sha256
from streamscore.system.paths import local_path

_PATIENCE: Final = 10.0
"""Seconds that git may take to answer."""


def tags(data: str) -> dict[str, str]:
    """Return what is known, under names that every registry takes.

    Args:
        data: the file that the training reads; of one on another file system nothing is said.
    """
    found = {"streamscore_version": __version__, "data_sha256": _sha256(data), "git_commit": _git_commit()}
    return {name: value for name, value in found.items() if value is not None}


def _sha256(data: str) -> str | None:
    path = local_path(data)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return sha256(file)


def _git_commit() -> str | None:
    """Return the commit of the working tree that this package is in; None outside of one, or without git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607 (whichever git there is)
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
