"""All errors for users, with one exit code per kind of fault.

A message names the offender and the remedy, and masks credentials; the command line prints it without a stack trace.
"""

from __future__ import annotations

import re
from typing import Final

_MASK: Final = "********"
# A password may contain slashes and at signs, so it ends at the word's last at sign. So a path with an at sign after a
# port is masked too: `//host:80/a@b` may be the user `host` with the password `80/a`.
_USER_INFO: Final = re.compile(r"(?<=//)(?<!///)(?:[^\s@]*:\S*@|[^\s/]+@)|(?<![\w/])[\w.+-]+:(?!/)[^\s@]+@(?=[\w\[])")
_SECRET_PARAMETER: Final = re.compile(
    r"(?i)(?<=[?&;])([\w.-]*(?:password|passwd|pwd|secret|token|api_?key|signature|sig)[\w.-]*=)[^&;\s]+"
)


def mask_credentials(text: str) -> str:
    """Return a text with the users, passwords and secret parameters of all its URLs masked."""
    return _SECRET_PARAMETER.sub(rf"\1{_MASK}", _USER_INFO.sub(f"{_MASK}@", text))


class StreamscoreError(Exception):
    """Root of all errors raised on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        return mask_credentials(super().__str__())


class ConfigError(StreamscoreError):
    """Raised when a configuration key, a value or a command-line argument is wrong."""

    exit_code = 2


class InputError(StreamscoreError):
    """Raised when data cannot be used: absent, empty, or with wrong columns or types."""

    exit_code = 3


class ModelError(StreamscoreError):
    """Raised when a model is absent, damaged, or does not fit the messages or the other models."""

    exit_code = 4


class ModelLoadError(ModelError):
    """Raised when Spark or a file system fails to load or apply a model; the failure may be transient."""


class ServerError(StreamscoreError):
    """Raised when Kafka, Elasticsearch or MLflow cannot be reached, or lacks what the job needs."""

    exit_code = 5


class RefusedError(ServerError):
    """Raised when Kafka or Elasticsearch refuses a request permanently: a retry would not help."""


class RequestTooLargeError(RefusedError):
    """Raised when Elasticsearch, or a gateway in front of it, refuses a request as too large."""


class SetupError(StreamscoreError):
    """Raised when this machine lacks Java, a free port, a verified jar, or a server that starts."""

    exit_code = 6


class StreamError(StreamscoreError):
    """Raised when the stream stops on a fault; the batch in flight was not committed and will be replayed."""

    exit_code = 7


class CheckpointError(StreamscoreError):
    """Raised when a checkpoint is damaged, in use, or not the one from which earlier outcomes were written."""

    exit_code = 9


class RejectedShareError(StreamscoreError):
    """Raised when the share of rejected messages exceeds its limit, so that a producer is probably wrong."""

    exit_code = 10


class CheckError(StreamscoreError):
    """Raised when the counts at the end of a demo do not agree."""

    exit_code = 8
