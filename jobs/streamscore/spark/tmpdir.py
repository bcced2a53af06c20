"""The folder of the jobs' temporary files, where a killed job leaves some 20 MB."""

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
"""Age in seconds above which no file in the folder belongs to a JVM that is still starting."""


@cache
def use(folder: Path) -> None:
    """Lock the folder for this job; first remove the leftovers of killed jobs unless another job holds the lock.

    A job holds the lock until its process ends, however it ends and in whichever container.
    """
    descriptor = os.open(folder, os.O_RDONLY)  # stays open on purpose, for the lock
    with suppress(OSError):  # another job holds the lock, or a network file system has no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for entry in folder.iterdir():
            with suppress(OSError):  # the file may be another user's
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
