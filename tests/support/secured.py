"""A Kafka with SASL_SSL and ACLs, and an Elasticsearch with TLS and users, who may do what docs/production.md lists."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streamscore import config as configuration
from streamscore.clients import elasticsearch, kafka
from streamscore.config import Config
from streamscore.local import artifacts, java, process
from streamscore.local import elasticsearch as local_elasticsearch
from streamscore.local import kafka as local_kafka
from streamscore.local.ports import free_port

PLAIN_KEY = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Grant(NamedTuple):
    """An ACL or a privilege: ``Read`` on ``topic`` ``clicks``, ``write`` on ``index`` ``clicks``."""

    kind: str
    name: str
    operation: str


def grants(document: str, heading: str, command: str) -> list[Grant]:
    """Return what a table of docs/production.md grants to a command.

    Args:
        document: the text.
        heading: the table's first line.
        command: the command, as its first column has it.
    """
    table = document.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0]
    found = []
    for row in table.splitlines()[1:]:
        commands, place, operations = (cell.strip() for cell in row.strip("|").split("|"))
        if f"`{command}`" in commands:
            kind = next(kind for kind in ("topic", "group", "cluster", "ind") if place.startswith(kind))
            names = re.findall("`([^`]+)`", place) or [kind]
            found += [Grant(kind, name, operation) for name in names for operation in operations.split(", ")]
    return found


class Authority:
    """A certificate authority with its files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._sign(self._name, self._key, 9, x509.BasicConstraints(ca=True, path_length=None)))

    def certificate(self, name: str, days: int = 1) -> tuple[Path, Path]:
        """Write a certificate for 127.0.0.1 and its key; return both files. With negative days it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        files = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        files[0].write_bytes(self._sign(subject, key, days, address))
        files[1].write_bytes(key.private_bytes(*PLAIN_KEY))
        return files

    def both(self, name: str, days: int = 1) -> Path:
        """Write a certificate and its key to one file."""
        certificate, key = self.certificate(name, days)
        file = self._folder / f"{name}.pem"
        file.write_bytes(key.read_bytes() + certificate.read_bytes())
        return file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, extension) -> bytes:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=9))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@dataclass
class Account:
    """A user of both servers."""

    name: str
    acls: Sequence[Grant] = ()
    privileges: Sequence[Grant] = ()
    token: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def password(self) -> str:
        """The password, with characters that have to be escaped."""
        return f'"{self.token}\\'

    def jaas(self, mechanism: str = "scram.Scram") -> str:
        """Return the line of the README's file kafka-jaas."""
        escaped = self.password.replace("\\", "\\\\").replace('"', '\\"')
        module = f"org.apache.kafka.common.security.{mechanism}LoginModule"
        return f'{module} required username="{self.name}" password="{escaped}";'


