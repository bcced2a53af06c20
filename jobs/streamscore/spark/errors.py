"""Say in one line what Spark, Hadoop or the JVM has to say in a hundred."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from streamscore.errors import StreamscoreError

_LOST_TASK: Final = re.compile(r"^.*most recent failure: Lost task .*?\(TID .*?\) \(.*?\): ")
"""What Spark says of a task before it says what happened to it."""

_BAD_TIME: Final = (
    ": a message has a timestamp that Spark cannot hold, which is no number of milliseconds (see docs/guarantees.md, "
    "What is not promised, for how to skip it)"
)

_REFUSAL: Final = "EsHadoopRemoteException: "


def reason(error: Exception) -> str:
    """Return the line that says what Spark could not do, from an exception that may have a JVM's stack trace in it."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    line = others[0].removeprefix(": ") if first.startswith("An error occurred while calling") and others else first
    if line.endswith("Details:"):  # of a file that it could not read to its end, Spark says why below only
        return root_cause(error)
    return _LOST_TASK.sub("", line)


def root_cause(error: Exception) -> str:
    """Return the line that says what was at the bottom of it, at most 500 characters, from an exception with a JVM's
    and perhaps a Python's stack trace in it.
    """
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    refusals = [line for line in lines if _REFUSAL in line]
    if refusals:  # Elasticsearch's own words say more than the connector's
        return refusals[0].split(_REFUSAL, 1)[1][:500]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    errors = [line for line in lines if line.startswith(("py4j.protocol", ": ", "pyspark.errors"))]
    cause = [lines[0], *errors[-1:], *causes[-1:]][-1][:500]
    return f"{cause}{_BAD_TIME}" if cause.endswith("ArithmeticException: long overflow") else cause


@contextmanager
def translate_spark_errors(kind: type[StreamscoreError], problem: str, way_out: str = "") -> Iterator[None]:
    """Re-raise an exception of Spark, or of a file system that it uses, as one of our errors, with a one-line message.

    Args:
        kind: the error to raise.
        problem: what could not be done, the beginning of the message.
        way_out: the end of the message.

    Raises:
        StreamscoreError: of the given kind, if Spark raised anything.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise kind(f"{problem}: {reason(error)}{way_out}") from None
