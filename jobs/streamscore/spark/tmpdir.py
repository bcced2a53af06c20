"""The folder of the jobs' temporary files, where a job that is killed leaves some 20 MB."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_STARTING: Final = 600.0
"""Seconds after which nothing in the folder is of a JVM that is starting just now."""


@cache
def use(folder: Path) -> None:
    """Remove what killed jobs have left in the folder, unless another job uses it; then use it.

    A job uses it as long as it has the lock, which is until its process ends: in whichever way, and in whichever
    container.
    """
    descriptor = os.open(folder, os.O_RDONLY)  # it stays open on purpose
    with suppress(OSError):  # another job uses it, or the file system, mounted from elsewhere, has no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for entry in folder.iterdir():
            with suppress(OSError):  # it may be another user's
                _remove_if_old(entry)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _remove_if_old(entry: Path) -> None:
    if entry.lstat().st_mtime > time.time() - _STARTING:
        return
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink()
