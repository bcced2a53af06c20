"""Kafka's clients, and its topics: check, create, describe and delete them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streamscore.clients import kafka_tls
from streamscore.clients.kafka_settings import RENAMED, client_settings
from streamscore.config import Kafka, is_loopback
from streamscore.errors import ConfigError, RefusedError, ServerError
from streamscore.system.console import log

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

GROUPS: Final = "spark-kafka-"
"""Beginning of the names of all consumer groups of the jobs, Spark's and ours: one ACL allows them."""

_NOT_ALLOWED: Final = "_AUTHORIZATION_FAILED"


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
        "group.id": f"{GROUPS}streamscore",
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
        kafka_tls.require_same_protocol(kafka)
        reason = next((one for one in errors if one.name() != _ALL_DOWN), error.args[0]).str()
        is_near = all(is_loopback(host) for host, _ in kafka.addresses())
        raise ServerError(
            f"no Kafka broker answers at {kafka.bootstrap_servers} ({reason}): is it running?"
            f"{' `streamscore up` starts one on this machine' if is_near else ''}"
        ) from None
    return sorted(name for name in metadata.topics if not name.startswith("__"))


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


def require(kafka: Kafka, topic: str, *operations: str) -> None:
    """Check that a topic exists, and that this user may use it.

    Args:
        kafka: the brokers.
        topic: the topic.
        operations: the operations of ACLs that are needed on it, such as ``Read``; it must be visible in any case.

    Raises:
        ServerError: the topic does not exist, or no broker answers.
        RefusedError: an ACL is missing.
    """
    existing = names(kafka)
    if operations or topic not in existing:
        require_allowed(kafka, {topic: operations or ("Describe",)})
    if topic not in existing:
        way_out = NO_INPUT if topic == kafka.topics.input else "`streamscore create` or the first `score` makes it"
        raise ServerError(
            f"the topic {topic!r} does not exist at {kafka.bootstrap_servers}, or this user may not see it (ACL "
            f"Describe); there are: {', '.join(existing) or 'none'}. {way_out}"
        )


def ensure(kafka: Kafka, *wanted: str, operations: Sequence[str] = ()) -> list[str]:
    """Create the missing topics and return their names.

    The rejected topic accepts any message that the input topic accepts, with our headers added.

    Args:
        kafka: the brokers.
        wanted: names of the topics.
        operations: the operations of ACLs that are needed on those that exist, such as ``Write``.

    Raises:
        ServerError: no broker answers, or a topic cannot be created.
        RefusedError: an ACL is missing.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.cimpl import NewTopic

    existing = names(kafka)
    missing = [topic for topic in wanted if topic not in existing]
    # A topic that is hidden from this user may be there.
    require_allowed(kafka, dict.fromkeys(wanted if operations else missing, operations or ("Describe",)))
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
                is_refused = fault.endswith(_NOT_ALLOWED)
                way_out = "Add the ACL Create for it" if is_refused else "See kafka.replication_factor and .partitions"
                kind = RefusedError if is_refused else ServerError
                raise kind(
                    f"the topic {topic!r} could not be created: {error.args[0].str()}. {way_out}, or let an "
                    "administrator make it"
                ) from None
    return missing


def require_writable(kafka: Kafka, *topics: str) -> None:
    """Check that this user may write to topics, and read what is there, as a replay does.

    Raises:
        RefusedError: an ACL is missing.
        ServerError: the topics cannot be described.
    """
    require_allowed(kafka, dict.fromkeys(topics, ("Read", "Write")))


def require_allowed(kafka: Kafka, needed: Mapping[str, Sequence[str]]) -> None:
    """Check this user's ACLs, as far as the brokers report them; who reads also needs those of consumer groups.

    Args:
        kafka: the brokers.
        needed: the operations, such as ``Read``, by topic; of topics that do not exist only ``Describe`` is checked.

    Raises:
        RefusedError: an ACL is missing; the message names all that are missing.
        ServerError: the topics cannot be described.
    """
    if not needed:
        return
    client = admin(kafka)  # must live until the answers have arrived
    lacking = [
        f"{operation} on the topic {topic!r}"
        for topic, allowed in _allowed(client, list(needed)).items()
        for operation in needed[topic]
        if allowed is not None and operation not in allowed
    ]
    if any("Read" in operations for operations in needed.values()) and not _may_use_groups(client):
        lacking.append(f"Read on the consumer groups whose names begin with {GROUPS!r}")
    if lacking:
        raise RefusedError(
            f"this user lacks ACLs in Kafka at {kafka.bootstrap_servers}: {'; '.join(lacking)}. Add them "
            "(docs/production.md lists those of each command)"
        )


def _allowed(client: AdminClient, topics: Sequence[str]) -> dict[str, set[str] | None]:
    """Return the operations that this user may use, by topic; None where the brokers do not tell."""
    from confluent_kafka import KafkaException, TopicCollection

    futures = client.describe_topics(
        TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=10.0
    )
    allowed: dict[str, set[str] | None] = {}
    for topic, future in futures.items():
        try:
            operations = future.result().authorized_operations
        except KafkaException as error:
            fault = error.args[0]
            if fault.name() not in {"TOPIC_AUTHORIZATION_FAILED", "UNKNOWN_TOPIC_OR_PART"}:
                raise ServerError(f"the topic {topic!r} cannot be described: {fault.str()}") from None
            allowed[topic] = set() if fault.name().endswith(_NOT_ALLOWED) else None
        else:
            allowed[topic] = (
                None if operations is None else {operation.name.title().replace("_", "") for operation in operations}
            )
    return allowed


def _may_use_groups(client: AdminClient) -> bool:
    """Return whether this user may use the jobs' consumer groups; True if the brokers do not tell."""
    from confluent_kafka import KafkaException

    group = f"{GROUPS}streamscore"
    try:
        client.describe_consumer_groups([group], request_timeout=10.0)[group].result()
    except KafkaException as error:
        return not str(error.args[0].name()).endswith(_NOT_ALLOWED)
    return True


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

    A broker reports no limit for a missing topic, nor to a user without the ACL DescribeConfigs, who is warned.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

    client = admin(kafka)
    (future,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    try:
        return int(future.result()["max.message.bytes"].value)
    except KafkaException as error:
        if error.args[0].name().endswith(_NOT_ALLOWED):
            log.warning(
                "this user lacks the ACL DescribeConfigs on the topic %r: its size limit is not known, and Kafka's "
                "default of %s bytes is assumed",
                topic,
                f"{MAX_MESSAGE_BYTES:,}",
            )
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
