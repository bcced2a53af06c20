"""Read the rejected topic and replay its messages to the input topic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar, cast

from streamscore.clients import kafka as clients
from streamscore.clients import topic_records
from streamscore.clients.producer import Outbox
from streamscore.config import Kafka
from streamscore.errors import InputError
from streamscore.schema import DETAIL_HEADER, EVENT_ID_HEADER, NOT_KEPT, REASON_HEADER, REJECTED_HEADERS
from streamscore.system.console import step

if TYPE_CHECKING:
    from confluent_kafka import Message

REPLAY_OF: Final = "replay-of"
"""Header of a replayed message: the event id under which the message was rejected."""

CLOCK_MARGIN_MS: Final = 600_000
"""Largest clock difference between the machines that reject and that replay, in milliseconds: ten minutes."""

MAX_HEADERS: Final = 100_000
"""Most headers that the client reads; it shows none of a message with more (librdkafka, ``rdkafka_msg.c``)."""

_OURS: Final = frozenset(REJECTED_HEADERS)

Header = tuple[str, bytes | None]
Each = TypeVar("Each")


@dataclass(frozen=True)
class Rejected:
    """A rejected message with the reason of its rejection; timestamps are those of the rejected topic, in ms."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: int
    first_timestamp: int
    event_id: str
    reason: str
    detail: str

    @property
    def is_kept(self) -> bool:
        """Whether the rejected topic holds the message's content: a message that is too large has only our headers."""
        return not self.detail.endswith(NOT_KEPT)

    @property
    def origin(self) -> tuple[str, int, int]:
        """Topic, partition and offset of the original message."""
        topic, partition, offset = self.event_id.rsplit("-", 2)
        return topic, int(partition), int(offset)

    def own_headers(self) -> list[Header]:
        """Return the headers that the message came with."""
        return list(self.headers[: len(self.headers) - len(_OURS)])


