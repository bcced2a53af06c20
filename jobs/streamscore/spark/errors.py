"""Reduce exceptions of Spark, Hadoop and the JVM to one-line messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from streamscore.errors import StreamscoreError

_LOST_TASK: Final = re.compile(r"^.*most recent failure: Lost task .*?\(TID .*?\) \(.*?\): ")
"""Spark's prefix of a task's failure, before the reason."""

_BAD_TIME: Final = (
    ": a message has a timestamp that Spark cannot hold, which is no number of milliseconds (see docs/guarantees.md, "
    "What is not promised, for how to skip it)"
)

_REFUSAL: Final = "EsHadoopRemoteException: "


def reason(error: Exception) -> str:
    """Return the line that says what Spark could not do, from an exception that may contain a JVM stack trace."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    line = others[0].removeprefix(": ") if first.startswith("An error occurred while calling") and others else first
    if line.endswith("Details:"):  # for a truncated file, the reason is on a later line
        return root_cause(error)
    return _LOST_TASK.sub("", line)


def root_cause(error: Exception) -> str:
    """Return the line of the root cause, at most 500 characters, from an exception with JVM or Python stack traces."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    refusals = [line for line in lines if _REFUSAL in line]
    if refusals:  # Elasticsearch's message says more than the connector's
        return refusals[0].split(_REFUSAL, 1)[1][:500]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    errors = [line for line in lines if line.startswith(("py4j.protocol", ": ", "pyspark.errors"))]
    cause = [lines[0], *errors[-1:], *causes[-1:]][-1][:500]
    return f"{cause}{_BAD_TIME}" if cause.endswith("ArithmeticException: long overflow") else cause


@contextmanager
def translate_spark_errors(kind: type[StreamscoreError], problem: str, way_out: str = "") -> Iterator[None]:
    """Re-raise a Spark or file-system exception as one of our errors, with a one-line message.

    Args:
        kind: the error to raise.
        problem: beginning of the message: what could not be done.
        way_out: end of the message: what the user can do.

    Raises:
        StreamscoreError: of the given kind, if Spark raised an exception.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise kind(f"{problem}: {reason(error)}{way_out}") from None
