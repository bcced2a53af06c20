"""Translate the Java client's settings, which users write, into those of librdkafka."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from streamscore.clients.tls import Trust
from streamscore.config import Kafka
from streamscore.errors import ConfigError

# librdkafka, the C client, names some settings differently from the Java client (librdkafka, CONFIGURATION.md).
_HOST_CHECK: Final = "ssl.endpoint.identification.algorithm"
_SAME: Final = frozenset({"security.protocol", "sasl.mechanism", "client.id", _HOST_CHECK})
RENAMED: Final = {
    "ssl.truststore.location": "ssl.ca.location",
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
    "ssl.key.password": "ssl.key.password",
}
"""Names of the Java client, and librdkafka's names for the same settings."""

_TRUST_STORE: Final = "ssl.truststore.location"
_KEY_STORE: Final = "ssl.keystore.location"  # one file for the key and its certificate; librdkafka has a name for each
_JAAS: Final = "sasl.jaas.config"
_JAVA_ONLY: Final = frozenset({"ssl.truststore.type", "ssl.keystore.type", _JAAS})
# Spark's Kafka source and sink refuse these (KafkaSourceProvider).
_SPARKS_OWN: Final = (
    *("auto.offset.reset", "enable.auto.commit", "interceptor.classes"),
    *("key.deserializer", "value.deserializer", "key.serializer", "value.serializer"),
)
_NOT_TO_BE_SET: Final = {
    **dict.fromkeys(_SPARKS_OWN, "Spark sets this itself"),
    **dict.fromkeys(("acks", "enable.idempotence"), "not to be set: otherwise records could be lost or doubled"),
}

_PEM_KEY: Final = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----\s*(.*?)-----END", re.DOTALL)
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
"""The object identifier 1.2.840.113549.1.5.13 (RFC 8018, section 6.2), in DER."""

