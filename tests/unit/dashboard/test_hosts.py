"""The allowed host names of the page."""

import asyncio
import contextlib
import http.client
import subprocess
import sys
import time

import pytest

from streamscore.dashboard import server
from streamscore.local.ports import free_port

pytest.importorskip("streamlit")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The port of a page with one additional host name."""
    from streamscore import config as configuration

    port = free_port()
    words = [f"dashboard.port={port}", "dashboard.hosts=[scores.example.com]"]
    config = configuration.load("local", words)
    command = server.command(config, ["--config", "local", *(word for pair in words for word in ("--set", pair))])
    log = tmp_path_factory.mktemp("page") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *command[1:]], stdout=output, stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                if status(port, "127.0.0.1") == 200:
                    break
            time.sleep(0.25)
        else:
            pytest.fail(log.read_text())
        yield port
    finally:
        process.terminate()
        process.wait(30)


def status(port, host, **headers):
    """Return the status of the page's answer to a request for a host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    path = "/_stcore/stream" if headers else "/_stcore/health"
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "scores.example.com", "scores.example.com:443"],
)
def test_page_is_served_under_names_of_its_own(page, host):
    """Allowed names are served with any port, as of a proxy."""
    assert status(page, host.format(port=page)) == 200


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:{port}", "127.0.0.1.evil.example.com", ""])
def test_page_is_refused_under_other_names(page, host):
    """Other names are refused, so that DNS rebinding cannot read the page."""
    assert status(page, host.format(port=page)) == 403


def test_updates_are_refused_under_other_names(page):
    """WebSocket connections, which carry the figures, are refused under other names."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    assert status(page, "127.0.0.1", **upgrade) == 101
    assert status(page, "evil.example.com", **upgrade) == 403


@pytest.fixture
def ask(monkeypatch):
    """Return a function that sends a connection through the middleware in this process; it returns the answers."""
    monkeypatch.setattr(sys, "argv", ["asgi.py"])  # read at the import
    from starlette.responses import PlainTextResponse

    from streamscore.dashboard import asgi

    async def inner(scope, receive, send):
        if scope["type"] == "http":
            await PlainTextResponse("figures")(scope, receive, send)
        else:
            await send({"type": f"{scope['type']}.passed"})

    def connect(kind, host, *words):
        config = asgi.settings([*(word for pair in words for word in ("--set", pair)), "--other", "1"])
        headers = [] if host is None else [(b"host", host.encode())]
        sent = []

        async def send(event):
            sent.append(event)

        app = asgi.AllowedHosts(inner, asgi.allowed_hosts(config))
        asyncio.run(app({"type": kind, "method": "GET", "path": "/", "headers": headers}, None, send))
        return sent

    return connect


@pytest.mark.parametrize("host", ["[::1]:8501", "Scores.Example.com:443", "10.0.0.7"])
def test_names_come_from_the_configuration(ask, host):
    """The listening address and dashboard.hosts are allowed beside loopback, in any case of letters."""
    start, body = ask("http", host, "dashboard.address=10.0.0.7", "dashboard.hosts=[scores.example.COM]")

    assert start["status"] == 200
    assert body["body"] == b"figures"


@pytest.mark.parametrize("host", ["10.0.0.7", "[::2]:8501", None])
def test_refusal_names_the_setting(ask, host):
    """Without the setting the same names are refused with 403, WebSockets with a policy violation."""
    start, body = ask("http", host)

    assert start["status"] == 403
    assert b"dashboard.hosts" in body["body"]
    assert ask("websocket", host) == [{"type": "websocket.close", "code": 1008}]
    assert ask("websocket", "localhost") == [{"type": "websocket.passed"}]


def test_server_s_own_events_have_no_host(ask):
    """Start and end of the server pass the check."""
    assert ask("lifespan", None) == [{"type": "lifespan.passed"}]
