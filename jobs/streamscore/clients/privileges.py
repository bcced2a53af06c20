"""What a user may do in Elasticsearch: asked for before anything is written, and told when it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError

if TYPE_CHECKING:
    from elasticsearch import ApiError
    from elasticsearch import Elasticsearch as Client

OF_CLUSTER: Final = ("monitor",)
"""The privileges on the cluster of all that writes."""

OF_JOBS: Final = ("read", "write", "manage")
"""The privileges of a job on each of its indices."""

TO_CREATE: Final = ("manage",)
"""The privileges on each index of what only creates it."""

_BLOCKED: Final = "cluster_block_exception"


def require(
    server: Client, settings: Elasticsearch, cluster: Sequence[str], indices: Mapping[str, Sequence[str]]
) -> None:
    """Check that this user has some privileges, as far as Elasticsearch tells: without its security it does not.

    Args:
        server: the client.
        settings: the server's address, for messages.
        cluster: privileges on the cluster.
        indices: privileges on indices and aliases, by name.

    Raises:
        RefusedError: the user lacks one; the message names all that are missing.
    """
    from elasticsearch import ApiError, AuthenticationException

    asked = [{"names": [name], "privileges": list(needed)} for name, needed in indices.items()]
    try:
        answer = server.security.has_privileges(cluster=list(cluster), index=asked).body
    except AuthenticationException:
        raise
    except ApiError:  # no security, or a gateway that does not pass this on
        return
    on_cluster = _refused(answer.get("cluster", {}))
    lacking = [f"{on_cluster} on the cluster"] if on_cluster else []
    lacking += [
        f"{refused} on the index {name!r}"
        for name, granted in answer.get("index", {}).items()
        if (refused := _refused(granted))
    ]
    if lacking:
        raise RefusedError(
            f"the user {answer.get('username')!r} lacks privileges in Elasticsearch at {settings.url}: "
            f"{'; '.join(lacking)}. Grant them (docs/production.md lists those of each command)"
        )


def _refused(granted: Mapping[str, bool]) -> str:
    return ", ".join(f"`{name}`" for name, is_granted in granted.items() if not is_granted)


def forbidden(settings: Elasticsearch, error: ApiError) -> RefusedError:
    """Return the error for a status 403: a missing privilege, or a block."""
    if error.error == _BLOCKED:
        return RefusedError(f"Elasticsearch at {settings.url}: {_told_reason(error.body)}")
    return RefusedError(
        f"Elasticsearch at {settings.url} refuses this user an action ({error.status_code}): "
        f"{_told_reason(error.body)}. The jobs need the privilege `monitor` on the cluster and `read`, `write` and "
        f"`manage` on {', '.join(settings.indices)}; the live page and the report need only `read`"
    )


def _told_reason(body: Any) -> str:
    """Return the reason in the body of a refusal as one line, for instance the missing privilege."""
    fault = body.get("error") if isinstance(body, dict) else None
    reason = fault.get("reason") if isinstance(fault, dict) else fault
    return " ".join(str(reason).split())[:500] if reason else "it does not say which"
