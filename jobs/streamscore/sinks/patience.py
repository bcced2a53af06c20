"""How sinks that write to Elasticsearch wait for it while it is away or overloaded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import chain, repeat

from streamscore.clients import elasticsearch
from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.sinks.base import Batch
from streamscore.system.console import log

# The connector passes on the error of Elasticsearch by its type, or, where the answer has none, the status.
_OVERLOADED = re.compile(
    r"returned \[(429|502|503|504)\||es_rejected_execution|unavailable_shards|circuit_breaking|"
    "SERVICE_UNAVAILABLE|TOO_MANY_REQUESTS|BAD_GATEWAY"
)
_REFUSED = re.compile(r"returned \[40[13]\||security_exception")


def patiently(write: Callable[[], None], settings: Elasticsearch, batch: Batch) -> None:
    """Write; while Elasticsearch is away or overloaded, wait and write all again, under the same ids.

    Once the job is asked to stop the next failure is the last: the batch is replayed at the next start.

    Args:
        write: writes, and may write again what it wrote before.
        settings: where Elasticsearch is, and for how long it may be away.
        batch: tells whether the job was asked to stop.
    """
    deadline = time.monotonic() + settings.retry_seconds
    for delay in chain((1, 2, 4, 8, 16), repeat(30)):
        try:
            write()
        except Exception as error:
            if time.monotonic() + delay > deadline or batch.is_stopping() or not is_transient(error, settings):
                raise
            reason = f" ({error})" if isinstance(error, ServerError) else ""
            log.warning("Elasticsearch does not take the documents%s; trying again in %s s", reason, delay)
            batch.wait(delay)
        else:
            return


def is_transient(error: Exception, settings: Elasticsearch) -> bool:
    """Return whether a failed write may succeed later: the server is away, or says that it is overloaded.

    Args:
        error: what the connector or the client raised.
        settings: where Elasticsearch is, to ask it whether it is there.
    """
    if isinstance(error, RefusedError) or _REFUSED.search(str(error)):
        return False
    if isinstance(error, ServerError) or _OVERLOADED.search(str(error)):
        return True
    try:
        elasticsearch.health(settings, timeout=3.0)
    except RefusedError:  # it is there, and this user may not ask for its health
        pass
    except ServerError:
        return True
    return "all nodes failed" in str(error)  # it was away a moment ago
