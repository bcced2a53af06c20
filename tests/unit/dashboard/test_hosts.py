"""The allowed host names of the page."""

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
