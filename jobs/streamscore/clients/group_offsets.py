"""The offsets of a consumer group that has no members: what Kafka's own tools compute a lag from."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, TimeoutError  # noqa: A004 (before Python 3.11 it is not the built-in one)
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import kafka
from streamscore.config import Kafka
from streamscore.errors import RefusedError, ServerError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

REQUEST_SECONDS: Final = 10.0

_LASTING: Final = {
    "GROUP_AUTHORIZATION_FAILED": "add the ACL Read for the group",
    "TOPIC_AUTHORIZATION_FAILED": "add the ACL Read for the topic",
    "UNKNOWN_MEMBER_ID": "the group has members; name a group in kafka.lag_group that nobody else uses",
    "INVALID_GROUP_ID": "name another group in kafka.lag_group",
}
"""What to do about errors that a retry does not mend, by their names."""


class GroupOffsets:
    """A group whose offsets are set, one request at a time, without ever waiting for a broker."""

    def __init__(self, settings: Kafka, group: str) -> None:
        """Make a client, which connects in the background.

        Args:
            settings: the brokers.
            group: name of the group.
        """
        self._client = kafka.admin(settings)
        self._group = group
        self._answer: Future[Any] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a request is under way whose outcome was not taken."""
        return self._answer is not None

    def commit(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Send a request; its outcome has to be taken before the next one.

        Args:
            offsets: the next offset to read, by topic and partition.
        """
        from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(self._group, places)]
        try:
            self._answer = self._client.alter_consumer_group_offsets(request, request_timeout=REQUEST_SECONDS)[
                self._group
            ]
        except KafkaException as error:
            self._answer = Future()
            self._answer.set_exception(error)

    def take(self, seconds: float = 0.0) -> bool:
        """Take the outcome of the request; return False if there is none yet.

        Args:
            seconds: how long to wait for it.

        Raises:
            RefusedError: the group's offsets may not be set.
            ServerError: they could not be set, which may pass.
        """
        from confluent_kafka import KafkaException

        if self._answer is None:
            return False
        try:
            outcome = self._answer.result(seconds)
        except TimeoutError:
            return False
        except KafkaException as error:
            self._answer = None
            raise self._fault(error.args[0]) from None
        self._answer = None
        for place in outcome.topic_partitions:
            if place.error is not None:
                raise self._fault(place.error)
        return True

    def _fault(self, error: KafkaError) -> ServerError:
        way_out = _LASTING.get(error.name())
        text = f"the offsets of the group {self._group!r} are not set: {error.str()}"
        return ServerError(text) if way_out is None else RefusedError(f"{text}; {way_out}")
