"""The ASGI application of the live page, which serves requests to allowed hosts only.

Without that check any site that a user visits could read the page by DNS rebinding: the browser takes the site and the
page for one origin while the site's name resolves to 127.0.0.1.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from streamlit.starlette import App

from streamscore import config as configuration
from streamscore.config import Config

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def allowed_hosts(config: Config) -> frozenset[str]:
    """Return the host names of allowed requests: those of this machine, and ``dashboard.hosts``."""
    return frozenset(name.lower() for name in (*LOOPBACK, config.dashboard.address, *config.dashboard.hosts))


def host_name(header: str) -> str:
    """Return the name in a Host header, without the port and without the brackets of an IPv6 address."""
    name = header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
    return name.lower()


class AllowedHosts:
    """ASGI middleware that refuses requests and WebSocket connections to other hosts."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403.

        Args:
            scope: the ASGI scope of the connection.
            receive: receives the next event of the connection.
            send: sends an event.
        """
        header = next((value for name, value in scope.get("headers", ()) if name == b"host"), b"").decode("latin-1")
        if scope["type"] == "lifespan" or host_name(header) in self._hosts:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            text = "This page is not served under that name: see dashboard.hosts in the configuration.\n"
            await PlainTextResponse(text, status_code=403)(scope, receive, send)


def settings(argv: Sequence[str] | None = None) -> Config:
    """Return the configuration of the page's arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="local")
    parser.add_argument("--set", action="append", default=[])
    arguments, _ = parser.parse_known_args(argv)
    return configuration.load(arguments.config, arguments.set)


app = App(Path(__file__).with_name("app.py"), middleware=[Middleware(AllowedHosts, hosts=allowed_hosts(settings()))])