class World:
    """The two servers, the accounts, and configurations as the README describes them."""

    def __init__(self, root: Path, folder: Path, models: str) -> None:
        self.folder, self._root, self._models = folder, root, models
        self.authority = Authority(folder, "ours")
        self.other_authority = Authority(folder, "another")
        self.accounts: dict[str, Account] = {}
        ports = {"kafka": free_port(), "secured": free_port(), "expired": free_port(), "two_way": free_port()}
        self.ports = ports | {"elasticsearch": free_port()}

    @cached_property
    def document(self) -> str:
        """The text of docs/production.md."""
        return (self._root / "docs" / "production.md").read_text(encoding="utf-8")

    def add(self, account: Account) -> Account:
        """Add an account; before the servers start."""
        self.accounts[account.name] = account
        return account

    def config(self, user: str, *overrides: str, **changes) -> Config:
        """Return a configuration for an account; the arguments are those of ``file``, and overrides."""
        return configuration.load(str(self.file(user, **changes)), list(overrides))

    def file(
        self,
        user: str,
        *,
        jaas: str | None = None,
        options: Mapping[str, str] | None = None,
        topics: Mapping[str, str] | None = None,
        password: str | None = None,
        certificate: bool = False,
        kafka: str | None = None,
        search: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the README's my.yml for an account, with its own addresses, folders and credentials.

        Args:
            user: name of the account.
            jaas: content of kafka-jaas; None: the account's.
            options: further options of Kafka's client.
            topics: other names of topics.
            password: password for Elasticsearch; None: the account's.
            certificate: whether Kafka's client has a certificate of its own too.
            kafka: address of another listener.
            search: other settings of Elasticsearch.
        """
        account = self.accounts[user]
        folder = self.folder / "etc" / f"{user}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        (folder / "kafka-jaas").write_text(jaas or account.jaas())
        (folder / "es-password").write_text(account.password if password is None else password)
        (folder / "ca.pem").write_bytes(self.authority.file.read_bytes())
        readme = (self._root / "README.md").read_text(encoding="utf-8")
        readme = readme.replace("/etc/streamscore", str(folder))
        readme = readme.replace("/var/lib/streamscore", str(self.folder / "state"))
        settings = yaml.safe_load(re.findall(r"```yaml\n# my.yml\n(.*?)```", readme, re.DOTALL)[0])
        trust = yaml.safe_load(re.findall(r"```text\n(ssl\..*?)```", readme, re.DOTALL)[0])
        if certificate:
            self._write_client_certificate(folder)
        else:
            trust = {name: value for name, value in trust.items() if name.startswith("ssl.truststore")}
        settings["kafka"]["options"] |= {**trust, **(options or {})}
        settings["kafka"]["topics"] |= topics or {}
        address = kafka or f"127.0.0.1:{self.ports['secured']}"
        settings["kafka"] |= {"bootstrap_servers": address, "replication_factor": 1, "partitions": 2}
        settings["message"]["label_field"] = "label"
        settings["models"] = yaml.safe_load(self._models)
        del settings["mlflow"], settings["elasticsearch"]["api_key"]
        settings["elasticsearch"] |= {
            "url": f"https://127.0.0.1:{self.ports['elasticsearch']}",
            "ca_file": str(folder / "ca.pem"),
            "user": user,
            "password": f"${{file:{folder}/es-password}}",
            **(search or {}),
        }
        settings["spark"] |= {"master": "local[2]", "driver_memory": "1g", "shuffle_partitions": 2}
        settings["seed"] = {"source": str(self.folder / "seed")}
        settings["local"] = {"artifacts_dir": str(self._root / ".streamscore" / "artifacts")}
        file = folder / "my.yml"
        file.write_text(yaml.safe_dump(settings))
        return file

    def _write_client_certificate(self, folder: Path) -> None:
        """Write a certificate and its key, encrypted by the README's command."""
        certificate, key = self.authority.certificate(folder.name)
        password = self.accounts["plain"].token
        (folder / "client-key-password").write_text(password)
        command = "openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -in key.pem -out client-key.pem"
        assert command in (self._root / "README.md").read_text()
        words = [*command.replace("key.pem", str(key), 1).split()[:-1], str(folder / "key.pem")]
        subprocess.run([*words, "-passout", f"pass:{password}"], check=True, capture_output=True)
        (folder / "client.pem").write_bytes((folder / "key.pem").read_bytes() + certificate.read_bytes())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start both servers, and give the accounts what they may do."""
        found = java.find()
        settings = configuration.load(
            "local",
            [
                f"state_dir={self.folder / 'servers'}",
                f"local.artifacts_dir={self._root / '.streamscore' / 'artifacts'}",
                "local.kafka_heap=256m",
                "local.elasticsearch_heap=400m",
                f"kafka.bootstrap_servers=127.0.0.1:{self.ports['kafka']}",
                f"elasticsearch.url=http://127.0.0.1:{self.ports['elasticsearch']}",
            ],
        )
        artifacts.ensure(settings.local.artifacts_dir, (artifacts.KAFKA, artifacts.ELASTICSEARCH), found)
        started = [process.start(self._elasticsearch(settings, found)), process.start(self._kafka(settings, found))]
        try:
            _await(lambda: kafka.names(settings.kafka, 1.0), started[1])
            self._let_in(settings)
            _await(lambda: elasticsearch.health(self.config("admin").elasticsearch, 1.0), started[0])
            yield
        finally:
            for server in started:
                process.stop(server)

    def _kafka(self, settings: Config, found: java.Java) -> process.Server:
        """Return a broker that has listeners with SASL_SSL beside the plain one of brokers and controllers."""
        server = local_kafka.server(settings, found)
        plain = self.accounts["plain"]
        listeners = {
            "SECURED": (self.authority.both("broker"), self.ports["secured"]),
            "EXPIRED": (self.authority.both("expired-broker", days=-1), self.ports["expired"]),
            "TWOWAY": (self.authority.both("two-way-broker"), self.ports["two_way"]),
        }
        properties = Path(server.command[-1])
        text = properties.read_text(encoding="ascii")
        more = [f"{name}://127.0.0.1:{port}" for name, (_, port) in listeners.items()]
        for key in ("listeners", "advertised.listeners"):
            text = re.sub(rf"^{key}=(.*)$", rf"{key}=\1,{','.join(more)}", text, flags=re.MULTILINE)
        secured = ",".join(f"{name}:SASL_SSL" for name in listeners)
        text = re.sub(r"^(listener.security.protocol.map=.*)$", rf"\1,{secured}", text, flags=re.MULTILINE)
        lines = [
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS;User:admin",  # nobody is anonymous on a listener with SASL
            "sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.authority.file}",
            "listener.name.twoway.ssl.client.auth=required",
        ]
        for name, (file, _) in listeners.items():
            prefix = f"listener.name.{name.lower()}"
            module = "org.apache.kafka.common.security"
            lines += [
                f"{prefix}.ssl.keystore.type=PEM",
                f"{prefix}.ssl.keystore.location={file}",
                f"{prefix}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;",
                f'{prefix}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_plain="{plain.token}";',
            ]
        properties.write_text("\n".join([text, *lines, ""]), encoding="ascii")
        return server

    def _let_in(self, settings: Config) -> None:
        """Make the users of Kafka, and let the administrator give them their ACLs."""
        from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

        kind = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        users = [
            UserScramCredentialUpsertion(account.name, kind, account.password.encode())
            for account in self.accounts.values()
        ]
        anybody = kafka.admin(settings.kafka)
        for future in anybody.alter_user_scram_credentials(users).values():
            future.result(30)
        connection = self.config("admin").kafka
        _await(lambda: kafka.names(connection, 1.0))
        self._grant()

    def _grant(self) -> None:
        """Let the administrator give all accounts their ACLs, and wait until they are in force."""
        from confluent_kafka.admin import (
            AclBinding,
            AclBindingFilter,
            AclOperation,
            AclPermissionType,
            ResourcePatternType,
            ResourceType,
        )

        bindings = [
            AclBinding(
                ResourceType.TOPIC if acl.kind == "topic" else ResourceType.GROUP,
                acl.name,
                ResourcePatternType.PREFIXED if acl.name.endswith("-") else ResourcePatternType.LITERAL,
                f"User:{account.name}",
                "*",
                AclOperation[re.sub("(?<!^)(?=[A-Z])", "_", acl.operation).upper()],
                AclPermissionType.ALLOW,
            )
            for account in self.accounts.values()
            for acl in account.acls
        ]
        administrator = kafka.admin(self.config("admin").kafka)
        for future in administrator.create_acls(bindings).values():
            future.result(30)
        every = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        deadline = time.monotonic() + 30
        while not set(bindings) <= set(administrator.describe_acls(every).result(30)):
            assert time.monotonic() < deadline, "the ACLs are not in force"
            time.sleep(0.05)

    def _elasticsearch(self, settings: Config, found: java.Java) -> process.Server:
        """Return a node with TLS, whose users and roles are in files."""
        server = local_elasticsearch.server(settings, found)
        folder = Path(server.environment["ES_PATH_CONF"])
        for source, name in zip(self.authority.certificate("node"), ("node.crt", "node.key"), strict=True):
            (folder / name).write_bytes(source.read_bytes())
        file = folder / "elasticsearch.yml"
        secured = [
            "xpack.security.enabled: true",
            "xpack.security.http.ssl.enabled: true",
            "xpack.security.http.ssl.certificate: node.crt",
            "xpack.security.http.ssl.key: node.key",
        ]
        file.write_text(file.read_text().replace("xpack.security.enabled: false", "\n".join(secured)))
        roles = {account.name: _role(account.privileges) for account in self.accounts.values() if account.privileges}
        (folder / "roles.yml").write_text(yaml.safe_dump(roles))
        users = self.accounts.values()
        (folder / "users").write_text("".join(f"{user.name}:{_hashed(user.password)}\n" for user in users))
        of_roles = [*(f"{name}:{name}" for name in roles), "superuser:admin"]
        (folder / "users_roles").write_text("\n".join([*of_roles, ""]))
        if os.geteuid() == 0:
            for path in folder.iterdir():
                os.chown(path, local_elasticsearch.UNPRIVILEGED, local_elasticsearch.UNPRIVILEGED)
        return server


def _role(privileges: Iterable[Grant]) -> dict:
    """Return a role of Elasticsearch."""
    indices: dict[str, list[str]] = {}
    for grant in privileges:
        if grant.kind != "cluster":
            indices.setdefault(grant.name, []).append(grant.operation)
    cluster = [grant.operation for grant in privileges if grant.kind == "cluster"]
    return {"cluster": cluster, "indices": [{"names": [name], "privileges": of} for name, of in indices.items()]}


def _hashed(password: str) -> str:
    """Return a password as Elasticsearch's file of users has it."""
    salt, cost = secrets.token_bytes(32), 1_000
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, cost, 32)
    return f"{{PBKDF2}}{cost}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _await(probe, server: process.Running | None = None, seconds: float = 120) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while True:
        assert server is None or server.process() is not None, Path(server.log).read_text()[-3_000:]
        with suppress(Exception):
            probe()
            return
        if time.monotonic() > deadline:
            probe()
        time.sleep(0.2)
