"""The records of a topic: read their offsets, read records, and wait until appended records are visible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.clients import kafka as clients
from streamscore.config import Kafka
from streamscore.errors import ServerError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message
    from confluent_kafka.admin import ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

_SETTLING_SECONDS = 10.0
"""Seconds for which a topic may be unusable after its creation or a change of leader."""

_PROBE_SECONDS = 4.0
"""Seconds to wait for a broker's refusal of an offset, which follows the connection at once."""


LOOKED_AT: Final = 100
"""Records of a partition at which ``earlier_than`` looks."""


class Extent(NamedTuple):
    """The offsets that a topic holds: from ``begin`` up to, not including, ``end``, by partition."""

    begin: dict[int, int]
    end: dict[int, int]

    @property
    def records(self) -> int:
        """Number of records."""
        return sum(self.end.values()) - sum(self.begin.values())

    def holds(self, partition: int, offset: int) -> bool:
        """Return whether an offset lies between the first and the last one of its partition."""
        return self.begin.get(partition, 0) <= offset < self.end.get(partition, 0)


class Dropped(NamedTuple):
    """The beginning of a partition that the topic no longer holds, of which a stretch may have lost records."""

    records: int
    """Number of offsets before the first one that the topic holds."""
    until: int | None
    """Time of the first record that it holds, in epoch milliseconds; None if it holds none."""


class Stretch(NamedTuple):
    """The part of a topic between two times: the offsets from ``begin`` up to, not including, ``end``, by partition."""

    begin: dict[int, int]
    end: dict[int, int]
    dropped: dict[int, Dropped]
    """The partitions of which the topic no longer holds what may belong to the stretch."""

    @property
    def records(self) -> int:
        """Number of offsets."""
        return sum(self.end.values()) - sum(self.begin.values())


def stretch(kafka: Kafka, topic: str, since: int, until: int) -> Stretch:
    """Return the offsets of a topic between two record times, without records of open transactions.

    Args:
        kafka: the brokers.
        topic: the topic.
        since: epoch milliseconds; each partition begins with its first record at or after this time.
        until: epoch milliseconds; each partition ends before its first record at or after this time.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    from confluent_kafka import IsolationLevel
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

    held = extent(kafka, topic)
    partitions = list(held.end)
    decided = _listed(
        kafka,
        topic,
        partitions,
        OffsetSpec.latest(),  # type: ignore[no-untyped-call]
        isolation_level=IsolationLevel.READ_COMMITTED,
    )
    first, begins, ends = (_listed(kafka, topic, partitions, OffsetSpec.for_timestamp(at)) for at in (0, since, until))
    begin, end, dropped = {}, {}, {}
    for partition in partitions:
        last = decided[partition].offset
        # A negative offset means that there is no such record.
        end[partition] = last if ends[partition].offset < 0 else min(ends[partition].offset, last)
        begin[partition] = (
            end[partition] if begins[partition].offset < 0 else min(begins[partition].offset, end[partition])
        )
        is_empty = first[partition].offset < 0
        if held.begin[partition] and (is_empty or begins[partition].offset == first[partition].offset):
            dropped[partition] = Dropped(held.begin[partition], None if is_empty else first[partition].timestamp)
    return Stretch(begin, end, dropped)


def earlier_than(kafka: Kafka, topic: str, begin: Mapping[int, int], time: int) -> int:
    """Return how many of the next records of each partition have an earlier time: the record times are not in order.

    Args:
        kafka: the brokers.
        topic: the topic.
        begin: the first offset to look at, by partition; at most ``LOOKED_AT`` records are.
        time: the time, in epoch milliseconds.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    places = ((partition, at + more) for partition, at in begin.items() for more in range(LOOKED_AT))
    return sum(message.timestamp()[1] < time for message in fetch(kafka, topic, places))


