"""What the three jobs have in common: arguments, checks, a session, an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from streamscore import session
from streamscore.config import Config
from streamscore.console import log, set_up_logging
from streamscore.errors import StreamscoreError
from streamscore.options import Arguments


def run_job(job: Any, argv: Sequence[str] | None, ahead: Callable[[Config], None] = lambda _: None) -> None:
    """Parse, check, make a session, run, write the summary; end the process with the error's own code if one occurs.

    Args:
        job: a job's module: its ``NAME``; ``parse`` reads the command line, ``check`` finds what can be found wrong
            before any JVM starts, ``run`` does the work and returns its summary.
        argv: the arguments; None: those of this process.
        ahead: begins, beside the checks and the start of the session, what the run will need.
    """
    set_up_logging()
    try:
        arguments: Arguments = job.parse(sys.argv[1:] if argv is None else argv)
        ahead(arguments.config)
        job.check(arguments.config)
        with session.opened(arguments.config, job.NAME) as spark:
            summary = job.run(spark, arguments.config)
        if arguments.extra.json:
            Path(arguments.extra.json).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except StreamscoreError as error:
        fail(error)


def fail(error: StreamscoreError) -> NoReturn:
    """Report an error that was raised on purpose and end the process with its code."""
    for line in str(error).splitlines():
        log.error("%s", line)
    sys.exit(error.exit_code)