def read(kafka: Kafka, pass_over: Callable[[str], object] = lambda _: None) -> Iterator[Rejected]:
    """Yield every message that the rejected topic holds now and whose headers can be read.

    Args:
        kafka: the brokers and topics.
        pass_over: called with the position of each record that shows no headers; such a record has more than
            ``MAX_HEADERS``, or was not written by score_stream.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    for message in topic_records.read(kafka, kafka.topics.rejected):
        headers = _headers(message)
        if not headers:
            pass_over(f"{message.topic()}-{message.partition()}-{message.offset()}")
        last = headers[-len(_OURS) :]
        if not {name for name, _ in last} >= _OURS:
            continue  # not written by score_stream
        ours = {name: (value or b"").decode(errors="replace") for name, value in last}
        yield Rejected(
            message.key(),
            message.value(),
            headers,
            message.timestamp()[1],
            message.timestamp()[1],
            ours[EVENT_ID_HEADER],
            ours[REASON_HEADER],
            ours[DETAIL_HEADER],
        )


def select(kafka: Kafka, event_ids: Collection[str] = (), reason: str | None = None) -> list[Rejected]:
    """Return rejected messages, read in one pass; of a message that was rejected several times, the newest record.

    Args:
        kafka: the brokers and topics.
        event_ids: ids of messages to return.
        reason: return every message that was rejected for this reason, too.

    Raises:
        InputError: the topic holds no message with one of the ids.
        ServerError: no broker answers, or the topic does not exist.
    """
    first: dict[str, int] = {}
    newest: dict[str, Rejected] = {}
    ids = set(event_ids)
    with step(f"Reading the topic {kafka.topics.rejected}") as progress:
        for message in _counted(read(kafka), progress):
            event_id = message.event_id
            first[event_id] = min(message.timestamp, first.get(event_id, message.timestamp))
            is_wanted = event_id in ids or message.reason == reason
            if is_wanted and (event_id not in newest or message.timestamp >= newest[event_id].timestamp):
                newest[event_id] = message
    absent = [event_id for event_id in event_ids if event_id not in newest]
    if absent:
        raise InputError(
            f"no rejected message has the id {', '.join(absent)}: `streamscore rejected list` shows those there are"
        )
    return [replace(message, first_timestamp=first[event_id]) for event_id, message in newest.items()]


def by_topic(kafka: Kafka, messages: Sequence[Rejected]) -> list[tuple[Kafka, list[Rejected]]]:
    """Return the messages by the topic that they came from: events, and labels of label_stream.

    Args:
        kafka: the brokers and topics.
        messages: the messages.

    Returns:
        Each group, with settings of which ``topics.input`` is the group's topic.
    """
    labels = [message for message in messages if message.origin[0] == kafka.topics.labels != kafka.topics.input]
    events = [message for message in messages if message not in labels] if labels else list(messages)
    topics = kafka.topics.model_copy(update={"input": kafka.topics.labels})
    groups = [(kafka, events), (kafka.model_copy(update={"topics": topics}), labels)]
    return [(settings, group) for settings, group in groups if group]


def available(kafka: Kafka, messages: Sequence[Rejected]) -> list[Rejected]:
    """Return the messages whose content still exists, in the rejected topic or at its origin in the input topic.

    Raises:
        ServerError: no broker answers, or the input topic does not exist.
    """
    if all(message.is_kept for message in messages):
        return list(messages)
    held = topic_records.extent(kafka, kafka.topics.input)
    return [
        message
        for message in messages
        if message.is_kept or (message.origin[0] == kafka.topics.input and held.holds(*message.origin[1:]))
    ]


def replay(kafka: Kafka, wanted: Sequence[Rejected], value: bytes | None = None) -> int:
    """Send rejected messages to the input topic again, each at most once over all calls.

    A message that was too large for the rejected topic is read from its partition and offset in the input topic. The
    search for earlier replays starts at the time at which the first of the messages was rejected.

    Args:
        kafka: the brokers and topics.
        wanted: the messages to send.
        value: a repaired value to send instead of the message's own.

    Returns:
        The number of messages sent; messages that were sent before are skipped.

    Raises:
        InputError: the content of a message has expired; none is sent.
        ServerError: no broker answers, or the broker did not accept a message.
        RefusedError: an ACL is missing.
    """
    if value is None:
        there = {message.event_id for message in available(kafka, wanted)}
        _refuse(kafka, [message.event_id for message in wanted if message.event_id not in there])
    done = _replayed(kafka, wanted)
    left = [message for message in wanted if message.event_id not in done]
    clients.require_allowed(kafka, {kafka.topics.input: ("Write",)})
    outbox = Outbox(kafka, kafka.topics.input)
    sent = set()
    with step(f"Sending to the topic {kafka.topics.input}") as progress:
        for message in _with_content(kafka, left):
            if message.event_id in sent:
                continue
            if value is None and not message.is_kept:  # expired during this call
                _refuse(kafka, [message.event_id])
            headers: list[Header] = [*message.own_headers(), (REPLAY_OF, message.event_id.encode())]
            outbox.send(message.event_id, message.key, message.value if value is None else value, headers)
            sent.add(message.event_id)
            progress(f"{len(sent):,} of {len(left):,}")
        outbox.flush()
    return len(sent)


def _replayed(kafka: Kafka, wanted: Sequence[Rejected]) -> set[str]:
    """Return the ids of all messages that were replayed since the first of the given messages was rejected."""
    if not wanted:
        return set()
    since = min(message.first_timestamp for message in wanted) - CLOCK_MARGIN_MS
    with step(f"Looking for earlier replays in the topic {kafka.topics.input}") as progress:
        return {
            (value or b"").decode(errors="replace")
            for message in _counted(topic_records.read(kafka, kafka.topics.input, since=max(0, since)), progress)
            for name, value in _headers(message)
            if name == REPLAY_OF
        }


def _refuse(kafka: Kafka, event_ids: Sequence[str]) -> None:
    """Raise an error that names the messages without content, if any."""
    if event_ids:
        raise InputError(
            f"the topic {kafka.topics.rejected!r} did not take a record as large as {', '.join(event_ids)}, and the "
            f"topic {kafka.topics.input!r} no longer holds it. --value sends a repaired one"
        )


def _with_content(kafka: Kafka, messages: Sequence[Rejected]) -> Iterator[Rejected]:
    """Yield the messages, with the input topic's content where the rejected topic holds none."""
    yield from (message for message in messages if message.is_kept)
    moved = {message.origin[1:]: message for message in messages if not message.is_kept}
    for original in topic_records.fetch(kafka, kafka.topics.input, sorted(moved)) if moved else ():
        message = moved.pop((original.partition() or 0, original.offset() or 0))
        yield replace(
            message,
            key=original.key(),
            value=original.value(),
            headers=(*_headers(original), *message.headers),
            detail=message.detail.removesuffix(NOT_KEPT),
        )
    yield from moved.values()


def _counted(messages: Iterable[Each], progress: Callable[[str], None]) -> Iterator[Each]:
    """Yield the messages and show their number so far."""
    for number, message in enumerate(messages, 1):
        if number % 1_000 == 0:
            progress(f"{number:,} messages")
        yield message


def _headers(message: Message) -> tuple[Header, ...]:
    return tuple(cast("list[Header]", message.headers() or []))
