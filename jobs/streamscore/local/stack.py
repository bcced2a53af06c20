"""Start the local servers in parallel, record them, and stop exactly those."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from streamscore.config import Config
from streamscore.errors import SetupError
from streamscore.local import artifacts, elasticsearch, java, kafka
from streamscore.local.process import Running, Server, signals_put_off, start, stop, tail
from streamscore.system.console import log, step
from streamscore.system.files import write_atomically

STATE_FILE = "servers.json"


def up(config: Config) -> list[Running]:
    """Start Kafka and Elasticsearch, unless they run already, and return when both answer.

    Raises:
        SetupError: no Java, a failed download, a taken port, a server that does not answer, or one that runs at
            another address than the configuration's; this call leaves none of its own servers running.
    """
    with _exclusive(config.state_dir):
        already = running(config)
        _require_addresses(config, already)
        missing = {kafka.NAME: kafka, elasticsearch.NAME: elasticsearch}
        here = {server: partial(missing.pop(server.name).probe, config) for server in already if server.name in missing}
        try:
            _await(here, config.local.start_seconds)
        except SetupError as error:
            raise SetupError(f"`streamscore down` stops what runs here but does not work: {error}") from None
        if not missing:
            return already
        found = java.find()
        groups = {kafka.NAME: artifacts.KAFKA, elasticsearch.NAME: artifacts.ELASTICSEARCH}
        artifacts.ensure(config.local.artifacts_dir, [groups[name] for name in missing], found)
        servers = [module.server(config, found) for module in missing.values()]
        return _start(config, servers, already)


def add(config: Config, server: Server) -> Running:
    """Start a further server, which ``down`` stops with those of ``up``.

    Raises:
        SetupError: the server does not answer; it is stopped again.
    """
    with _exclusive(config.state_dir):
        return _start(config, [server], running(config))[-1]


def down(config: Config) -> list[str]:
    """Stop the servers that ``up`` and ``add`` started and return their names."""
    if not config.state_dir.is_dir():
        return []
    with _exclusive(config.state_dir):
        stopped = [server.name for server in reversed(_recall(config)) if stop(server)]
        (config.state_dir / STATE_FILE).unlink(missing_ok=True)
        return stopped


def running(config: Config) -> list[Running]:
    """Return the servers that ``up`` or ``add`` started and that still run."""
    return [server for server in _recall(config) if server.process() is not None]


def _require_addresses(config: Config, already: Sequence[Running]) -> None:
    """Refuse a configuration whose addresses differ from those of the running servers."""
    wanted = {kafka.NAME: config.kafka.bootstrap_servers, elasticsearch.NAME: config.elasticsearch.url}
    for server in already:
        if server.name in wanted and server.address != wanted[server.name]:
            raise SetupError(
                f"{server.name} runs here at {server.address}, but the configuration says {wanted[server.name]}: "
                "stop it with `streamscore down`, or use another state_dir"
            )


def _start(config: Config, servers: Sequence[Server], already: Sequence[Running]) -> list[Running]:
    """Start servers and return when these and the running ones answer."""
    started: list[Running] = []
    try:
        with step(f"Starting {' and '.join(server.name for server in servers)}"):
            for server in servers:
                with signals_put_off():  # a signal between the two would leave an unrecorded server running
                    started.append(start(server))
                    _remember(config, [*already, *started])
            probes = (server.probe for server in servers)
            _await(dict(zip(started, probes, strict=True)), config.local.start_seconds)
    except BaseException:
        for process in reversed(started):
            stop(process)
        _remember(config, already)
        raise
    return [*already, *started]


def _await(probes: Mapping[Running, Callable[[], str]], patience: float) -> None:
    """Wait until every server answers in its own protocol."""
    deadline = time.monotonic() + patience
    waiting = dict(probes)
    while waiting:
        for server, probe in list(waiting.items()):
            if server.process() is None:
                raise SetupError(f"{server.name} ended while it started. {_end_of_log(server)}")
            try:
                probe()
            except Exception as error:  # noqa: BLE001 (any error means: not ready yet)
                if time.monotonic() > deadline:
                    raise SetupError(
                        f"{server.name} did not answer at {server.address} within {patience:.0f} s ({error}). "
                        f"{_end_of_log(server)}"
                    ) from None
            else:
                log.debug("%s answers", server.name)
                del waiting[server]
        if waiting:
            time.sleep(0.2)


def _end_of_log(server: Running) -> str:
    return f"The end of {server.log}:\n{tail(Path(server.log))}"


def _recall(config: Config) -> list[Running]:
    try:
        entries = json.loads((config.state_dir / STATE_FILE).read_text())
        return [Running(**entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise SetupError(
            f"{config.state_dir / STATE_FILE} is damaged ({error}): stop the servers by hand, delete it"
        ) from None


def _remember(config: Config, servers: Sequence[Running]) -> None:
    path = config.state_dir / STATE_FILE
    if not servers:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, json.dumps([asdict(server) for server in servers], indent=2).encode())


@contextmanager
def _exclusive(state_dir: Path) -> Iterator[None]:
    """Hold the lock of a state folder, so that only one ``up`` or ``down`` works on it at a time."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another streamscore is starting or stopping the servers of {state_dir}") from None
        except OSError as error:
            raise SetupError(
                f"{state_dir} is on a file system without locks ({error.strerror}): set state_dir"
            ) from None
        yield
