"""Retries of writes to Elasticsearch while it is unreachable or overloaded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import chain, repeat

from streamscore.clients import elasticsearch
from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.sinks.base import Batch
from streamscore.spark.errors import root_cause
from streamscore.system.console import log

# The connector's message has the type of Elasticsearch's error, or the status if the response has no error.
_OVERLOADED = re.compile(
    r"returned \[(429|502|503|504)\||es_rejected_execution|unavailable_shards|circuit_breaking|"
    "SERVICE_UNAVAILABLE|TOO_MANY_REQUESTS|BAD_GATEWAY"
)
_REFUSED = re.compile(r"returned \[40[13]\||security_exception")


def patiently(write: Callable[[], None], settings: Elasticsearch, batch: Batch) -> None:
    """Write, and retry while Elasticsearch is unreachable or overloaded.

    Once the job is asked to stop, the next failure is raised: the batch is replayed at the next start.

    Args:
        write: an idempotent write.
        settings: Elasticsearch's address, and how long to retry.
        batch: the batch, which knows whether the job was asked to stop.
    """
    deadline = time.monotonic() + settings.retry_seconds
    for delay in chain((1, 2, 4, 8, 16), repeat(30)):
        try:
            write()
        except Exception as error:
            if time.monotonic() + delay > deadline or batch.is_stopping() or not is_transient(error, settings):
                raise
            batch.failed()
            reason = error if isinstance(error, ServerError) else root_cause(error)
            log.warning("Elasticsearch does not take the documents (%s); trying again in %s s", reason, delay)
            batch.wait(delay)
        else:
            return


def is_transient(error: Exception, settings: Elasticsearch) -> bool:
    """Return whether a write's failure is transient: the server is unreachable or overloaded.

    Args:
        error: the exception of the connector or the client.
        settings: Elasticsearch's address, for a health check.
    """
    if isinstance(error, RefusedError) or _REFUSED.search(str(error)):
        return False
    if isinstance(error, ServerError) or _OVERLOADED.search(str(error)):
        return True
    try:
        elasticsearch.health(settings, timeout=3.0)
    except RefusedError:  # the server answers, but this user may not read its health
        pass
    except ServerError:
        return True
    return "all nodes failed" in str(error)  # the server was unreachable a moment ago