def extent(kafka: Kafka, topic: str, *operations: str) -> Extent:
    """Return the offsets that a topic holds.

    Args:
        kafka: the brokers.
        topic: the topic.
        operations: the operations of ACLs that are needed on it beside ``Describe``.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    from confluent_kafka import KafkaError, KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its package re-exports it

    clients.require(kafka, topic, *operations)
    client = clients.admin(kafka)
    settling = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
    deadline = time.monotonic() + _SETTLING_SECONDS
    while True:
        ends = []
        try:
            known = client.list_topics(topic, timeout=10.0).topics[topic].partitions
            partitions = [TopicPartition(topic, number) for number in known]
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call]
                futures = client.list_offsets(dict.fromkeys(partitions, spec))
                ends.append({key.partition: future.result().offset for key, future in futures.items()})
            break
        except KafkaException as error:
            # The leader of a new topic may not know yet that it leads.
            if error.args[0].code() not in settling or time.monotonic() > deadline:
                reason = error.args[0].str()
                raise ServerError(f"the offsets of the topic {topic!r} cannot be read: {reason}") from None
            time.sleep(0.2)
    return Extent(*ends)


def read(kafka: Kafka, topic: str, last: int | None = None, since: int | None = None) -> Iterator[Message]:
    """Yield the messages that a topic holds now.

    Args:
        kafka: the brokers.
        topic: the topic.
        last: number of messages to read at the end of each partition; None: all.
        since: epoch milliseconds; start at each partition's first message with this timestamp or a later one.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
        RefusedError: an ACL is missing.
    """
    from confluent_kafka import TopicPartition

    held = extent(kafka, topic, "Read")
    begins = held.begin if since is None else _offsets_since(kafka, topic, held, since)
    client = clients.consumer(kafka)
    try:
        for partition, end in held.end.items():
            begin = max(begins[partition], 0 if last is None else end - last)
            if begin < end:
                client.assign([TopicPartition(topic, partition, begin)])
                yield from _until(client, end, topic)
    finally:
        client.close()


def fetch(kafka: Kafka, topic: str, positions: Iterable[tuple[int, int]]) -> Iterator[Message]:
    """Yield the messages at the given positions, without those that the topic no longer holds.

    Consecutive messages are read together.

    Args:
        kafka: the brokers.
        topic: the topic.
        positions: partition and offset of each message.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    from confluent_kafka import TopicPartition

    held = extent(kafka, topic)
    client = clients.consumer(kafka)
    try:
        at = None
        for partition, offset in positions:
            if held.holds(partition, offset):
                if at != (partition, offset):
                    client.assign([TopicPartition(topic, partition, offset)])
                message = _next(client, topic)
                at = None if message is None else (partition, (message.offset() or 0) + 1)
                if message is not None and message.offset() == offset:
                    yield message
    finally:
        client.close()


def largest(kafka: Kafka, topic: str, ranges: Mapping[int, tuple[int, int]]) -> tuple[int, int, int] | None:
    """Return partition, offset and bytes of the message with the largest value; None if none is left.

    Args:
        kafka: the brokers.
        topic: the topic.
        ranges: first offset to look at and the one after the last, by partition.

    Raises:
        ServerError: no broker answers, or the topic does not exist.
    """
    positions = ((partition, offset) for partition, (begin, end) in ranges.items() for offset in range(begin, end))
    sizes = (
        (len(message.value() or b""), message.partition() or 0, message.offset() or 0)
        for message in fetch(kafka, topic, positions)
    )
    size, partition, offset = max(sizes, default=(0, 0, -1))
    return None if offset < 0 else (partition, offset, size)


