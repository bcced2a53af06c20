"""Turns that the processes of a test run take: there are two of them, each with tests and servers of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def held(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a file or a folder; other processes that want it wait, or, with ``LOCK_SH``, those that want it alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if a child that was forked has it too
        os.close(descriptor)


@contextmanager
def turn(door: Path, room: Path, alone: bool) -> Iterator[None]:
    """Wait until a test may run: side by side with others, or alone; whoever waits for that keeps the door shut."""
    with ExitStack() as leaving:
        with held(door):
            leaving.enter_context(held(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield
