"""Start a server apart from this process, know it again later, and stop exactly that one."""

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
    """How to start a server, where it logs, and how to ask whether it is ready."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    address: str
    log: Path
    probe: Callable[[], str]
    """Return the version of the server that answers; raise anything while it does not."""


@dataclass(frozen=True)
class Running:
    """A server that was started: enough to find it again and to be sure that it is the same process."""

    name: str
    pid: int
    birth: str | None
    address: str
    log: str

    def process(self) -> psutil.Process | None:
        """Return the process, or None if it is gone; another one with a recycled pid counts as gone."""
        if self.birth is None or processes.birth(self.pid) != self.birth:
            return None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid)
        return None


@contextmanager
def signals_put_off() -> Iterator[None]:
    """Let signals that end or interrupt this process wait for a moment; Python gives them to its main thread only."""
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
    """Start a server in a session of its own, so that it outlives this command and its terminal."""
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
    """Stop a server with SIGTERM, then SIGKILL when its patience (seconds) runs out.

    Returns:
        Whether there was something to stop.
    """
    process = running.process()
    if process is None:
        return False
    members = [process]
    with suppress(psutil.NoSuchProcess):  # it may end by itself just then
        members += process.children(recursive=True)
    _signal_group(running.pid, signal.SIGTERM)
    for member in _outlasting(members, running.pid, patience):
        with suppress(psutil.NoSuchProcess):
            member.kill()
    _outlasting(members, running.pid, patience)
    return True


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, indented, for an error message; lines of a Java stack trace do not count."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "  (no log was written)"
    telling = [line for line in text if line.strip() and not line.startswith("\tat ")][-lines:]
    return "\n".join(f"  {line[:300]}" for line in telling) or "  (the log is empty)"


def _outlasting(members: list[psutil.Process], leader: int, patience: float) -> list[psutil.Process]:
    """Wait for processes to end, at most so many seconds, and return those that have not."""
    deadline = time.monotonic() + patience
    while (alive := [member for member in members if _is_alive(member)]) and time.monotonic() < deadline:
        _reap(leader)
        time.sleep(0.05)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    """Return whether a process still does something; a zombie only waits for its parent to notice."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _reap(pid: int) -> None:
    """Collect the exit status if the server is a child of this very process."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