def await_visible(
    kafka: Kafka, topics: Sequence[str], seconds: float, is_stopping: Callable[[], bool] = lambda: False
) -> dict[str, dict[int, int]]:
    """Wait until consumers see all records that were appended to some topics before this call.

    A record stays hidden after its leader has appended it until enough replicas have it, and the records that a killed
    producer sent are still appended. This function writes nothing, so no consumer notices.

    Args:
        kafka: the brokers.
        topics: the topics.
        seconds: longest wait.
        is_stopping: polled; once it returns True, each partition is asked at most once.

    Returns:
        By topic and partition, an offset after the last of these records.

    Raises:
        ServerError: a record is still hidden after ``seconds``, or no broker answers.
    """
    deadline = time.monotonic() + seconds
    ends: dict[tuple[str, int], int] = {}  # an upper bound of each log's end at some moment since this call
    # The short step finds the end of an idle log; a busy log soon passes the bound that a long step has found.
    steps = cycle((1, 1_000, 1_000_000))
    has_asked = False
    while True:
        visible_ends = {topic: extent(kafka, topic).end for topic in topics}
        visible = {(topic, number): end for topic, parts in visible_ends.items() for number, end in parts.items()}
        hidden = {place: end for place, end in visible.items() if place not in ends or ends[place] > end}
        if not hidden:
            return visible_ends
        if has_asked and (time.monotonic() > deadline or is_stopping()):
            places = ", ".join(f"{topic}-{number}" for topic, number in sorted(hidden))
            raise ServerError(
                f"records that were written to {places} may still be hidden, for too few replicas have them, so that "
                f"nobody can tell what is there already (waited for {seconds:.0f} s, kafka.options.delivery.timeout.ms)"
                ": are all of Kafka's brokers running?"
            )
        step, has_asked = next(steps), True
        for place in _past_the_end(kafka, {place: end + step for place, end in hidden.items()}):
            ends[place] = min(hidden[place] + step - 1, ends.get(place, hidden[place] + step))


def _past_the_end(kafka: Kafka, offsets: Mapping[tuple[str, int], int]) -> set[tuple[str, int]]:
    """Return the partitions whose logs end before an offset, whether or not their last records are visible.

    A leader refuses a read beyond the end of its log (``OFFSET_OUT_OF_RANGE``) and returns nothing for an offset
    between the last visible record and that end.
    """
    from confluent_kafka import KafkaError, TopicPartition

    client = clients.consumer(kafka, reset="error")
    refused: set[tuple[str, int]] = set()
    deadline = time.monotonic() + _PROBE_SECONDS
    try:
        client.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        while len(refused) < len(offsets) and (left := deadline - time.monotonic()) > 0:
            message = client.poll(left)
            error = None if message is None else message.error()
            if message is not None and error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 (its public name)
                refused.add((str(message.topic()), int(message.partition() or 0)))
    finally:
        client.close()
    return refused


def _offsets_since(kafka: Kafka, topic: str, held: Extent, since: int) -> dict[int, int]:
    """Return each partition's offset of the first message with a timestamp at or after a time."""
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

    found = _listed(kafka, topic, list(held.end), OffsetSpec.for_timestamp(since))
    # A negative offset means that there is no such message.
    return {partition: held.end[partition] if at.offset < 0 else at.offset for partition, at in found.items()}


def _listed(
    kafka: Kafka, topic: str, partitions: Sequence[int], spec: OffsetSpec, **how: Any
) -> dict[int, ListOffsetsResultInfo]:
    """Return what the brokers answer to the same request for each partition's offset."""
    from confluent_kafka import KafkaException, TopicPartition

    client = clients.admin(kafka)  # must live until the answers have arrived
    wanted = {TopicPartition(topic, partition): spec for partition in partitions}
    try:
        return {key.partition: future.result() for key, future in client.list_offsets(wanted, **how).items()}
    except KafkaException as error:
        raise ServerError(f"the offsets of the topic {topic!r} cannot be read: {error.args[0].str()}") from None


def _until(client: Consumer, end: int, topic: str) -> Iterator[Message]:
    """Yield the messages of the assigned partition up to, not including, an offset."""
    while (message := _next(client, topic)) is not None:
        yield message
        if (message.offset() or 0) >= end - 1:
            return


def _next(client: Consumer, topic: str) -> Message | None:
    """Return the next message of the assigned partition; None at its end, where transaction markers may stand."""
    from confluent_kafka import KafkaError

    message = client.poll(30.0)
    error = message.error() if message is not None else None
    if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
        return None
    if message is None or error is not None:
        raise ServerError(f"the topic {topic!r} cannot be read: {error.str() if error else 'timed out'}")
    return message
