"""Restart a job that dies, with growing delays, and give up after repeated failures."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from streamscore.errors import ServerError, StreamError
from streamscore.system.console import log
from streamscore.system.processes import handled

HEALTHY_SECONDS = 60.0
"""Seconds after which a run counts as healthy, however it ends: the count of failures restarts at zero."""

LONGEST_DELAY = 60.0

SIGNALLED = 128
"""Exit code of a process killed by a signal, less the signal's number, as in a shell."""

PASSING = frozenset({ServerError.exit_code, StreamError.exit_code})
"""Exit codes of transient faults; others (configuration, models, checkpoint) would recur."""


OUT_OF_MEMORY = frozenset({50, 52})
"""Exit codes of a Spark JVM that cannot continue, nearly always for lack of memory (SparkExitCode)."""


def supervise(start: Callable[[], subprocess.Popen[bytes]], most: int, first_delay: float = 1.0) -> int:
    """Run a job until a clean shutdown, a fault that a restart cannot fix, or too many failures.

    SIGTERM, SIGINT and SIGHUP (as SIGTERM) are passed to the job, and end the supervision with it.

    Args:
        start: starts the job.
        most: most restarts in a row without a healthy run between them.
        first_delay: seconds before the first restart; the delay doubles with each further restart.

    Returns:
        The exit code of the last run; 128 + N if signal N killed it.
    """
    job: subprocess.Popen[bytes] | None = None
    stopping = threading.Event()

    def pass_on(number: int, _frame: Any) -> None:
        stopping.set()
        if job is not None and job.poll() is None:
            job.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)  # the job ignores SIGHUP

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup makes it ignored
        numbers.append(signal.SIGHUP)
    failures = 0
    with handled(numbers, pass_on):
        while True:
            began = time.monotonic()
            job = start()
            if stopping.is_set():  # the signal arrived before the job started
                job.terminate()
            code = job.wait()
            code = SIGNALLED - code if code < 0 else code
            killed = code > SIGNALLED
            if code in OUT_OF_MEMORY:
                log.error(
                    "Spark's JVM ended with code %s: it is out of memory. Give it more (spark.driver_memory), or "
                    "one message or model is larger unpacked than all of it: `streamscore doctor` names the largest "
                    "message of the batch that was being read, and how to pass over it",
                    code,
                )
            if stopping.is_set() or not (killed or code in PASSING):
                return code
            failures = 1 if time.monotonic() - began > HEALTHY_SECONDS else failures + 1
            if failures > most:
                log.error("the job has died %s times in a row, last with code %s: giving up", failures, code)
                return code
            delay = min(first_delay * 2 ** min(failures, 10) / 2, LONGEST_DELAY)
            log.warning("the job ended with code %s; starting it again in %.0f s", code, delay)
            if stopping.wait(delay):
                return code
