"""The Elasticsearch indices: create them, compare their mappings, search and count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import indices, privileges, tls
from streamscore.config import Elasticsearch, is_loopback
from streamscore.errors import RefusedError, RequestTooLargeError, ServerError
from streamscore.schema import (
    ADDED_FIELDS,
    OUTCOME_PROPERTIES,
    QUALITY_PROPERTIES,
    REJECTED_PROPERTIES,
    STATUS_PROPERTIES,
    TIME,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_EXISTS: Final = "resource_already_exists_exception"

_WRITTEN_TO: Final = "8"
"""Major version of the servers that both the connector and the client support."""

OVERLOADED: Final = frozenset({429, 502, 503, 504})
"""Transient HTTP statuses of a response or of one of its items: a retry may succeed."""

_TOO_LARGE: Final = 413
_DATA_STREAMS_ONLY: Final = "creates data streams only"
_TOO_OLD: Final = "media_type_header_exception"
"""What an older server answers to the client's headers."""


def client(settings: Elasticsearch, timeout: float = 10.0) -> Client:
    """Return a client that connects on first use; the timeout of a request is in seconds."""
    from elasticsearch import Elasticsearch as Client

    arguments: dict[str, Any] = {"request_timeout": timeout, "max_retries": 0}
    if settings.ca_file is not None:
        arguments["ca_certs"] = str(settings.ca_file)
    if settings.api_key is not None:
        arguments["api_key"] = settings.api_key.get_secret_value()
    if settings.user is not None and settings.password is not None:
        arguments["basic_auth"] = (settings.user, settings.password.get_secret_value())
    return Client(settings.url, **arguments)


def health(settings: Elasticsearch, timeout: float = 10.0) -> str:
    """Return the server's version once its cluster accepts writes.

    Raises:
        ServerError: the server does not answer within the timeout (seconds), or does not accept writes.
    """
    with reporting(settings), client(settings, timeout) as server:
        health = server.cluster.health(wait_for_status="yellow", timeout=f"{timeout * 1000:.0f}ms")
        if health["timed_out"]:
            raise ServerError(
                f"the Elasticsearch cluster at {settings.url} is {health['status']}, not ready to be written to"
            )
        return str(server.info()["version"]["number"])


Mappings = Mapping[str, Mapping[str, Any]]
"""The fields of indices by the index's name."""


def ensure(
    settings: Elasticsearch, mappings: Mappings | None = None, needed: Sequence[str] = privileges.OF_JOBS
) -> list[str]:
    """Create missing indices with strict mappings, and add this version's fields to existing ones.

    Args:
        settings: the server.
        mappings: the indices; None: those of the scoring job.
        needed: the privileges on each index that the user must have.

    Returns:
        The names of the indices that were created.

    Raises:
        ServerError: the server cannot be reached or is of a version that cannot be written to, or the mapping of an
            index cannot hold what is to be written.
        RefusedError: something would change the documents or where they go, or blocks the writes; or the user lacks a
            privilege.
    """
    wanted = _mappings(settings) if mappings is None else mappings
    created, late = [], False
    missing = compare(settings, wanted, needed)
    with reporting(settings), client(settings) as server:
        for block in indices.blocks(server, list(wanted)):
            if not block.passes:  # a full disk is waited for
                raise RefusedError(f"Elasticsearch at {settings.url}: {block}")
        for name in missing:
            if _create(server, settings, name, wanted[name]):
                created.append(name)
            else:
                late = True
        for name, properties in wanted.items():
            if name not in created:
                _add_fields(server, name, properties, settings.url)
    if late:
        compare(settings, wanted, needed)
    return created


def _create(server: Client, settings: Elasticsearch, name: str, properties: Mapping[str, Any]) -> bool:
    """Create an index; return False if another job has created it in the meantime.

    Raises:
        RefusedError: a template makes the index unfit; it is not kept.
    """
    from elasticsearch import BadRequestError

    try:
        server.indices.create(
            index=name,
            settings={
                "number_of_shards": 1,
                "auto_expand_replicas": "0-1",
                "refresh_interval": settings.refresh_interval,
            },
            mappings={"dynamic": "strict", "properties": properties},
        )
    except BadRequestError as error:
        if error.error == _EXISTS:
            return False
        if _DATA_STREAMS_ONLY in str(error):
            reason = indices.of_template(name, "an index template makes data streams only of such names")
            raise RefusedError(f"Elasticsearch at {settings.url}: {reason}") from None
        raise
    index, entry = indices.require_one(name, server.indices.get(index=name).body, settings.url)
    fault = indices.fault(name, index, entry)
    if fault is not None:
        server.indices.delete(index=index)  # empty, and made a moment ago
        reason = indices.of_template(name, f"an index template makes it unfit: {fault}")
        raise RefusedError(f"Elasticsearch at {settings.url}: {reason}")
    return True


