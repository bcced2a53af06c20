"""Look at the rejected topic and send what is in it to the input topic again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from streamscore.clients import kafka as kafka_client
from streamscore.clients.producer import Outbox
from streamscore.config import Kafka
from streamscore.errors import InputError
from streamscore.schema import DETAIL_HEADER, EVENT_ID_HEADER, NOT_KEPT, REASON_HEADER, REJECTED_HEADERS

if TYPE_CHECKING:
    from confluent_kafka import Message

REPLAY_OF: Final = "replay-of"
"""Header of a message that was sent again: the event id under which it was rejected."""

_OURS: Final = frozenset(REJECTED_HEADERS)

Header = tuple[str, bytes | None]


@dataclass(frozen=True)
class Rejected:
    """A rejected message as it came, and what was found wrong with it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: int
    event_id: str
    reason: str
    detail: str

    @property
    def is_kept(self) -> bool:
        """Whether its content is here: of a message that was too large for the topic there are only headers of ours."""
        return not self.detail.endswith(NOT_KEPT)

    def own_headers(self) -> list[Header]:
        """Return the headers that the message came with."""
        return list(self.headers[: len(self.headers) - len(_OURS)])


def read(kafka: Kafka) -> Iterator[Rejected]:
    """Yield all that the rejected topic holds now.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    for message in kafka_client.read(kafka, kafka.topics.rejected):
        headers = _headers(message)
        last = headers[-len(_OURS) :]
        if not {name for name, _ in last} >= _OURS:
            continue  # not written by score_stream
        ours = {name: (value or b"").decode() for name, value in last}
        yield Rejected(
            message.key(),
            message.value(),
            headers,
            message.timestamp()[1],
            ours[EVENT_ID_HEADER],
            ours[REASON_HEADER],
            ours[DETAIL_HEADER],
        )


def find(kafka: Kafka, event_id: str) -> Rejected:
    """Return one rejected message; of several of its id, after a new beginning, the newest.

    Raises:
        InputError: the topic holds no message of that id.
        ServerError: no broker answers, or the topic does not exist.
    """
    found = [message for message in read(kafka) if message.event_id == event_id]
    if found:
        return max(found, key=lambda message: message.timestamp)
    raise InputError(f"no rejected message has the id {event_id}: `streamscore rejected list` shows those there are")


def replay(kafka: Kafka, wanted: list[Rejected], value: bytes | None = None) -> int:
    """Send rejected messages to the input topic again, each at most once, however often this is done.

    Args:
        kafka: the brokers and topics.
        wanted: what to send.
        value: a repaired value to send in place of the message's own.

    Returns:
        The number of messages sent; those that were sent before are passed over.

    Raises:
        InputError: the content of a message is not there to be sent; none is sent.
        ServerError: the broker did not take a message.
    """
    absent = [message.event_id for message in wanted if value is None and not message.is_kept]
    if absent:
        raise InputError(
            f"the topic {kafka.topics.rejected!r} did not take a record as large as {', '.join(absent)}: its content "
            "is where it was, at the topic, partition and offset that make its id. --value sends a repaired one"
        )
    done = {
        (told or b"").decode()
        for message in kafka_client.read(kafka, kafka.topics.input)
        for name, told in _headers(message)
        if name == REPLAY_OF
    }
    outbox = Outbox(kafka, kafka.topics.input)
    sent = 0
    for message in wanted:
        if message.event_id in done:
            continue
        done.add(message.event_id)
        headers: list[Header] = [*message.own_headers(), (REPLAY_OF, message.event_id.encode())]
        outbox.send(message.event_id, message.key, message.value if value is None else value, headers)
        sent += 1
    outbox.flush()
    return sent


def _headers(message: Message) -> tuple[Header, ...]:
    return tuple(cast("list[Header]", message.headers() or []))
