"""The statistics of quality as documents of an Elasticsearch index; a replay counts no event twice."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.clients import elasticsearch
from streamscore.clients import quality as client
from streamscore.clients.quality import Change, Kept
from streamscore.errors import RefusedError
from streamscore.messages.decoder import quality_sums
from streamscore.quality.packed import unpack
from streamscore.quality.statistic import EMPTY, Statistic, total
from streamscore.schema import TIME
from streamscore.sinks.base import Batch, OutcomeSink, Replay
from streamscore.sinks.patience import patiently
from streamscore.system import failpoints
from streamscore.system.console import log

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client
    from pyspark.sql import DataFrame

_TIMEOUT: Final = 30.0
"""Timeout of one request, in seconds."""

_PIECE: Final = 1_000
"""Documents per piece of a batch; a document takes some 20 kB of memory."""


class Added(NamedTuple):
    """A batch's contribution to one document."""

    header: Mapping[str, Any]
    """The fields that identify the statistic."""
    statistics: list[Statistic]
    """The statistics of the shortest windows inside, to be added up."""


@dataclass
class QualityStatistics(OutcomeSink):
    """A sink of one document per model, version, score kind and window of event time; each batch adds its events.

    A document names the last batch that added to it, and holds the statistic before that batch; a replay adds to the
    latter. So each batch counts once, whatever its events' times and wherever a write was interrupted.
    """

    is_alone: bool = False
    """Whether the statistics of the topic's earlier streams have been deleted."""

    @property
    def name(self) -> str:
        """The server's address."""
        return f"Elasticsearch at {self.config.elasticsearch.url}"

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return one row of bytes: the packed statistics by model and window of the shortest length."""
        shortest = self.config.quality.windows[0]
        return rows.agg(quality_sums(rows.sparkSession, self.models, shortest).alias("sums"))

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Sum up the batch in one Spark job, and add the sums to the documents; retry transient failures.

        A stream that scores the topic again first deletes the statistics of the earlier streams.

        Raises:
            ServerError: Elasticsearch does not answer within ``elasticsearch.retry_seconds``.
            RefusedError: a document names a later batch.
        """
        settings, stream = self.config.elasticsearch, batch.query()
        (row,) = shaped.collect()
        added = self._added(bytes(row["sums"]), stream)
        with elasticsearch.client(settings, _TIMEOUT) as server:
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

    @property
    def _counts_again(self) -> bool:
        """Whether the stream may score events again that an earlier stream has scored.

        Without ``stream.new_checkpoint`` other statistics may belong to a running job, and are never deleted.
        """
        stream = self.config.stream
        return stream.new_checkpoint and stream.starting_offsets == "earliest"

    def _added(self, sums: bytes, stream: str) -> dict[str, Added]:
        """Return a batch's contributions by document id; those of longer windows are sums of the shortest windows."""
        added: dict[str, Added] = {}
        for begin, position, statistic in unpack(sums, [served.score_kind for served in self.models]):
            model = self.models[position]
            for seconds in self.config.quality.windows:
                header = {
                    TIME: begin // (1_000 * seconds) * 1_000 * seconds,
                    "seconds": seconds,
                    "topic": self.config.kafka.topics.input,
                    "stream": stream,
                    "model": model.name,
                    "model_version": model.version,
                }
                # A version may come back with another kind of score, and statistics of two kinds do not add up.
                document = f"{stream}-{model.name}-{model.version}-{model.score_kind}-{seconds}-{header[TIME]}"
                added.setdefault(document, Added(header, [])).statistics.append(statistic)
        return added

    def _add_in_pieces(self, server: Client, added: Mapping[str, Added], batch: Batch) -> None:
        """Add the contributions, a piece of the documents at a time; retry each piece by itself."""
        documents = list(added.items())
        for first in range(0, len(documents), _PIECE):
            piece = dict(documents[first : first + _PIECE])
            patiently(partial(self._add, server, piece, batch.number), self.config.elasticsearch, batch)

    def _add(self, server: Client, added: Mapping[str, Added], number: int) -> None:
        """Read the documents, add the batch's contributions, and write them; idempotent."""
        settings = self.config.elasticsearch
        kept = client.read(server, settings, added)
        changes = []
        for document, part in added.items():
            before = self._before(kept.get(document), number)
            source = {**part.header, "batch": number, **total([before, *part.statistics]).to_document()}
            if before.scored or before.declined:
                source["before"] = before.to_document()
            changes.append(Change(document, source, kept.get(document)))
        client.write(server, settings, changes)

    def _before(self, kept: Kept | None, number: int) -> Statistic:
        """Return the statistic of a document without a batch's contribution.

        Raises:
            RefusedError: a later batch has added to the document.
        """
        if kept is None:
            return EMPTY
        last = kept.source["batch"]
        if last > number:
            settings = self.config.elasticsearch
            raise RefusedError(
                f"the index {settings.quality_index!r} at {settings.url} has counted batch {last} of this stream "
                f"already, and now comes batch {number}: the checkpoint is older than what was written from it. Take "
                "the latest state of the checkpoint, or a new one with --new-checkpoint"
            )
        if last < number:
            return Statistic.from_document(kept.source)
        before = kept.source.get("before")
        return EMPTY if before is None else Statistic.from_document(before)

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
