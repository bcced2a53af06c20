"""Downloads: certificate authorities, proxies, and failures."""

import datetime as dt
import os
import ssl
import subprocess
import sysconfig
import time
import warnings
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from streamscore.errors import SetupError
from streamscore.local import artifacts, ivy, java
from streamscore.local.ivy import Downloads, Group
from streamscore.spark.maven import Coordinate


def test_failed_download_shows_ivy_s_last_lines_and_leaves_nothing(monkeypatch, tmp_path):
    """A failed download, here through an absent proxy, reports Ivy's reason and leaves no files."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    group = Group("kafka", (Coordinate("org.apache.commons", "commons-pool2", "2.11.1"),), transitive=False)
    monkeypatch.setattr(artifacts, "KAFKA", group)

    with pytest.raises(SetupError, match=r"(?s)fetching kafka failed: is the network there, .* Ivy says:\n  .*refused"):
        artifacts.ensure(tmp_path, [group], java.find())

    assert list(tmp_path.iterdir()) == []


def authority(serial_number):
    """Return an authority's certificate in the form of this machine's store, signed with serial number 1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    then = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, then, then + dt.timedelta(days=1))
    der = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return der.replace(b"\x02\x01\x01", b"\x02\x01" + bytes([serial_number]), 1)


@pytest.mark.filterwarnings("error")
def test_store_holds_whom_this_machine_trusts(monkeypatch, tmp_path):
    """The store has this machine's authorities, without unreadable ones and without warnings."""
    known = [authority(7), b"unreadable", authority(0)]
    monkeypatch.setattr(ssl.SSLContext, "get_ca_certs", lambda *_, **__: known)

    options = ivy._trust_store(tmp_path)
    (store,) = tmp_path.iterdir()

    assert options[0] == f"-Djavax.net.ssl.trustStore={store}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trusted = pkcs12.load_pkcs12(store.read_bytes(), b"changeit").additional_certs
        assert [entry.certificate.serial_number for entry in trusted] == [7, 0]


@pytest.fixture
def proxies(monkeypatch):
    """Return a function that sets the proxies of the environment."""

    def set_to(**proxies):
        for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.delenv(name, raising=False)
        for name, value in proxies.items():
            monkeypatch.setenv(name, value)

    return set_to


def test_java_is_told_of_the_proxy_that_python_uses(proxies, tmp_path):
    """The JVM options name the environment's proxy."""
    proxies(https_proxy="http://proxy.example:3128", no_proxy="localhost, .example.org")

    assert ivy.proxy_options(tmp_path) == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|*.example.org",
    ]


def test_proxy_s_password_is_in_a_file_that_nobody_else_reads(proxies, tmp_path):
    """The proxy's password is in a private file, and not on the command line."""
    proxies(https_proxy="http://ada:p%40ss%22w%5Co%20rd@proxy.example:3128")
    options = ivy.proxy_options(tmp_path)
    command = [java.find().executable, *options, "-XshowSettings:properties", "-version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert "ss" not in " ".join(options).replace(str(tmp_path), "").replace("Schemes", "")
    assert (tmp_path / "proxy").stat().st_mode & 0o777 == 0o600
    assert "http.proxyUser = ada" in said
    assert 'http.proxyPassword = p@ss"w\\o rd' in said


@pytest.mark.parametrize("address", ["http://u:hun/ter2@h:1", "u:hunter2@h:port", "http://u:hun[ter2@h:1"])
def test_address_that_is_no_proxy_s_is_told_of(proxies, tmp_path, address):
    """An invalid proxy address is reported without the address, which may contain a password."""
    proxies(https_proxy=address)

    with pytest.raises(SetupError, match="^https_proxy is no proxy's address: expected") as caught:
        ivy.proxy_options(tmp_path)
    assert "ter2" not in str(caught.value)


def java_that_trusts(folder, whom):
    """Write a fake Java that downloads only with the given trust store."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/bash\n"
        f"[[ \"$*\" == *{whom}* ]] || {{ echo 'WARN: sun.security.validator: PKIX path building failed'; exit 1; }}\n"
        'target=$(dirname "${@: -1}"); mkdir -p "$target"; echo content > "$target/a-1.jar"\n'
    )
    program.chmod(0o755)
    return java.Java(folder, "17.0.1", "JAVA_HOME")


GROUP = Group("kafka", (Coordinate("org.example", "a", "1"),), transitive=False)


def test_java_that_does_not_know_a_company_s_authority_is_told_of_this_machine_s(tmp_path):
    """If Java lacks an authority, the download is retried with this machine's."""
    Downloads(tmp_path / "artifacts", java_that_trusts(tmp_path, "javax.net.ssl.trustStore="), lambda _: None).fetch(
        GROUP
    )

    assert (tmp_path / "artifacts" / "kafka" / "a-1.jar").is_file()


def test_authority_that_nobody_knows_is_told_of(tmp_path):
    """An unknown authority is reported with the way to add it."""
    with pytest.raises(SetupError, match=r"(?s)name its authority with SSL_CERT_FILE. Ivy says:\n  .*PKIX path"):
        Downloads(tmp_path / "artifacts", java_that_trusts(tmp_path, "-Dnever"), lambda _: None).fetch(GROUP)


def test_what_a_killed_download_has_left_is_removed(tmp_path):
    """Leftovers of a killed download are removed."""
    left = tmp_path / "artifacts" / ".kafka-abc"
    left.mkdir(parents=True)
    Downloads(tmp_path / "artifacts", java_that_trusts(tmp_path, "-jar"), lambda _: None).fetch(GROUP)

    assert not left.exists()


def test_download_that_is_told_to_end_does(tmp_path):
    """SIGTERM ends a download with all its processes, without a retry."""
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/bash\n"
        "[[ $* == *-XshowSettings* ]] || { echo PKIX path building failed; exec sleep 61; }\n"
        f"echo '    java.home = {tmp_path}' >&2; echo '    java.version = 17.0.1' >&2\n"
    )
    program.chmod(0o755)
    words = ["jars", "--set", f"local.artifacts_dir={tmp_path / 'artifacts'}", "--set", f"state_dir={tmp_path}"]
    command = [Path(sysconfig.get_path("scripts")) / "streamscore", *words]
    with subprocess.Popen(command, env={**os.environ, "JAVA_HOME": str(tmp_path)}, stderr=subprocess.DEVNULL) as jars:
        while not (children := psutil.Process(jars.pid).children()):
            assert jars.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        jars.terminate()

        assert jars.wait(20) == 130
        assert psutil.wait_procs(children, 5)[1] == []
