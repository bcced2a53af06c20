"""The statistics of quality as documents of an Elasticsearch index; a replay counts no event twice."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import elasticsearch
from streamscore.clients import quality as client
from streamscore.clients.quality import Change, Kept
from streamscore.clients.written_index import WrittenIndex
from streamscore.errors import RefusedError
from streamscore.messages.decoder import quality_sums
from streamscore.quality.comparison import champion_of
from streamscore.sinks import contributions
from streamscore.sinks.base import Batch, OutcomeSink, Replay
from streamscore.sinks.contributions import Contribution
from streamscore.sinks.patience import patiently
from streamscore.system import failpoints
from streamscore.system.console import log

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client
    from pyspark.sql import DataFrame, SparkSession

_TIMEOUT: Final = 30.0
"""Timeout of one request, in seconds."""

_PIECE: Final = 1_000
"""Documents per piece of a batch; a document takes some 20 kB of memory."""


@dataclass
class QualityStatistics(OutcomeSink):
    """A sink of one document per model or pair, version and window of event time; each batch adds its events.

    A document names the last batch that added to it, and holds the statistic before that batch; a replay adds to the
    latter. So each batch counts once, whatever its events' times and wherever a write was interrupted.
    """

    is_alone: bool = False
    """Whether the statistics of the topic's earlier streams have been deleted."""
    written: WrittenIndex | None = None
    """The index, once it is known; a copy for other models keeps it."""

    @property
    def name(self) -> str:
        """The server's address."""
        return f"Elasticsearch at {self.config.elasticsearch.url}"

    def prepare(self, spark: SparkSession) -> None:  # noqa: ARG002 (the contract's argument)
        """Take note of the index.

        Raises:
            ServerError: the server cannot be reached, or the index was deleted since the check.
        """
        with elasticsearch.client(self.config.elasticsearch, _TIMEOUT) as server:
            self._require_same_index(server)

    def _require_same_index(self, server: Client) -> None:
        if self.written is None:
            self.written = WrittenIndex(self.config.elasticsearch, self.config.elasticsearch.quality_index)
        self.written.require_same(server)

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return one row of bytes: the packed statistics by model and window of the shortest length."""
        shortest = self.config.quality.windows[0]
        compared = champion_of(self.config.compare.champion, self.models)
        return rows.agg(quality_sums(rows.sparkSession, self.models, compared, shortest).alias("sums"))

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Sum up the batch in one Spark job, and add the sums to the documents; retry transient failures.

        A stream that scores the topic again first deletes the statistics of the earlier streams.

        Raises:
            ServerError: Elasticsearch does not answer within ``elasticsearch.retry_seconds``.
            RefusedError: a document names a later batch, or the name of the index stands for another one by now.
        """
        settings, stream = self.config.elasticsearch, batch.query()
        with elasticsearch.client(settings, _TIMEOUT) as server:
            patiently(partial(self._require_same_index, server), settings, batch)
            (row,) = shaped.collect()
            added = contributions.of_batch(self.config, self.models, bytes(row["sums"]), stream)
            if self._counts_again and not self.is_alone:
                patiently(lambda: self._drop_earlier_streams(server, stream), settings, batch)
                self.is_alone = True
            if replay is not None:
                patiently(lambda: self._take_back(server, stream, batch.number, added), settings, batch)
            failpoints.write_parts(
                "quality",
                added,
                lambda part: self._add_in_pieces(server, part, batch),
                lambda whole: dict(list(whole.items())[::2]),
            )
            patiently(partial(self._require_same_index, server), settings, batch)

    @property
    def _counts_again(self) -> bool:
        """Whether the stream may score events again that an earlier stream has scored.

        Without ``stream.new_checkpoint`` other statistics may belong to a running job, and are never deleted.
        """
        stream = self.config.stream
        return stream.new_checkpoint and stream.starting_offsets == "earliest"

    def _add_in_pieces(self, server: Client, added: Mapping[str, Contribution], batch: Batch) -> None:
        """Add the contributions, a piece of the documents at a time; retry each piece by itself."""
        documents = list(added.items())
        for first in range(0, len(documents), _PIECE):
            piece = dict(documents[first : first + _PIECE])
            patiently(partial(self._add, server, piece, batch.number), self.config.elasticsearch, batch)

    def _add(self, server: Client, added: Mapping[str, Contribution], number: int) -> None:
        """Read the documents, add the batch's contributions, and write them; idempotent."""
        settings = self.config.elasticsearch
        kept = client.read(server, settings, added)
        changes = []
        for document, part in added.items():
            before = self._before(kept.get(document), number)
            fields = part.after(before)
            source = {**part.header, "batch": number, **fields}
            if before is not None:
                source["before"] = {name: before[name] for name in fields if name in before}
            changes.append(Change(document, source, kept.get(document)))
        client.write(server, settings, changes)

    def _before(self, kept: Kept | None, number: int) -> Mapping[str, Any] | None:
        """Return a document's fields without a batch's contribution; None if there was no document before the batch.

        Raises:
            RefusedError: a later batch has added to the document.
        """
        if kept is None:
            return None
        last = kept.source["batch"]
        if last > number:
            settings = self.config.elasticsearch
            raise RefusedError(
                f"the index {settings.quality_index!r} at {settings.url} has counted batch {last} of this stream "
                f"already, and now comes batch {number}: the checkpoint is older than what was written from it. Take "
                "the latest state of the checkpoint, or a new one with --new-checkpoint"
            )
        before: Mapping[str, Any] | None = kept.source if last < number else kept.source.get("before")
        return before

    def _take_back(self, server: Client, stream: str, number: int, added: Container[str]) -> None:
        """Undo an earlier attempt's contributions to other documents: a batch planned again may hold other events."""
        settings = self.config.elasticsearch
        for page in client.of_batch(server, settings, stream, number):
            changes = []
            for document, kept in page.items():
                if document not in added:
                    before = kept.source.get("before")
                    source = None if before is None else {**kept.source, **before}
                    changes.append(Change(document, source, kept))
            client.write(server, settings, changes)

    def _drop_earlier_streams(self, server: Client, stream: str) -> None:
        topic = self.config.kafka.topics.input
        dropped = client.drop_other_streams(server, self.config.elasticsearch, topic, stream)
        if dropped:
            log.info(
                "a new stream counts the topic %s from its beginning: %s statistics of the earlier one are deleted",
                topic,
                f"{dropped:,}",
            )
