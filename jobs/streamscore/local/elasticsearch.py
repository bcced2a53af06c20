"""An Elasticsearch node on loopback, from the test distribution on Maven Central."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

from streamscore.clients import elasticsearch
from streamscore.config import Config
from streamscore.errors import ConfigError, SetupError
from streamscore.local import java as javas
from streamscore.local.artifacts import elasticsearch_home
from streamscore.local.java import Java
from streamscore.local.ports import free_port, require_free, require_loopback
from streamscore.local.process import Server

NAME = "elasticsearch"

# The node refuses to start with a key of a module that this distribution lacks.
SETTINGS = """\
cluster.name: streamscore
node.name: streamscore
discovery.type: single-node
network.host: "{host}"
http.port: {port}
transport.port: {transport_port}
path.data: "{folder}/data"
path.logs: "{folder}/logs"
xpack.security.enabled: false
xpack.security.enrollment.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""

JVM_OPTIONS = """\
-XX:+UseG1GC
-XX:+ExitOnOutOfMemoryError
-XX:ErrorFile={folder}/logs/hs_err_pid%p.log
-Djava.io.tmpdir=${{ES_TMPDIR}}
"""

UNPRIVILEGED = 65534  # "nobody" by convention; the number needs no entry in any password file


def server(config: Config, java: Java) -> Server:
    """Write the node's files and return its server; started by root, the node runs as an unprivileged user.

    Raises:
        ConfigError: the configured address is not a plain loopback address.
        SetupError: the port is taken, or the unprivileged user cannot access the node's files.
    """
    settings = config.elasticsearch
    require_loopback(settings.host, "elasticsearch.url")
    if not settings.url.startswith("http://"):
        raise ConfigError(f"elasticsearch.url: `streamscore up` speaks plain http on loopback, found {settings.url}")
    require_free(settings.host, settings.port, f"elasticsearch.url=http://{settings.host}:{settings.port + 1}")
    home = elasticsearch_home(config.local.artifacts_dir)
    folder = config.state_dir / NAME
    for name in ("config/jvm.options.d", "data", "logs", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(home / "config" / "log4j2.properties", folder / "config")
    (folder / "config" / "elasticsearch.yml").write_text(
        SETTINGS.format(host=settings.host, port=settings.port, transport_port=free_port(), folder=folder),
        encoding="utf-8",
    )
    (folder / "config" / "jvm.options").write_text(JVM_OPTIONS.format(folder=folder), encoding="utf-8")
    heap = config.local.elasticsearch_heap
    environment = {
        **javas.server_environment(java),
        # Applies to the script's helper JVMs too: no folder in /tmp.
        "JDK_JAVA_OPTIONS": f"{os.environ.get('JDK_JAVA_OPTIONS', '')} -XX:-UsePerfData".strip(),
        "ES_JAVA_HOME": str(java.home),
        "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
        "ES_PATH_CONF": str(folder / "config"),
        "ES_TMPDIR": str(folder / "tmp"),
    }
    command = [*_as_unprivileged(folder, home, java), str(home / "bin" / "elasticsearch")]
    return Server(
        name=NAME,
        command=command,
        environment=environment,
        address=settings.url,
        log=folder / "elasticsearch.log",
        probe=partial(probe, config),
    )


def probe(config: Config) -> str:
    """Return the version of the running node; raise any error while the node does not answer."""
    return elasticsearch.health(config.elasticsearch, timeout=1.0)


def _as_unprivileged(folder: Path, home: Path, java: Java) -> list[str]:
    """Return the command prefix that drops root, which Elasticsearch refuses; empty for an ordinary user.

    Another user cannot enter a clone below /root or in a private temporary folder. There the process keeps one of
    root's capabilities, to traverse folders, so that the user's folders need not be opened to everybody.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise SetupError(
            "Elasticsearch refuses to run as root, and setpriv (package util-linux) is not here to start it as another "
            "user: install it, or run streamscore as an ordinary user"
        )
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)  # the user could have placed a link here
    drop = ["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups"]
    keep = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
    for prefix in (drop, [*drop, *keep]):
        # Real operations, because `test -w` and `test -x` ignore capabilities.
        trials = [
            ["touch", str(folder / "data" / ".writable")],
            ["head", "-c", "1", str(home / "bin" / "elasticsearch")],
            [str(java.executable), "-XX:-UsePerfData", "-version"],
        ]
        if all(subprocess.run([*prefix, *trial], capture_output=True, check=False).returncode == 0 for trial in trials):
            return prefix
    raise SetupError(
        f"Elasticsearch refuses to run as root, and user {UNPRIVILEGED} cannot get at {folder}: "
        "set state_dir to a folder that every user may enter, for instance --set state_dir=/var/tmp/streamscore"
    )
