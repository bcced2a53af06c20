"""Which checkpoint belongs to which topic and outputs.

The outputs remember the stream that has written to them: from another checkpoint the whole topic would be scored
again, or, with ``starting_offsets: latest``, a part of it never. The checkpoint remembers Kafka's id of the topic: of
one that was deleted and created again, the events at offsets that were scored before would be left out.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from streamscore.clients import index_streams, kafka, quality, topic_records
from streamscore.config import Config
from streamscore.errors import CheckpointError, ServerError, StreamError
from streamscore.stream import checkpoint, notes
from streamscore.stream.checkpoint import State
from streamscore.stream.folders import Folder

TOPIC_POLL_SECONDS: Final = 5.0
"""How often a running job asks for the id of its input topic."""


def require_known(config: Config, past: State) -> None:
    """Refuse to score a topic from another checkpoint than its outcomes were written from.

    The index knows the stream that has written to it. Where it does not, or is not there, the outcomes in Kafka tell
    at least whether there was one. The statistics of quality name their stream, and two streams of one topic would
    count each event twice.

    Raises:
        CheckpointError: there are outcomes or statistics of another stream, and ``stream.new_checkpoint`` does not
            accept that.
        ServerError: a server does not answer.
    """
    if config.stream.new_checkpoint:
        return
    settings, topic = config.elasticsearch, config.kafka.topics.input
    known = index_streams.checkpoint_of(settings, topic) if settings.enabled else None
    if known is not None and known != past.query:
        raise _refusal(config, past, f"index {settings.index!r}", f"stream {known}")
    if known is None and past.is_new and _has_outcomes(config):
        raise _refusal(config, past, f"topic {config.kafka.topics.predictions!r}", "an earlier stream")
    if settings.enabled:
        _require_uncounted(config, past)


def require_same_topic(config: Config, files: Folder) -> None:
    """Refuse an input topic that was deleted and created again since its events were scored from the checkpoint.

    Raises:
        CheckpointError: it was.
        ServerError: no broker answers, or the topic does not exist.
    """
    topic = config.kafka.topics.input
    notes.require_same_topic(files, config.stream.checkpoint, topic, kafka.topic_id(config.kafka, topic))


def require_unexpired(config: Config, files: Folder, committed: int) -> None:
    """Refuse to go on from a checkpoint whose next events the topic no longer holds.

    Args:
        config: the configuration.
        files: the checkpoint.
        committed: number of the last committed batch; -1: none is.

    Raises:
        CheckpointError: events have expired before they were scored; the message says how many.
        ServerError: no broker answers, or the topic does not exist.
    """
    topic = config.kafka.topics.input
    expected = checkpoint.next_offsets(files, committed).get(topic, {})
    if not expected:
        return
    begin = topic_records.extent(config.kafka, topic).begin
    expired = {number: offset for number, offset in sorted(expected.items()) if offset < begin.get(number, 0)}
    if not expired:
        return
    places = "; ".join(
        f"partition {number} begins at {begin[number]:,}, but {offset:,} is next" for number, offset in expired.items()
    )
    count = sum(begin[number] - offset for number, offset in expired.items())
    raise CheckpointError(
        f"{count:,} events of the topic {topic!r} have expired before they were scored from the checkpoint "
        f"{config.stream.checkpoint} ({places}): the topic's retention (retention.ms, retention.bytes) is shorter than "
        "the job was away or behind, or somebody deleted records. They cannot be scored any more. To score what the "
        "topic still holds, start with a new --checkpoint and --new-checkpoint"
    )


class TopicWatch:
    """Notices that the input topic is deleted and created again, at the start and while the stream runs.

    It asks in a background thread, so that a broker that does not answer never delays the stream.
    """

    def __init__(self, config: Config, files: Folder, past: State) -> None:
        """Compare the topic's id with the one in the checkpoint, and record it there if the checkpoint is new.

        Args:
            config: the configuration.
            files: the checkpoint, whose lease this job holds.
            past: the state of the checkpoint.

        Raises:
            CheckpointError: the topic was created again since its events were scored.
            ServerError: no broker answers, or the topic does not exist.
        """
        self._config = config
        self._files = files
        self._client = kafka.admin(config.kafka)
        self._first = self._latest = self._ask()
        if not past.is_new:
            self._require_same()
        notes.record_topic(files, config.kafka.topics.input, self._first)
        self._next_look = time.monotonic() + TOPIC_POLL_SECONDS
        self._looking = threading.Thread()

    def has_changed(self) -> bool:
        """Return whether the topic is known to be another one than at the start; ask for its id if it is time to."""
        if not self._looking.is_alive() and time.monotonic() >= self._next_look:
            self._looking = threading.Thread(target=self._look, name="topic-watch", daemon=True)
            self._looking.start()
        return self._latest != self._first

    @contextmanager
    def required(self) -> Iterator[None]:
        """Run a query, and refuse the topic if it turns out to be another one when the query has ended.

        Raises:
            CheckpointError: it is, or its next events have expired; that is also why the query stopped on a fault, if
                it did.
        """
        try:
            yield
        except StreamError:
            self._look()
            self._require_same()
            self._require_unexpired()
            raise
        self._look()
        self._require_same()

    def _require_same(self) -> None:
        topic = self._config.kafka.topics.input
        notes.require_same_topic(self._files, self._config.stream.checkpoint, topic, self._latest)

    def _require_unexpired(self) -> None:
        committed = checkpoint.inspect(self._files, self._config.stream.checkpoint).committed
        with suppress(ServerError):  # the query's own fault says more
            require_unexpired(self._config, self._files, committed)

    def _look(self) -> None:
        try:
            self._latest = self._ask() or self._first
        except ServerError:  # the query itself reports a broker that is away and a topic that is gone
            pass
        finally:
            self._next_look = time.monotonic() + TOPIC_POLL_SECONDS

    def _ask(self) -> str | None:
        return kafka.topic_id(self._config.kafka, self._config.kafka.topics.input, self._client)


def _has_outcomes(config: Config) -> bool:
    """Return whether the last record of a partition is an outcome of the input topic, as its event's id says."""
    if config.kafka.topics.predictions not in kafka.names(config.kafka):
        return False
    event = re.compile(re.escape(config.kafka.topics.input) + r"-\d+-\d+")
    last = topic_records.read(config.kafka, config.kafka.topics.predictions, last=1)
    return any(event.fullmatch(_event_id(message.value())) for message in last)


