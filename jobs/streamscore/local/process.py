"""Start a server that outlives this process, find it again later, and stop exactly that server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from streamscore.system import processes


@dataclass(frozen=True)
class Server:
    """A server's command, log file and readiness probe."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    address: str
    log: Path
    probe: Callable[[], str]
    """Returns the version of the running server; raises any error while the server does not answer."""


@dataclass(frozen=True)
class Running:
    """The identity of a started server's process, which survives PID reuse."""

    name: str
    pid: int
    birth: str | None
    address: str
    log: str

    def process(self) -> psutil.Process | None:
        """Return the process; None if it has ended, also if another process has its PID now."""
        if self.birth is None or processes.birth(self.pid) != self.birth:
            return None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid)
        return None


@contextmanager
def signals_put_off() -> Iterator[None]:
    """Defer SIGINT, SIGTERM and SIGHUP until the context ends; outside the main thread nothing is deferred."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        with processes.handled(heeded, lambda number, _: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


def start(server: Server) -> Running:
    """Start a server in a new session, so that it outlives this command and its terminal."""
    server.log.parent.mkdir(parents=True, exist_ok=True)
    with server.log.open("wb") as output:
        process = subprocess.Popen(
            server.command,
            env=dict(server.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(server.name, process.pid, processes.birth(process.pid), server.address, str(server.log))


def stop(running: Running, patience: float = 20.0) -> bool:
    """Stop a server with SIGTERM, and after ``patience`` seconds with SIGKILL.

    Returns:
        Whether the server was running.
    """
    process = running.process()
    if process is None:
        return False
    members = [process]
    with suppress(psutil.NoSuchProcess):  # it may have just ended by itself
        members += process.children(recursive=True)
    _signal_group(running.pid, signal.SIGTERM)
    for member in _outlasting(members, running.pid, patience):
        with suppress(psutil.NoSuchProcess):
            member.kill()
    _outlasting(members, running.pid, patience)
    return True


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log without Java stack traces, indented, for an error message."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "  (no log was written)"
    telling = [line for line in text if line.strip() and not line.startswith("\tat ")][-lines:]
    return "\n".join(f"  {line[:300]}" for line in telling) or "  (the log is empty)"


def _outlasting(members: list[psutil.Process], leader: int, patience: float) -> list[psutil.Process]:
    """Wait up to ``patience`` seconds for processes to end, and return those that still run."""
    deadline = time.monotonic() + patience
    while (alive := [member for member in members if _is_alive(member)]) and time.monotonic() < deadline:
        _reap(leader)
        time.sleep(0.05)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _reap(pid: int) -> None:
    """Collect the exit status if the server is a child of this process."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
