"""Loopback ports of the local servers."""

from __future__ import annotations

import random
import socket

import psutil

from streamscore.config import is_loopback
from streamscore.errors import ConfigError, SetupError

_LASTING = range(20_000, 32_768)
"""Ports below the ephemeral ones, which begin at 32,768 on Linux and at 49,152 elsewhere."""


def require_loopback(host: str, key: str) -> None:
    """Refuse to start a server on an address that other machines can reach.

    Raises:
        ConfigError: the host of the given configuration key is not a loopback address.
    """
    if not is_loopback(host):
        raise ConfigError(f"{key}: `streamscore up` starts servers on loopback only, found {host}")


def require_free(host: str, port: int, key: str) -> None:
    """Refuse a port that another process listens on.

    Args:
        host: the address to listen on.
        port: the port.
        key: configuration key and value that choose another port, for the error message.

    Raises:
        SetupError: the port is taken; the message names the process if the system shows it.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"port {port} of {host} is in use{_owner(port)} ({error.strerror}): stop that program, "
                f"or choose another port with --set {key}"
            ) from None


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now.

    It is not an ephemeral port, which an outgoing connection could take between a server's stop and its next start.

    Raises:
        SetupError: no port is free.
    """
    for port in random.SystemRandom().sample(_LASTING, 100):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise SetupError(f"no port of {host} between {_LASTING.start} and {_LASTING.stop} is free")


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})" if connection.pid else ""
    except (psutil.Error, OSError):
        pass  # this user may not see other users' processes; the message has the port alone
    return ""
