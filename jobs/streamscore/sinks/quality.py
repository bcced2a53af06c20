"""The statistics of quality as documents of an Elasticsearch index; a replay counts no event twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from streamscore.clients import elasticsearch
from streamscore.clients import quality as client
from streamscore.clients.written_index import WrittenIndex
from streamscore.messages.decoder import quality_sums
from streamscore.quality.comparison import champion_of
from streamscore.sinks import contributions
from streamscore.sinks.additive import AdditiveDocuments
from streamscore.sinks.base import Batch, OutcomeSink, Replay
from streamscore.sinks.patience import patiently
from streamscore.system import failpoints
from streamscore.system.console import log

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client
    from pyspark.sql import Column, DataFrame, SparkSession

_TIMEOUT: Final = 30.0
"""Timeout of one request, in seconds."""
_SUMS: Final = "sums"


@dataclass
class QualityStatistics(AdditiveDocuments, OutcomeSink):
    """A sink of one document per model or pair, version and window of event time; each batch adds its events."""

    label = "quality_statistics"

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

    def aggregates(self, spark: SparkSession) -> dict[str, Column]:
        """Return the packed statistics by model and window of the shortest length."""
        shortest = self.config.quality.windows[0]
        compared = champion_of(self.config.compare.champion, self.models)
        return {_SUMS: quality_sums(spark, self.models, compared, shortest)}

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the rows as they are: all that is written follows from the aggregates."""
        return rows

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:  # noqa: ARG002 (aggregates say all)
        """Add the sums of the batch to the documents; retry transient failures.

        A stream that scores the topic again first deletes the statistics of the earlier streams.

        Raises:
            ServerError: Elasticsearch does not answer within ``elasticsearch.retry_seconds``.
            RefusedError: a document names a later batch, or the name of the index stands for another one by now.
        """
        settings, stream = self.config.elasticsearch, batch.query()
        with elasticsearch.client(settings, _TIMEOUT) as server:
            patiently(partial(self._require_same_index, server), settings, batch)
            added = contributions.of_batch(self.config, self.models, bytes(batch.aggregates[_SUMS]), stream)
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

    def _drop_earlier_streams(self, server: Client, stream: str) -> None:
        topic = self.config.kafka.topics.input
        dropped = client.drop_other_streams(server, self.config.elasticsearch, topic, stream)
        if dropped:
            log.info(
                "a new stream counts the topic %s from its beginning: %s statistics of the earlier one are deleted",
                topic,
                f"{dropped:,}",
            )