def compare(
    settings: Elasticsearch, mappings: Mappings | None = None, needed: Sequence[str] = privileges.OF_JOBS
) -> list[str]:
    """Compare the mappings of the indices with our fields and return the names of missing indices.

    Args:
        settings: the server.
        mappings: the indices; None: those of the scoring job.
        needed: the privileges on each index that the user must have.

    Raises:
        ServerError: the server cannot be reached or is of a version that cannot be written to, or the mapping of an
            index cannot hold what is to be written.
        RefusedError: something would change the documents or where they go, or the user lacks a privilege.
    """
    wanted = _mappings(settings) if mappings is None else mappings
    missing = []
    with reporting(settings), client(settings) as server:
        privileges.require(server, settings, privileges.OF_CLUSTER, dict.fromkeys(wanted, needed))
        version = str(server.info()["version"]["number"])
        if not version.startswith(f"{_WRITTEN_TO}."):
            raise _unknown_version(settings, version)
        for name, properties in wanted.items():
            if server.indices.exists(index=name):
                index, entry = indices.require_one(name, server.indices.get(index=name).body, settings.url)
                fault = indices.fault(name, index, entry)
                if fault is not None:
                    raise RefusedError(f"the index {name!r} at {settings.url} cannot be written to: {fault}")
                indices.require_fields(name, entry["mappings"], properties, settings.url)
            else:
                missing.append(name)
    return missing


def blocks(settings: Elasticsearch) -> list[indices.Block]:
    """Return the blocks that keep Elasticsearch from writing to the indices.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings), client(settings) as server:
        return list(indices.blocks(server, list(_mappings(settings))))


def template_faults(settings: Elasticsearch, absent: Sequence[str]) -> list[str]:
    """Return what the server's templates would make of missing indices that makes them unfit.

    Nothing is found for a user who may not read the templates; the job checks an index again when it creates it.

    Raises:
        ServerError: the server cannot be reached.
    """
    from elasticsearch import AuthorizationException

    with reporting(settings), client(settings) as server:
        try:
            faults = [indices.template_fault(server, name) for name in absent]
        except AuthorizationException:
            return []
    return [fault for fault in faults if fault is not None]


def clock(settings: Elasticsearch) -> float:
    """Return the server's time, in seconds since the epoch.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings), client(settings) as server:
        nodes = server.nodes.stats(metric="os")["nodes"].values()
        return max(float(node["timestamp"]) for node in nodes) / 1000


