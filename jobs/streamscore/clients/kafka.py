"""Kafka's clients, and its topics: check, create, describe and delete them."""

from __future__ import annotations

import logging
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streamscore.clients import tls
from streamscore.clients.kafka_settings import RENAMED, client_settings, trust
from streamscore.config import Kafka, is_loopback
from streamscore.errors import ConfigError, RefusedError, ServerError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer
    from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

Client = TypeVar("Client")

_SILENT = logging.getLogger("streamscore.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

MAX_RECORD_BYTES = 32 * 1024 * 1024
"""Largest record to write, in bytes, where the topic accepts it: the size of the Java producer's whole buffer."""

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default for the largest batch of records that a topic accepts, in bytes."""

_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of a topic whose broker reports none: all zeros, in base64."""

_NO_AUTHENTICATION = "_AUTHENTICATION"
_BROKEN_OFF = re.compile("(?i)transport failure|timed out|disconnected")
"""Errors that librdkafka reports as authentication failures when they occur during authentication."""

_ALL_DOWN = "_ALL_BROKERS_DOWN"
_DOWN_SECONDS = 2.0
"""Seconds for which a restarting broker may be down. A slow broker gets more time."""

_ROOM = 65_536
"""Bytes by which a rejected message's record may exceed the message itself."""


def _made(client: Callable[..., Client], settings: Mapping[str, Any]) -> Client:
    """Return a client with the given settings; only the client itself can check some of them, such as file names."""
    from confluent_kafka import KafkaException

    try:
        return client({**settings}, logger=_SILENT)
    except KafkaException as error:
        reason = error.args[0].str()
        for java, renamed in RENAMED.items():
            reason = reason.replace(renamed, java)
        raise ConfigError(f"kafka.options: {reason}") from None


def admin(kafka: Kafka) -> AdminClient:
    """Return an administration client that connects on first use."""
    from confluent_kafka.admin import AdminClient

    return _made(AdminClient, client_settings(kafka))


def producer(kafka: Kafka) -> Producer:
    """Return an idempotent producer that chooses partitions as the Java client does."""
    from confluent_kafka import Producer

    settings: dict[str, str | int | bool] = {
        **client_settings(kafka),
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "message.max.bytes": MAX_RECORD_BYTES,  # the topic's own limit applies instead
        "linger.ms": 20,
        "message.timeout.ms": 60_000,
    }
    return _made(Producer, settings)


def consumer(kafka: Kafka, reset: str = "earliest") -> Consumer:
    """Return a consumer that reads assigned partitions, commits no offsets, and reports the end of a partition.

    Args:
        kafka: the brokers.
        reset: where to continue if an offset is out of range; by default at the beginning, because the first record
            may have expired meanwhile.
    """
    from confluent_kafka import Consumer

    settings: dict[str, str | int | float | bool] = {
        **client_settings(kafka),
        "group.id": "spark-kafka-streamscore",  # the prefix of the groups that the job's ACLs allow
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": reset,
    }
    return _made(Consumer, settings)


def names(kafka: Kafka, timeout: float = 10.0) -> list[str]:
    """Return the names of the topics that exist.

    Raises:
        ServerError: no broker answers within the timeout (seconds), or all brokers are known to be down before it ends.
        RefusedError: the brokers refuse this user, or the TLS connection fails for a permanent reason.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    errors: list[KafkaError] = []
    client = _made(AdminClient, {**client_settings(kafka), "error_cb": errors.append})
    try:
        metadata = _metadata(client, errors, timeout)
    except KafkaException as error:
        client.poll(0)  # errors that arrived meanwhile, of a handshake or of credentials
        refused = (one for one in errors if one.name() == _NO_AUTHENTICATION and not _BROKEN_OFF.search(one.str()))
        refusal = next(refused, None)
        if refusal is not None:
            raise RefusedError(
                f"Kafka at {kafka.bootstrap_servers} refuses the credentials ({refusal.str()}): see security.protocol, "
                "sasl.mechanism and sasl.jaas.config of kafka.options"
            ) from None
        _require_same_protocol(kafka)
        reason = next((one for one in errors if one.name() != _ALL_DOWN), error.args[0]).str()
        is_near = all(is_loopback(host) for host, _ in kafka.addresses())
        raise ServerError(
            f"no Kafka broker answers at {kafka.bootstrap_servers} ({reason}): is it running?"
            f"{' `streamscore up` starts one on this machine' if is_near else ''}"
        ) from None
    return sorted(name for name in metadata.topics if not name.startswith("__"))


_OF_TLS = {
    tls.Fault.AUTHORITY: (
        "has a certificate of an authority that is not trusted: name the authority's PEM file in "
        "kafka.options.ssl.truststore.location, with ssl.truststore.type: PEM"
    ),
    tls.Fault.EXPIRED: "has a certificate that has expired or is not valid yet: renew it, or set this machine's clock",
    tls.Fault.HOST_NAME: (
        "has a certificate for other host names: write one of its names in kafka.bootstrap_servers, or give the broker "
        "a certificate for this one"
    ),
    tls.Fault.NO_TLS: (
        "does not speak TLS: set kafka.options.security.protocol to PLAINTEXT or SASL_PLAINTEXT, or name the port for "
        "TLS in kafka.bootstrap_servers"
    ),
    tls.Fault.CLIENT_MISSING: (
        "wants a certificate of the client: name its PEM file in kafka.options.ssl.keystore.location, with "
        "ssl.keystore.type: PEM"
    ),
    tls.Fault.CLIENT_REFUSED: "refuses the certificate of the client: see kafka.options.ssl.keystore.location",
}


def _require_same_protocol(kafka: Kafka) -> None:
    """Find out why a TLS handshake with a broker failed, which librdkafka does not report.

    Raises:
        RefusedError: a broker's protocol or certificate differs from the configuration's.
    """
    is_tls = kafka.client_options().get("security.protocol", "PLAINTEXT").upper().endswith("SSL")
    for host, port in kafka.addresses():
        fault_text = None
        if not is_tls:
            if tls.speaks_tls(host, port):
                fault_text = "speaks TLS: set kafka.options.security.protocol to SSL or SASL_SSL"
        elif _speaks_plaintext(host, port):
            fault_text = _OF_TLS[tls.Fault.NO_TLS]
        else:
            fault = tls.fault(host, port, trust(kafka))
            fault_text = None if fault is None else _OF_TLS[fault]
        if fault_text is not None:
            raise RefusedError(f"Kafka at {host}:{port} {fault_text}")


def _speaks_plaintext(host: str, port: int) -> bool:
    """Return whether a broker answers a request without TLS; such a broker only closes a TLS connection."""
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # ApiVersions, version 0, of a client without a name
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=tls.PROBE_SECONDS) as connection:
            connection.sendall(request)
            answer = connection.recv(8)
    except OSError:
        return False
    return answer[4:] == request[8:12]  # the number of the request, behind the length


def _metadata(client: AdminClient, errors: Sequence[KafkaError], timeout: float) -> ClusterMetadata:
    """Return a cluster's metadata; give up before the timeout once all brokers are known to be down."""
    from confluent_kafka import KafkaException

    try:
        return client.list_topics(timeout=min(timeout, _DOWN_SECONDS))
    except KafkaException:
        client.poll(0)
        if timeout <= _DOWN_SECONDS or any(error.name() == _ALL_DOWN for error in errors):
            raise
    return client.list_topics(timeout=timeout - _DOWN_SECONDS)


NO_INPUT: Final = (
    "Set kafka.topics.input to the topic that your producers write to, or create it with `streamscore create`; for a "
    "trial without producers, `streamscore seed` fills it with examples"
)
"""The way out where the input topic is missing."""


def require(kafka: Kafka, topic: str) -> None:
    """Check that a topic exists; a topic that an ACL hides from this user counts as missing.

    Raises:
        ServerError: the topic does not exist, or no broker answers.
    """
    existing = names(kafka)
    if topic not in existing:
        way_out = NO_INPUT if topic == kafka.topics.input else "`streamscore create` or the first `score` makes it"
        raise ServerError(
            f"the topic {topic!r} does not exist at {kafka.bootstrap_servers}, or this user may not see it (ACL "
            f"Describe); there are: {', '.join(existing) or 'none'}. {way_out}"
        )


def ensure(kafka: Kafka, *wanted: str) -> list[str]:
    """Create the missing topics and return their names.

    The rejected topic accepts any message that the input topic accepts, with our headers added.

    Raises:
        ServerError: no broker answers, or a topic cannot be created.
        RefusedError: this user may not create a topic.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.cimpl import NewTopic

    existing = names(kafka)
    missing = [topic for topic in wanted if topic not in existing]
    settings: dict[str, dict[str, str]] = {topic: {} for topic in missing}
    if kafka.topics.rejected in missing:
        room = max_message_bytes(kafka, kafka.topics.input) + _ROOM
        settings[kafka.topics.rejected] = {"max.message.bytes": str(room)}
    new = [
        NewTopic(topic, kafka.partitions, kafka.replication_factor, config=options)
        for topic, options in settings.items()
    ]
    client = admin(kafka)
    for topic, future in (client.create_topics(new) if new else {}).items():
        try:
            future.result()
        except KafkaException as error:
            fault = error.args[0].name()
            if fault != "TOPIC_ALREADY_EXISTS":
                kind = RefusedError if fault.endswith("_AUTHORIZATION_FAILED") else ServerError
                raise kind(
                    f"the topic {topic!r} could not be created: {error.args[0].str()}. See kafka.replication_factor "
                    "and .partitions, or let an administrator make it"
                ) from None
    return missing


def require_writable(kafka: Kafka, *topics: str) -> None:
    """Check that this user may write to topics, as far as the brokers report the user's permissions.

    Raises:
        RefusedError: an ACL forbids this user to write to one of the topics.
        ServerError: the topics cannot be described.
    """
    from confluent_kafka import KafkaException, TopicCollection
    from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]

    if not topics:
        return
    client = admin(kafka)  # must live until the answers have arrived
    try:
        futures = client.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=10.0
        )
        allowed = {topic: future.result().authorized_operations for topic, future in futures.items()}
    except KafkaException as error:
        raise ServerError(f"the topics {', '.join(topics)} cannot be described: {error.args[0].str()}") from None
    for topic, operations in allowed.items():
        if operations is not None and AclOperation.WRITE not in operations:
            raise RefusedError(
                f"Kafka at {kafka.bootstrap_servers} does not let this user write to the topic {topic!r}: add the ACL "
                "Write for it"
            )


def topic_id(kafka: Kafka, topic: str, client: AdminClient | None = None) -> str | None:
    """Return the id that Kafka gave a topic at its creation; None if the brokers are older than 2.8 and have no ids.

    Args:
        kafka: the brokers.
        topic: the topic's name.
        client: a client to reuse, for a caller that asks repeatedly.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    from confluent_kafka import KafkaException, TopicCollection

    asking = admin(kafka) if client is None else client  # must live until the answer has arrived
    try:
        found = str(asking.describe_topics(TopicCollection([topic]), request_timeout=10.0)[topic].result().topic_id)
    except KafkaException as error:
        raise ServerError(f"the topic {topic!r} cannot be described: {error.args[0].str()}") from None
    return None if found == _NO_ID else found


def max_message_bytes(kafka: Kafka, topic: str) -> int:
    """Return the size in bytes of the largest record that a topic accepts; Kafka's default if the broker reports none.

    A broker reports no limit for a missing topic, nor to a user who may not describe the topic.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

    client = admin(kafka)
    (future,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    try:
        return int(future.result()["max.message.bytes"].value)
    except KafkaException:
        return MAX_MESSAGE_BYTES


def delete(kafka: Kafka, *unwanted: str) -> None:
    """Delete topics and wait until they are gone; missing topics are skipped.

    Raises:
        ServerError: no broker answers, or the broker refuses.
    """
    from confluent_kafka import KafkaException

    doomed = [topic for topic in unwanted if topic in names(kafka)]
    client = admin(kafka)
    for topic, future in (client.delete_topics(doomed) if doomed else {}).items():
        try:
            future.result()
        except KafkaException as error:
            raise ServerError(f"the topic {topic!r} could not be deleted: {error.args[0].str()}") from None
    while set(doomed) & set(names(kafka)):
        time.sleep(0.1)
