"""A Kafka producer that reports every record that the broker did not accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamscore.clients import kafka as kafka_client
from streamscore.config import Kafka
from streamscore.errors import ServerError


class Outbox:
    """A producer for one topic. A failed delivery is raised by a later ``poll()`` or ``flush()``."""

    def __init__(self, kafka: Kafka, topic: str, way_out: str = "") -> None:
        """Make a producer that connects on first use.

        Args:
            kafka: the brokers.
            topic: topic of the records.
            way_out: the end of the error message if a record is not accepted.
        """
        self._producer = kafka_client.producer(kafka)
        self._topic = topic
        self._way_out = way_out
        self._failure: str | None = None

    def send(
        self, name: str, key: bytes | None, value: str | bytes | None, headers: Sequence[tuple[str, str | bytes | None]]
    ) -> None:
        """Put a record into the client's queue; wait for the broker while the queue is full.

        Args:
            name: name of the record, for error messages.
            key: the record's key; None: no key.
            value: the record's value; None: a tombstone.
            headers: names and values of the record's headers.

        Raises:
            ServerError: the client itself refuses the record.
        """
        from confluent_kafka import KafkaException

        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=list(headers), on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise ServerError(
                    f"the topic {self._topic!r} does not take {name}: {error.args[0].str()}{self._way_out}"
                ) from None

    def poll(self) -> None:
        """Handle the delivery reports that have arrived so far.

        Raises:
            ServerError: the broker did not accept a record.
        """
        self._producer.poll(0)
        if self._failure is not None:
            raise ServerError(f"the topic {self._topic!r} did not take every message: {self._failure}{self._way_out}")

    def flush(self) -> None:
        """Wait until the broker has accepted all records.

        Raises:
            ServerError: the broker did not accept a record, or not within a minute.
        """
        left = self._producer.flush(60)
        if left and self._failure is None:
            self._failure = f"{left} are not acknowledged after 60 s"
        self.poll()

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = error.str()
