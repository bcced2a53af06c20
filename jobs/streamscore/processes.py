"""Know a process again later, whatever has become of its number and of the clock."""

from __future__ import annotations

from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def birth(pid: int) -> str | None:
    """Return what tells a living process from every other that has, had or will have its number; None if there is none.

    On Linux that is the boot and the kernel's count of ticks since (proc(5), field 22 of ``stat``): the wall-clock time
    that psutil makes of it moves whenever the clock is set. Elsewhere it is that time.
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
