"""Pass over single messages that cannot be read, such as one that is larger unpacked than the JVM's memory.

A stream reads every message of its topic, so such a message would stop it at every start. The batch that holds it is
cut short before it, and the message gets a batch of its own that is committed without being run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from streamscore.errors import CheckpointError
from streamscore.stream import checkpoint
from streamscore.stream.folders import Folder


class Place(NamedTuple):
    """A message's place in its topic."""

    partition: int
    offset: int


def places(texts: Iterable[str]) -> list[Place]:
    """Return the places of messages that are written as ``partition:offset``, in order."""
    return sorted(Place(*map(int, text.split(":"))) for text in texts)


def is_ahead(files: Folder, location: str, topic: str, place: Place) -> bool:
    """Return whether a message is still to be read; it was read or passed over otherwise.

    Args:
        files: the checkpoint.
        location: its name, for messages.
        topic: the topic.
        place: the message.

    Raises:
        CheckpointError: nothing was read from the checkpoint yet, or the topic had no such partition.
    """
    begins = _begins(files, location, topic)
    if place.partition not in begins:
        raise CheckpointError(
            f"stream.skip: the checkpoint {location} knows no partition {place.partition} of {topic!r}: nothing of it "
            "was read yet. Let the job run up to the message first"
        )
    return place.offset >= begins[place.partition]


def plan_up_to(files: Folder, location: str, topic: str, place: Place) -> int:
    """Let the next batch end before a message; return its number. It may be empty.

    Args:
        files: the checkpoint.
        location: its name, for messages.
        topic: the topic.
        place: the message, which is still to be read.
    """
    past = checkpoint.inspect(files, location)
    ends = dict(_begins(files, location, topic))
    if past.planned > past.committed:
        ends = checkpoint.offsets(files, past.planned)[topic]
        ends[place.partition] = min(ends.get(place.partition, place.offset), place.offset)
        checkpoint.cut(files, past.planned, topic, ends)
        return past.planned
    checkpoint.plan(files, past.committed + 1, topic, ends | {place.partition: place.offset})
    return past.committed + 1


def pass_over(files: Folder, location: str, topic: str, place: Place) -> None:
    """Commit a batch of this one message, which is the next one of its partition, without running it.

    Args:
        files: the checkpoint.
        location: its name, for messages.
        topic: the topic.
        place: the message.
    """
    batch = checkpoint.inspect(files, location).committed + 1
    checkpoint.plan(files, batch, topic, _begins(files, location, topic) | {place.partition: place.offset + 1})
    checkpoint.commit(files, batch)


def _begins(files: Folder, location: str, topic: str) -> dict[int, int]:
    """Return the first offset of each partition that is still to be read."""
    return checkpoint.next_offsets(files, checkpoint.inspect(files, location).committed).get(topic, {})