def delete(settings: Elasticsearch, *further: str) -> None:
    """Delete the indices of the scoring job that exist.

    Args:
        settings: the server.
        further: names of further indices to delete.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings), client(settings) as server:
        for name in (*_mappings(settings), *further):
            server.indices.delete(index=name, ignore_unavailable=True)


def runs(settings: Elasticsearch) -> list[str]:
    """Return the names of the replays that have an index of statistics beside the stream's.

    Raises:
        ServerError: the server cannot be reached.
    """
    prefix = settings.of_run("").quality_index
    with reporting(settings), client(settings) as server:
        # Reading the capabilities of fields takes the privilege `read` only; it names empty indices too.
        found = server.field_caps(index=f"{prefix}*", fields=TIME, ignore_unavailable=True)["indices"]
    return sorted(name.removeprefix(prefix) for name in found)


def mapping(server: Client, name: str, url: str) -> dict[str, Any]:
    """Return the mapping of an index, or of the one index that an alias points to.

    Args:
        server: the client.
        name: name of the index or the alias.
        url: the server's address, for messages.

    Raises:
        RefusedError: the name is an alias of several indices.
    """
    _, entry = indices.require_one(name, server.indices.get_mapping(index=name).body, url)
    return dict(entry["mappings"])


def put_status(server: Client, settings: Elasticsearch, status: Mapping[str, Any]) -> None:
    """Write the document of one batch; the same batch's document is replaced.

    A deleted index is recreated first: the write itself would create it with a mapping that the next start refuses.

    Args:
        server: the client.
        settings: names the status index.
        status: the document, with the fields of ``schema.STATUS_PROPERTIES``; ``query`` and ``batch`` make its id.

    Raises:
        ServerError: the server cannot be reached.
    """
    with reporting(settings):
        if not server.indices.exists(index=settings.status_index):
            _create(server, settings, settings.status_index, _mappings(settings)[settings.status_index])
        server.index(index=settings.status_index, id=f"{status['query']}-{status['batch']}", document=dict(status))


def count(settings: Elasticsearch) -> int:
    """Return the number of outcomes in the index, including those written just now.

    Raises:
        ServerError: the server or the index cannot be reached.
    """
    with reporting(settings), client(settings, 60.0) as server:
        server.indices.refresh(index=settings.index)
        return int(server.count(index=settings.index)["count"])


def search(
    server: Client, settings: Elasticsearch, searches: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[list[dict[str, Any]], int]:
    """Run several searches in one request; an index that does not exist yet returns no documents.

    Elasticsearch treats an index that this user may not read like one that does not exist.

    Args:
        server: the client.
        settings: the server's address, for error messages.
        searches: the index (or several, with commas) and the body of each.

    Returns:
        The answers, in order, and the server's time for them in milliseconds.

    Raises:
        RefusedError: the server refuses one of the searches.
        ServerError: the server cannot be reached, or a shard does not answer.
    """
    lines: list[Mapping[str, Any]] = []
    for name, body in searches:
        lines += [{"index": name, "ignore_unavailable": True}, body]
    with reporting(settings):
        answer = server.msearch(searches=lines).body
    answers: list[dict[str, Any]] = answer["responses"]
    for (name, _), found in zip(searches, answers, strict=True):
        fault = found.get("error")
        if fault:
            # If all shards failed, the error's own reason says no more than that.
            causes = [*fault.get("root_cause", ()), fault.get("caused_by", {}), fault]
            reason = next((cause["reason"] for cause in causes if cause.get("reason")), fault)
            raise RefusedError(f"Elasticsearch at {settings.url} cannot search {name}: {reason}")
        if found["_shards"]["failed"]:
            raise ServerError(f"Elasticsearch at {settings.url} cannot search {name}: a part of it does not answer")
    unseen = {name for (name, _), found in zip(searches, answers, strict=True) if found["_shards"].get("total") == 0}
    if unseen & set(settings.indices):
        with reporting(settings):
            privileges.require(server, settings, (), dict.fromkeys(sorted(unseen & set(settings.indices)), ("read",)))
    return answers, int(answer["took"])


def _mappings(settings: Elasticsearch) -> dict[str, dict[str, Any]]:
    return {
        settings.index: OUTCOME_PROPERTIES,
        settings.rejected_index: REJECTED_PROPERTIES,
        settings.status_index: STATUS_PROPERTIES,
        settings.quality_index: QUALITY_PROPERTIES,
    }


def _add_fields(server: Client, index: str, wanted: Mapping[str, Any], url: str) -> None:
    """Add the fields that are missing to an index of an earlier version."""
    known = mapping(server, index, url).get("properties", {})
    added = {name: field for name, field in wanted.items() if name in ADDED_FIELDS and name not in known}
    if added:
        server.indices.put_mapping(index=index, properties=added)


def _unknown_version(settings: Elasticsearch, version: str) -> RefusedError:
    return RefusedError(
        f"Elasticsearch at {settings.url} is version {version}; what writes to it here knows {_WRITTEN_TO}.x only. Set "
        "elasticsearch.url to such a one, or elasticsearch.enabled to false"
    )


_OF_TLS: Final = {
    tls.Fault.AUTHORITY: "name the authority's PEM file in elasticsearch.ca_file",
    tls.Fault.EXPIRED: "renew it, or set this machine's clock",
    tls.Fault.HOST_NAME: "write one of them in elasticsearch.url, or give the server a certificate for this one",
    tls.Fault.NO_TLS: "write http:// in elasticsearch.url, or name the port for TLS there",
}


@contextmanager
def reporting(settings: Elasticsearch) -> Iterator[None]:
    """Re-raise the client's exceptions as our errors, with messages that say what to do.

    Raises:
        RefusedError: the server refuses the credentials, the user, or the request.
        RequestTooLargeError: the server, or a gateway in front of it, refuses the request as too large.
        ServerError: the server cannot be reached, is overloaded, or its certificate is not trusted.
    """
    from elasticsearch import ApiError, AuthenticationException, AuthorizationException, SSLError, TransportError

    try:
        yield
    except AuthenticationException as error:
        raise RefusedError(
            f"Elasticsearch at {settings.url} refuses the credentials ({error.status_code}): see elasticsearch.user, "
            ".password and .api_key"
        ) from None
    except AuthorizationException as error:
        raise privileges.forbidden(settings, error) from None
    except ApiError as error:
        if error.status_code in OVERLOADED:
            raise ServerError(f"Elasticsearch at {settings.url} is away or overloaded: {error}") from None
        if error.status_code == _TOO_LARGE:
            raise RequestTooLargeError(f"what answers at {settings.url} refuses a request as too large (413)") from None
        if _TOO_OLD in str(error):
            raise _unknown_version(settings, f"before {_WRITTEN_TO}") from None
        raise RefusedError(f"Elasticsearch at {settings.url} refused a request: {error}") from None
    except SSLError as error:
        fault = tls.fault(settings.host, settings.port, tls.Trust(settings.ca_file))
        reason = f"{fault.value}: {_OF_TLS[fault]}" if fault in _OF_TLS else error.message
        raise ServerError(f"no safe connection to Elasticsearch at {settings.url}: {reason}") from None
    except TransportError as error:
        if settings.url.startswith("http://") and tls.speaks_tls(settings.host, settings.port):
            raise RefusedError(
                f"Elasticsearch at {settings.url} speaks TLS: write https:// in elasticsearch.url"
            ) from None
        raise ServerError(
            f"no Elasticsearch answers at {settings.url} ({error.message}): is it running?"
            f"{' `streamscore up` starts one on this machine' if is_loopback(settings.host) else ''}"
        ) from None