_JAAS_TOKEN: Final = re.compile(
    r"""(?P<space>[\x00-\x20]+|/\*.*?\*/|/[^\n]*)
    |(?P<quote>["'])(?P<text>(?:\\.|(?!(?P=quote))[^\\\n\r])*)(?P=quote)
    |(?P<word>[\w.$\-\xa0-\U0010ffff]+)
    |(?P<sign>.)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\([0-3][0-7]{0,2}|[4-7][0-7]?|.)", re.DOTALL)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def client_settings(kafka: Kafka) -> dict[str, str | int]:
    """Return the connection's settings under the names of librdkafka.

    Raises:
        ConfigError: a security setting has no counterpart in librdkafka, for instance a JKS trust store; a file cannot
            be read; or the Java client could not decrypt the key.
    """
    options = kafka.client_options()
    _check_pem(options)
    settings: dict[str, str | int] = {"bootstrap.servers": kafka.bootstrap_servers}
    for name, value in options.items():
        if name in _SAME:
            settings[name] = value
        elif name in RENAMED:
            settings[RENAMED[name]] = value
        elif name == _KEY_STORE:
            settings |= {"ssl.certificate.location": value, "ssl.key.location": value}
        elif name in _NOT_TO_BE_SET:
            raise ConfigError(f"kafka.options.{name}: {_NOT_TO_BE_SET[name]}")
        elif name not in _JAVA_ONLY and name.startswith(("ssl.", "sasl.")):
            supported = sorted({*_SAME, *RENAMED, *_JAVA_ONLY, _KEY_STORE})
            raise ConfigError(f"kafka.options.{name}: not supported; supported are {', '.join(supported)}")
    if settings.get(_HOST_CHECK) == "":  # in Java an empty text disables the check
        settings[_HOST_CHECK] = "none"
    if _JAAS in options:
        settings |= {f"sasl.{name}": value for name, value in credentials(options[_JAAS]).items()}
    return settings


def trust(kafka: Kafka) -> Trust:
    """Return the certificates that a TLS connection to the brokers is checked against."""
    options = kafka.client_options()
    return Trust(
        ca_file=Path(options[_TRUST_STORE]) if _TRUST_STORE in options else None,
        ca_text=options.get("ssl.truststore.certificates"),
        checks_host=options.get(_HOST_CHECK, "https") != "",
        certificate=Path(options[_KEY_STORE]) if _KEY_STORE in options else None,
        key_password=options.get("ssl.key.password"),
    )


def credentials(jaas: str) -> dict[str, str]:
    """Return the user name and password of a login module's line, parsed as the Java client parses it.

    The Java client uses Kafka's ``JaasConfig`` on a ``java.io.StreamTokenizer``: texts in single or double quotes with
    backslash escapes, unquoted words, and comments.

    Raises:
        ConfigError: the line cannot be parsed, or lacks the user name or the password; the message repeats no part of
            the line.
    """
    tokens = list(_tokens(jaas))
    values = tokens[2:-1]
    names, signs, texts = values[0::3], values[1::3], values[2::3]
    found = dict(zip(names, texts, strict=False))
    is_complete = tokens[-1:] == [";"] and len(names) == len(texts) and all(sign == "=" for sign in signs)
    if not is_complete or not {"username", "password"} <= set(found):
        raise ConfigError(
            'kafka.options.sasl.jaas.config: expected a login module, the word required, username="…" password="…" '
            "and a semicolon; a quote or a backslash in a value needs a backslash before it"
        )
    return {name: found[name] for name in ("username", "password")}


def _tokens(jaas: str) -> Iterator[str]:
    for match in _JAAS_TOKEN.finditer(jaas):
        if match["text"] is not None:
            yield _ESCAPE.sub(_unescaped, match["text"])
        elif match["space"] is None:
            yield match["word"] or match["sign"]


def _unescaped(match: re.Match[str]) -> str:
    escaped = match[1]
    return chr(int(escaped, 8)) if escaped[0] in "01234567" else _ESCAPED.get(escaped, escaped)


def _check_pem(options: Mapping[str, str]) -> None:
    """Check the files and keys of the TLS options: the clients' errors do not name them, and Java retries for ever."""
    for store in ("truststore", "keystore"):
        if options.get(f"ssl.{store}.location") and options.get(f"ssl.{store}.type", "JKS") != "PEM":
            raise ConfigError(f"kafka.options.ssl.{store}.type: only PEM files are supported; set it to PEM")
    for name, kind in ((_TRUST_STORE, "CERTIFICATE"), (_KEY_STORE, "PRIVATE KEY")):
        if name not in options:
            continue
        try:
            text = Path(options[name]).read_text(encoding="latin-1")
        except OSError as error:
            raise ConfigError(f"kafka.options.{name}: {options[name]} cannot be read ({error.strerror})") from None
        if not re.search(rf"-----BEGIN [A-Z ]*{kind}-----", text):
            raise ConfigError(f"kafka.options.{name}: {options[name]} has no {kind.lower()} in the form PEM")
        if name == _KEY_STORE:
            _check_key(text, name, options)
    if "ssl.keystore.key" in options:
        _check_key(options["ssl.keystore.key"], "ssl.keystore.key", options)


def _check_key(pem: str, name: str, options: Mapping[str, str]) -> None:
    """Check that the Java client can read a private key: PKCS #8, with no encryption that Java 17 cannot decrypt."""
    match = _PEM_KEY.search(pem)
    kind, body = match.groups() if match else (None, "")
    if kind == "":
        if "ssl.key.password" in options:
            raise ConfigError("kafka.options.ssl.key.password: the private key is not encrypted; leave this option out")
        return
    if kind == "ENCRYPTED ":
        try:
            content = base64.b64decode(body)
        except binascii.Error:
            content = b""
        if content and _PBES2 not in content[:64]:
            return
        raise ConfigError(
            f"kafka.options.{name}: Java 17 cannot decrypt this private key (PBES2). Convert it with `openssl pkcs8 "
            "-topk8 -v1 PBE-SHA1-3DES -in old.key -out new.key`; or, to a file that only this user may read, with "
            "-nocrypt in the place of -v1 PBE-SHA1-3DES, and without ssl.key.password"
        )
    raise ConfigError(
        f"kafka.options.{name}: the private key is not in the form PKCS #8, which Java wants. Convert it with `openssl "
        "pkcs8 -topk8 -nocrypt -in old.key -out new.key`"
    )
