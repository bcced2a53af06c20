"""The state of an installation: versions, servers, and the job that scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyspark

from streamscore import __version__
from streamscore.clients import elasticsearch
from streamscore.clients import kafka as kafka_client
from streamscore.config import Config
from streamscore.errors import ServerError, SetupError
from streamscore.local import java
from streamscore.stream import folders, lease
from streamscore.system.paths import is_local

PATIENCE = 3.0
"""Seconds that a server may take to answer."""


class Server(NamedTuple):
    """A server: its address, whether it answers, and its report or the reason why it does not answer."""

    name: str
    address: str
    ok: bool
    detail: str


class Job(NamedTuple):
    """The job that scores: its process on this machine, or why that is unknown."""

    checkpoint: str
    process: int | None
    error: str | None


class State(NamedTuple):
    """The state of an installation; ``job`` is None if only Spark can read the checkpoint."""

    state_dir: str
    java: str | None
    java_error: str
    servers: list[Server]
    job: Job | None

    @property
    def ok(self) -> bool:
        """Whether all servers answer."""
        return all(server.ok for server in self.servers)

    def as_json(self) -> dict[str, Any]:
        """Return the output of --json, which the command's help describes."""
        return {
            "ok": self.ok,
            "version": __version__,
            "state_dir": self.state_dir,
            "java": self.java,
            "spark": pyspark.__version__,
            "servers": [server._asdict() for server in self.servers],
            "job": None if self.job is None else self.job._asdict(),
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the name and a line of text of each part."""
        yield "streamscore", f"{__version__}, state in {self.state_dir}"
        yield "java", self.java or f"none: {self.java_error}"
        yield "spark", pyspark.__version__
        for server in self.servers:
            yield server.name, f"answers at {server.address}, {server.detail}" if server.ok else server.detail
        if self.job is not None:
            process = "no process of this machine" if self.job.process is None else f"process {self.job.process}"
            text = process if self.job.error is None else f"cannot be read: {self.job.error}"
            yield "score_stream", f"{text}, checkpoint {self.job.checkpoint}"


def inspect(config: Config) -> State:
    """Return the state of an installation, also if servers do not answer."""
    kafka, search = config.kafka, config.elasticsearch
    servers = [_server("kafka", kafka.bootstrap_servers, lambda: f"topics: {_topics(config)}")]
    if search.enabled:
        servers.append(
            _server("elasticsearch", search.url, lambda: f"version {elasticsearch.health(search, PATIENCE)}")
        )
    try:
        home, error = str(java.find()), ""
    except SetupError as problem:
        home, error = None, str(problem)
    return State(str(config.state_dir), home, error, servers, _job(config.stream.checkpoint))


def _topics(config: Config) -> str:
    return ", ".join(kafka_client.names(config.kafka, PATIENCE)) or "none"


def _server(name: str, address: str, ask: Callable[[], str]) -> Server:
    try:
        return Server(name, address, True, ask())
    except ServerError as error:
        return Server(name, address, False, str(error))


def _job(location: str) -> Job | None:
    if not is_local(location):
        return None
    try:
        return Job(location, lease.holder(folders.open_folder(location)), None)
    except OSError as error:
        return Job(location, None, str(error))