def _event_id(value: bytes | None) -> str:
    try:
        return str(json.loads(value or b"{}")["event_id"])
    except (ValueError, TypeError, LookupError):
        return ""  # somebody else's record


def _require_uncounted(config: Config, past: State) -> None:
    """Refuse to add to statistics that another stream has written of the same events.

    A stream that was let in at the latest offsets scores other events than earlier streams, whose statistics stay.

    Raises:
        CheckpointError: the index has statistics of another stream.
        ServerError: Elasticsearch does not answer.
    """
    settings, topic = config.elasticsearch, config.kafka.topics.input
    from_the_beginning = config.stream.starting_offsets == "earliest"
    if not (past.is_new or from_the_beginning):
        return
    other = quality.other_stream(settings, topic, past.query)
    if other is not None:
        deleting = ", which deletes the statistics that are there" if from_the_beginning else ""
        raise CheckpointError(
            f"the index {settings.quality_index!r} holds statistics of the topic {topic!r} from stream {other}, but "
            f"the checkpoint {config.stream.checkpoint} {_owner(past)}: each event would count twice. If another job "
            "scores the topic too, give this one an index of its own (elasticsearch.quality_index); if none does, give "
            "the checkpoint of that stream with --checkpoint, or accept a new beginning with "
            f"--new-checkpoint{deleting}"
        )


def _owner(past: State) -> str:
    return "is new" if past.is_new else f"belongs to stream {past.query}"


def _refusal(config: Config, past: State, place: str, writer: str) -> CheckpointError:
    return CheckpointError(
        f"the {place} holds outcomes of the topic {config.kafka.topics.input!r} from {writer}, but the checkpoint "
        f"{config.stream.checkpoint} {_owner(past)}. Give the checkpoint of that stream with --checkpoint, or accept a "
        "new beginning with --new-checkpoint"
    )
