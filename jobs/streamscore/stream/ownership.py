"""What the outputs remember: whether the topic was scored from another checkpoint than the one at hand.

From a new one the whole topic would be scored again, or, with ``starting_offsets: latest``, a part of it never.
"""

from __future__ import annotations

import json
import re

from streamscore.clients import elasticsearch, kafka
from streamscore.config import Config
from streamscore.errors import CheckpointError
from streamscore.stream.checkpoint import State


def require_known(config: Config, past: State) -> None:
    """Refuse to score a topic from another checkpoint than its outcomes were written from.

    The index knows the stream that has written to it. Where it does not, or is not there, the outcomes in Kafka tell
    at least whether there was one.

    Raises:
        CheckpointError: there are outcomes of another stream, and ``stream.new_checkpoint`` does not accept that.
        ServerError: a server does not answer.
    """
    if config.stream.new_checkpoint:
        return
    settings, topic = config.elasticsearch, config.kafka.topics.input
    known = elasticsearch.checkpoint_of(settings, topic) if settings.enabled else None
    if known is not None and known != past.query:
        raise _refusal(config, past, f"index {settings.index!r}", f"stream {known}")
    if known is None and past.is_new and _has_outcomes(config):
        raise _refusal(config, past, f"topic {config.kafka.topics.predictions!r}", "an earlier stream")


def _has_outcomes(config: Config) -> bool:
    """Tell whether the last record of a partition is an outcome of the input topic, as its event's id says."""
    if config.kafka.topics.predictions not in kafka.names(config.kafka):
        return False
    event = re.compile(re.escape(config.kafka.topics.input) + r"-\d+-\d+")
    last = kafka.read(config.kafka, config.kafka.topics.predictions, last=1)
    return any(event.fullmatch(_event_id(message.value())) for message in last)


def _event_id(value: bytes | None) -> str:
    try:
        return str(json.loads(value or b"{}")["event_id"])
    except (ValueError, TypeError, LookupError):
        return ""  # somebody else's record


def _refusal(config: Config, past: State, place: str, writer: str) -> CheckpointError:
    found = "is new" if past.is_new else f"belongs to stream {past.query}"
    return CheckpointError(
        f"the {place} holds outcomes of the topic {config.kafka.topics.input!r} from {writer}, but the checkpoint "
        f"{config.stream.checkpoint} {found}. Give the checkpoint of that stream with --checkpoint, or accept a new "
        "beginning with --new-checkpoint"
    )
