"""Keep a record of a message that is passed over unread."""

from __future__ import annotations

import time
from typing import Final

from streamscore import __version__
from streamscore.clients import elasticsearch, rejected
from streamscore.clients.producer import Outbox
from streamscore.config import Config
from streamscore.schema import DETAIL, NOT_KEPT, REASON, REJECTED_HEADERS, TIME

_REASON: Final = "too_large"
_DETAIL: Final = f"passed over unread (stream.skip){NOT_KEPT}"


def keep(config: Config, partition: int, offset: int) -> None:
    """Put a message without its content into the rejected topic, unless it is there already, and into the index.

    Args:
        config: names the topics and the index.
        partition: partition of the message.
        offset: offset of the message.

    Raises:
        ServerError: a server does not answer, or does not accept it.
    """
    kafka = config.kafka
    event_id = f"{kafka.topics.input}-{partition}-{offset}"
    if all(message.event_id != event_id for message in rejected.read(kafka)):
        values = (kafka.topics.input, str(partition), str(offset), "read", _DETAIL, _REASON, event_id, __version__)
        outbox = Outbox(kafka, kafka.topics.rejected)
        outbox.send(event_id, None, None, list(zip(REJECTED_HEADERS, values, strict=True)))
        outbox.flush()
    settings = config.elasticsearch
    if settings.enabled:
        document = {TIME: round(time.time() * 1_000), "event_id": event_id, REASON: _REASON, DETAIL: _DETAIL}
        with elasticsearch.reporting(settings), elasticsearch.client(settings) as server:
            server.index(index=settings.rejected_index, id=event_id, document=document)
