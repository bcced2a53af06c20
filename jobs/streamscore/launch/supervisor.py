"""Start a job again when it dies, with growing delays, and give up on one that keeps dying."""

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
"""A run of this length was a success, whatever ended it: the count of failures begins anew."""

LONGEST_DELAY = 60.0

SIGNALLED = 128
"""What a shell adds to the number of the signal that killed a process."""

PASSING = frozenset({ServerError.exit_code, StreamError.exit_code})
"""Exit codes of faults that may pass by themselves; others (configuration, models, checkpoint) would only repeat."""


OUT_OF_MEMORY = frozenset({50, 52})
"""What Spark's JVM ends with when it cannot go on, nearly always for want of memory (SparkExitCode)."""


def supervise(start: Callable[[], subprocess.Popen[bytes]], most: int, first_delay: float = 1.0) -> int:
    """Run a job until it ends in order, ends with a fault that a restart cannot mend, or has died too often.

    SIGTERM and SIGINT are passed on, SIGHUP as SIGTERM, and end the supervision with the job.

    Args:
        start: starts the job.
        most: most restarts in a row without a healthy run between them.
        first_delay: seconds before the first restart; each further one waits twice as long.

    Returns:
        The exit code of the last run; 128 + N if signal N killed it.
    """
    job: subprocess.Popen[bytes] | None = None
    stopping = threading.Event()

    def pass_on(number: int, _frame: Any) -> None:
        stopping.set()
        if job is not None and job.poll() is None:
            job.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)  # the job takes no notice of that

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        numbers.append(signal.SIGHUP)
    failures = 0
    with handled(numbers, pass_on):
        while True:
            began = time.monotonic()
            job = start()
            if stopping.is_set():  # it was told while there was no job yet to tell
                job.terminate()
            code = job.wait()
            code = SIGNALLED - code if code < 0 else code
            killed = code > SIGNALLED
            if code in OUT_OF_MEMORY:
                log.error(
                    "Spark's JVM ended with code %s: it is out of memory. Give it more (spark.driver_memory), or "
                    "one message or model is larger unpacked than all of it: see exit codes in docs/guarantees.md",
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
