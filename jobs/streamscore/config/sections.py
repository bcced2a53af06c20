"""What all sections of the configuration share: their base, and the rules for secrets and addresses."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

SECRET_KEY = re.compile(r"(?i)password|secret|jaas|api_key|token|\.key$|keystore\.key|account\.key|basic\.auth")
"""Pattern of the keys of secrets, whose values must be references."""

_LOOPBACK_NAMES = frozenset({"localhost"})

_LAST_PORT = 65_535


class Section(BaseModel):
    """Base of every section: immutable, and without keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class _Server(Protocol):
    """A section of a server that is reached over HTTP."""

    url: str
    user: str | None
    password: SecretStr | None
    api_key: SecretStr | None
    ca_file: Path | None
    insecure: bool


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of a text ``host:port``.

    Raises:
        ValueError: the text is no such address.
    """
    host, separator, port = address.strip().rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) <= _LAST_PORT:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def check_server(settings: _Server, section: str) -> None:
    """Check a server's address and its credentials.

    Args:
        settings: the section.
        section: its name, for the message.

    Raises:
        ValueError: the address is incomplete, has credentials, or is not encrypted, or the credentials do not fit.
    """
    # The messages do not repeat the address, which may contain a password.
    try:
        parts = urlsplit(settings.url)
        is_complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number
        is_complete = False
    if not is_complete or not parts.hostname:
        raise ValueError("url is not http://host:port or https://host:port")
    if parts.username or parts.password:
        raise ValueError(f"url must not carry a user or a password: use {section}.user and .password")
    if parts.scheme == "http" and not is_loopback(parts.hostname) and not settings.insecure:
        raise ValueError(
            f"{parts.hostname} would be reached without encryption: use https://, or set {section}.insecure to true"
        )
    if parts.scheme == "http" and settings.ca_file is not None:
        raise ValueError("ca_file goes with https://")
    if (settings.user is None) != (settings.password is None):
        raise ValueError("user and password go together")
    if settings.user is not None and settings.api_key is not None:
        raise ValueError("set either user and password, or api_key")
