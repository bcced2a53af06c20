"""A small HTTP endpoint for probes and scrapers, in a background thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from streamscore.system.console import log

REQUEST_SECONDS: Final = 10.0
"""Seconds after which a client that sends no complete request is cut off."""


@dataclass(frozen=True)
class Page:
    """An answer."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


class Endpoint:
    """Serves pages, made for each request, until it is closed; each request has a thread of its own."""

    def __init__(self, address: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        """Listen.

        Args:
            address: the address to listen on.
            port: the port; 0: any free one.
            pages: by path a function that makes the page; it is called in other threads.

        Raises:
            OSError: the port is in use, or this machine does not have the address.
        """
        self._server = _server(address, port, pages)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="endpoint", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening; requests that are being answered do not delay the end of the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def require_free(address: str, port: int) -> None:
    """Try whether the endpoint can listen.

    Raises:
        OSError: the port is in use, or this machine does not have the address.
    """
    with socket.socket(_family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.strip("[]"), port))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _server(address: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        address_family = _family(address)
        daemon_threads = True
        block_on_close = False

        def server_bind(self) -> None:
            """Bind without the look-up of the host's name, which may take long and which nobody needs."""
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = address, self.server_address[1]

        def handle_error(self, _request: Any, _client_address: Any) -> None:
            """Log a failure; a client that goes away is none of the job's troubles."""
            log.debug("a request to the endpoint failed", exc_info=True)

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def version_string(self) -> str:
            """Return the name of the server, without the versions that the base class would tell."""
            return "streamscore"

        def log_message(self, *_words: Any) -> None:
            """Log nothing: a scraper comes every few seconds."""

        def _answer(self, *, with_body: bool) -> None:
            make = pages.get(self.path.partition("?")[0])
            page = Page(b"not found\n", 404) if make is None else make()
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if with_body:
                self.wfile.write(page.body)

    return Server((address.strip("[]"), port), Handler)
