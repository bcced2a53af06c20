"""Identify a process across PID reuse, and handle this process's signals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CGROUP = Path("/sys/fs/cgroup")


def birth(pid: int) -> str | None:
    """Return an identity of a live process that survives PID reuse; None if there is no such process.

    On Linux the identity is the boot id and the start time in ticks since boot (proc(5), field 22 of ``stat``), because
    psutil's wall-clock start time moves when the clock is set. Elsewhere it is psutil's start time.
    """
    try:
        process = psutil.Process(pid)
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not psutil.LINUX:
            return f"{process.create_time():.2f}"
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
    return f"{_BOOT.read_text(encoding='ascii').strip() if _BOOT.exists() else 'boot'} {ticks}"


def memory_limit() -> int:
    """Return how many bytes of memory this process's container may use; those of the machine if that is less."""
    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # the second version of control groups, and the first
        with suppress(OSError, ValueError):  # it is not there, or says max
            limits.append(int((_CGROUP / name).read_text(encoding="ascii")))
    return min(limits)


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals of this process until the context ends; call it in the main thread."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
