"""The start of the live page."""

import ast
import socket
import subprocess
import sys

import pytest

from streamscore import config
from streamscore.dashboard import server
from streamscore.errors import SetupError


def test_page_listens_where_the_configuration_says():
    """The page listens on loopback by default, and sends no usage statistics."""
    words = server.command(config.load("local", ["dashboard.port=9001"]), ["--config", "local"])
    options = dict(zip(words[5:-3:2], words[6:-3:2], strict=True))

    assert options["--server.address"] == "127.0.0.1"
    assert options["--server.port"] == "9001"
    assert options["--browser.gatherUsageStats"] == "false"
    assert words[-3:] == ["--", "--config", "local"]


def test_address_can_be_opened_on_this_machine():
    """The address to open never is 0.0.0.0."""
    assert server.address(config.load("local", ["dashboard.address=0.0.0.0"])) == "http://127.0.0.1:8501"


def test_without_the_extra_the_way_out_is_named(monkeypatch):
    """The message has the command that installs the extra."""
    monkeypatch.setattr(server, "find_spec", lambda _: None)

    with pytest.raises(SetupError, match=r'pip install "\$\(ls dist/streamscore-\*.whl\)\[dashboard\]"'):
        server.command(config.load(), [])


def test_taken_port_is_named():
    """The message names the port and the key that chooses another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(SetupError, match=rf"port {port} .*--set dashboard.port={port + 1}"):
            server.server(config.load("local", [f"dashboard.port={port}"]), [])


def test_only_the_page_needs_the_extra(root):
    """Jobs, command line and report do not import Streamlit or Altair."""
    package = root / "jobs" / "streamscore"
    needing = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and {alias.name for alias in node.names} & {"streamlit", "altair"}
    }
    code = "import sys, streamscore.cli, streamscore.cli.demo, streamscore.dashboard.report; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert needing == {"dashboard/page.py", "dashboard/charts.py"}
    assert "'streamlit'" not in loaded
    assert "'altair'" not in loaded
