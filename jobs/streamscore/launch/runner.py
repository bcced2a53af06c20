"""Run a job: arguments, checks, a session, an exit code."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from streamscore.errors import SetupError, StreamscoreError
from streamscore.launch.job import Job
from streamscore.spark import session
from streamscore.system.console import log, set_up_logging


def run_job(job: Job, argv: Sequence[str] | None) -> None:
    """Parse, check, create a session, run, and write the summary; an error ends the process with its exit code.

    Args:
        job: the job.
        argv: the arguments; None: those of this process.
    """
    set_up_logging()
    with reported():
        arguments = job.parse(sys.argv[1:] if argv is None else argv)
        job.ahead(arguments.config)
        job.check(arguments.config)
        with session.opened(arguments.config, job.name, job.settings(arguments.config)) as spark:
            summary = job.run(spark, arguments.config)
        if arguments.extra.json:
            Path(arguments.extra.json).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


@contextmanager
def reported() -> Iterator[None]:
    """Report an error that the user can fix, and end the process with the exit code of its kind.

    Such errors are our own, the system's about files, a missing package, and Ctrl-C, which prints nothing.
    """
    try:
        yield
    except StreamscoreError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        _fail(
            SetupError(
                f"the Python package {error.name} is missing: install streamscore with the extra that brings it, local "
                "for jobs and servers, dashboard for the live page; `make install` installs both"
            )
        )
    except OSError as error:
        if error.filename is None and error.errno not in {errno.ENOSPC, errno.EDQUOT}:  # a write's error names no file
            raise
        _fail(SetupError(": ".join(filter(None, [error.filename, error.strerror]))))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: StreamscoreError) -> NoReturn:
    log.error("%s", error)
    sys.exit(error.exit_code)
