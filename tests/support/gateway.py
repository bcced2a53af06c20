"""A gateway in front of Elasticsearch with configurable faults."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

ANSWERED = b'{"took":1,"errors":false,"items":[]}'
PAGE = b"<html><body><h1>nginx</h1></body></html>"


class Gateway:
    """A gateway that forwards all requests to Elasticsearch, with faults on bulk requests by its attributes."""

    def __init__(self, url: str) -> None:
        self.upstream = url
        self.swallowed = 0
        """Number of further bulk requests to answer with 200 and no items."""
        self.failing = []
        """Statuses with which to answer the next bulk requests, instead of forwarding them."""
        self.limit = None
        """Largest bulk request in bytes; a larger one gets 413."""
        self.before_bulk = lambda: None
        """Called before a bulk request is forwarded."""
        self.bulks = []
        """The sizes of the forwarded bulk requests, in bytes."""
        self._open()

    def _open(self, port: int = 0) -> None:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                """Forward or answer a request."""
                self.answer(*gateway.response(self, self.rfile.read(int(self.headers.get("Content-Length", 0)))))

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = forward  # noqa: N815 (http.server's names)

            def answer(self, status: int, kind: str, body: bytes) -> None:
                """Send an answer."""
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("X-Elastic-Product", "Elasticsearch")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            def log_message(self, *_words) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def response(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        """Return status, content type and body of an answer."""
        if "_bulk" in request.path:
            if self.limit is not None and len(body) > self.limit:
                return 413, "text/html", PAGE
            if self.failing:
                return self.failing.pop(0), "text/html", PAGE
            if self.swallowed:
                self.swallowed -= 1
                return 200, "application/json", ANSWERED
            self.before_bulk()
            self.bulks.append(len(body))
        kept = {name: request.headers[name] for name in ("Content-Type", "Accept") if name in request.headers}
        done = requests.request(request.command, self.upstream + request.path, data=body, headers=kept, timeout=60)
        return done.status_code, done.headers.get("Content-Type", ""), done.content

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    def reopen(self) -> None:
        """Accept connections again, at the same port."""
        self._open(self.port)
