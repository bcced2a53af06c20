"""The lease of a checkpoint: which job writes from it, or, after a clean shutdown, where Spark's logs ended."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from streamscore.errors import CheckpointError
from streamscore.stream.folders import NOTES, Folder
from streamscore.system import processes
from streamscore.system.console import log

LEASE: Final = f"{NOTES}/lease.json"

PATIENCE: Final = 30.0
"""Seconds to wait for the JVM of a killed job, which outlives its Python for a moment."""


def read(files: Folder) -> dict[str, Any] | None:
    """Return what the last job recorded; None if no job did, an empty dict if the file is damaged."""
    text = files.read(LEASE)
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def write(files: Folder, content: Mapping[str, Any]) -> None:
    """Record the lease, or what replaces it."""
    files.write(LEASE, json.dumps(content))


def of_process(pid: int) -> dict[str, Any]:
    """Return the identity of a process of this machine, which survives PID reuse."""
    return {"host": socket.gethostname(), "pid": pid, "birth": processes.birth(pid)}


def of_clean_shutdown(planned: int, committed: int) -> dict[str, int]:
    """Return what replaces the lease after a clean shutdown.

    Args:
        planned: the last batch with an entry in ``offsets``; -1 if there is none.
        committed: the last batch with an entry in ``commits``; -1 if there is none.
    """
    return {"planned": planned, "committed": committed}


def holder(files: Folder) -> int | None:
    """Return the process that holds the lease; None if no living process of this machine does."""
    lease = read(files) or {}
    if lease.get("host") != socket.gethostname():
        return None  # processes of another machine or container cannot be inspected
    is_alive = lease.get("birth") is not None and processes.birth(lease["pid"]) == lease["birth"]
    return int(lease["pid"]) if is_alive else None


class Waiting:
    """Waits for the job that holds a checkpoint, a moment with each call, for ``PATIENCE`` seconds at most."""

    def __init__(self, files: Folder, location: str, jvm: int) -> None:
        """Begin to wait.

        Args:
            files: the checkpoint.
            location: its name, for messages.
            jvm: process id of this job's own JVM.
        """
        self._files = files
        self._location = location
        self._process = jvm
        self._deadline = time.monotonic() + PATIENCE
        self._has_logged = False

    def __call__(self) -> None:
        """Wait a moment.

        Raises:
            CheckpointError: the deadline has passed.
        """
        holder = self._holder()
        if time.monotonic() > self._deadline:
            raise CheckpointError(
                f"{self._location} is in use by {holder}: stop that job, or choose another --checkpoint"
            )
        if not self._has_logged:
            log.info("waiting for the job that holds the checkpoint, %s, to end", holder)
            self._has_logged = True
        time.sleep(0.2)

    def _holder(self) -> str:
        lease = read(self._files) or {}
        if "pid" not in lease:
            return "another job"  # it has the lock, and has not written its lease yet
        if lease.get("host") != socket.gethostname():
            return f"process {lease['pid']} on {lease.get('host')!r}"
        if lease["pid"] == self._process:
            return "another session of this Spark application"
        return f"process {lease['pid']} on this machine"


def await_end_of_holder(files: Folder, own: int, own_is_running: Callable[[], bool], wait: Callable[[], None]) -> None:
    """Wait until the JVM that holds the lease has ended, or, if it is this job's own, its query has.

    The lock is not enough: it is released when a job's Python is killed, and the job's JVM may write for a moment more.

    Args:
        files: the checkpoint.
        own: process id of this job's JVM.
        own_is_running: returns whether the checkpoint's query runs in that JVM.
        wait: waits a moment, or raises.
    """
    while (process := holder(files)) is not None and (process != own or own_is_running()):
        wait()
