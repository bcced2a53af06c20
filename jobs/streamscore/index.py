"""The Elasticsearch index of the outcomes: its mapping, its making, its counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamscore.config import Elasticsearch
from streamscore.errors import ServerError
from streamscore.schema import INDEX_PROPERTIES

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client


def client(settings: Elasticsearch, timeout: float = 10.0) -> Client:
    """Return a client; it connects on its first use. The timeout of a request is in seconds."""
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
    """Return the server's version once its cluster can be written to.

    Raises:
        ServerError: it does not answer within the timeout (seconds), or cannot be written to.
    """
    with _reporting(settings), client(settings, timeout) as server:
        health = server.cluster.health(wait_for_status="yellow", timeout=f"{timeout * 1000:.0f}ms")
        if health["timed_out"]:
            raise ServerError(
                f"the Elasticsearch cluster at {settings.url} is {health['status']}, not ready to be written to"
            )
        return str(server.info()["version"]["number"])


def ensure(settings: Elasticsearch) -> bool:
    """Create the index with its strict mapping if it is missing; compare the mapping of one that exists.

    Returns:
        Whether the index was created.

    Raises:
        ServerError: the server cannot be reached, or the mapping of the index cannot hold the outcomes.
    """
    with _reporting(settings), client(settings) as server:
        if server.indices.exists(index=settings.index):
            _compare(server.indices.get_mapping(index=settings.index).body, settings)
            return False
        server.indices.create(
            index=settings.index,
            settings={
                "number_of_shards": 1,
                "number_of_replicas": 0,
                "refresh_interval": settings.refresh_interval,
            },
            mappings={"dynamic": "strict", "properties": INDEX_PROPERTIES},
        )
        return True


def delete(settings: Elasticsearch) -> None:
    """Delete the index if it exists.

    Raises:
        ServerError: the server cannot be reached.
    """
    with _reporting(settings), client(settings) as server:
        server.indices.delete(index=settings.index, ignore_unavailable=True)


def count(settings: Elasticsearch) -> int:
    """Return the number of documents, all that were written so far.

    Raises:
        ServerError: the server or the index cannot be reached.
    """
    with _reporting(settings), client(settings, 60.0) as server:
        server.indices.refresh(index=settings.index)
        return int(server.count(index=settings.index)["count"])


def _compare(mappings: dict[str, Any], settings: Elasticsearch) -> None:
    (mapping,) = (entry["mappings"] for entry in mappings.values())
    properties = mapping.get("properties", {})
    wrong = [
        f"{name} is {properties.get(name, {}).get('type', 'missing')}, expected {wanted['type']}"
        for name, wanted in INDEX_PROPERTIES.items()
        if properties.get(name, {}).get("type") != wanted["type"]
    ]
    if wrong:
        raise ServerError(
            f"the index {settings.index!r} at {settings.url} cannot hold the outcomes: {'; '.join(wrong)}. "
            "Choose another one with --set elasticsearch.index=NAME, or delete it if it is not needed"
        )


@contextmanager
def _reporting(settings: Elasticsearch) -> Iterator[None]:
    """Turn the client's exceptions into messages that say what to do."""
    from elasticsearch import ApiError, AuthenticationException, AuthorizationException, TransportError

    try:
        yield
    except (AuthenticationException, AuthorizationException) as error:
        raise ServerError(
            f"Elasticsearch at {settings.url} refuses the credentials ({error.status_code}): see elasticsearch.user, "
            ".password and .api_key"
        ) from None
    except ApiError as error:
        raise ServerError(f"Elasticsearch at {settings.url} refused a request: {error}") from None
    except TransportError as error:
        raise ServerError(
            f"no Elasticsearch answers at {settings.url} ({error.message}): is it running? "
            "`streamscore up` starts one on this machine"
        ) from None
