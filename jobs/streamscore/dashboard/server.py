"""Start the web server of the live page, here or beside the local servers, without importing Streamlit."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from streamscore.config import Config
from streamscore.dashboard.palette import MODELS
from streamscore.errors import SetupError
from streamscore.local.ports import require_free
from streamscore.local.process import Server

NAME = "page"
ASGI = Path(__file__).parent / "asgi.py"
INSTALL = 'pip install "$(ls dist/streamscore-*.whl)[dashboard]", in the repository after `make wheel`'


def installed() -> bool:
    """Return whether the packages of the live page are installed."""
    return all(find_spec(package) is not None for package in ("streamlit", "altair"))


def address(config: Config) -> str:
    """Return the address to open on this machine."""
    host = config.dashboard.address
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{config.dashboard.port}"  # noqa: S104


def command(config: Config, argv: Sequence[str]) -> list[str]:
    """Return the command that serves the page.

    Args:
        config: the configuration.
        argv: the configuration's arguments (``--config``, ``--set``), which contain no secrets but references to them.

    Raises:
        SetupError: the extra is not installed.
    """
    if not installed():
        raise SetupError(f"the live page needs Streamlit and Altair, which are not installed: {INSTALL}")
    options = {
        **{f"theme.{base}.primaryColor": getattr(MODELS[0], base) for base in ("light", "dark")},
        "server.address": config.dashboard.address,
        "server.port": str(config.dashboard.port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(ASGI), *words, "--", *argv]


def server(config: Config, argv: Sequence[str]) -> Server:
    """Return the page's server, to start beside the local servers.

    Raises:
        SetupError: the extra is not installed, or the port is taken.
    """
    words = command(config, argv)
    _require_port(config)
    return Server(
        name=NAME,
        command=words,
        environment=dict(os.environ),
        address=address(config),
        log=config.state_dir / "logs" / "page.log",
        probe=lambda: _probe(config),
    )


def become(config: Config, argv: Sequence[str]) -> NoReturn:
    """Replace this process with the page's server, so that Ctrl-C ends the server.

    Raises:
        SetupError: the extra is not installed, or the port is taken.
    """
    words = command(config, argv)
    _require_port(config)
    os.execv(words[0], words)  # noqa: S606 (no shell is wanted)


def _require_port(config: Config) -> None:
    require_free(config.dashboard.address, config.dashboard.port, f"dashboard.port={config.dashboard.port + 1}")


def _probe(config: Config) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine
    with direct.open(f"{address(config)}/_stcore/health", timeout=2) as answer:
        return str(answer.read(100).decode())
