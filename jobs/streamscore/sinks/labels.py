"""Late labels: written to the outcomes that they are of, added to the statistics, and kept while these are missing.

Each step is idempotent. What a batch has written names the batch and holds what was there before, so a replay decides
again from the state before the batch, and writes all of it again.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from streamscore.clients import elasticsearch, kafka
from streamscore.clients import labels as client
from streamscore.clients.labels import Compared, Scores
from streamscore.clients.written_index import WrittenIndex
from streamscore.config import Config
from streamscore.errors import RefusedError
from streamscore.messages.labels import MAX_BYTES, Fields, Label, Message, decode
from streamscore.quality.comparison import Pair
from streamscore.schema import LABEL_COUNTS, TIME
from streamscore.scoring.labelling import Candidate, Labelled, Outcome, Prior, Resolution, resolve
from streamscore.sinks.additive import AdditiveDocuments
from streamscore.sinks.base import Batch, Replay, Sink
from streamscore.sinks.label_contributions import contributions
from streamscore.sinks.label_records import Bad, LabelRecords, label_fields, labelled_fields
from streamscore.sinks.label_waiting import SETTLING_MS, Waiting, as_before, now, waiting_documents
from streamscore.sinks.patience import patiently
from streamscore.sinks.topics import ends
from streamscore.system import failpoints

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client
    from pyspark.sql import DataFrame, SparkSession


_TIMEOUT: Final = 60.0
"""Timeout of one request, in seconds."""

_MOST_WAITING: Final = 20_000
"""Most waiting labels that a batch tries again."""

_ROUNDS: Final = 3
"""How often a batch decides again because somebody else has written a label meanwhile."""

_LATEST: Final = 1 << 53
"""With ``labels.conflict: first`` the version of a document, which only grows, is this minus the label's time."""

_Made = TypeVar("_Made")


@dataclass
class LateLabels(AdditiveDocuments, Sink):
    """A sink of labels in messages of their own."""

    label = "late_labels"

    config: Config
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """What became of the labels of each batch; who shows them takes them out."""
    waits: bool = False
    """Whether a label waits for its outcome."""
    tries_again: bool = False
    """Whether the next batch is to try waiting labels, however long ago the last one did."""
    tries_all: bool = False
    """Whether it then tries all of them, not those alone whose turn it is."""
    _looked: float = field(default_factory=time.monotonic, init=False)
    """When the waiting labels were tried last."""
    _scores: dict[tuple[str, str], Scores] = field(default_factory=dict, init=False)
    _pairs: dict[Pair, Compared] = field(default_factory=dict, init=False)
    _served_together: set[frozenset[tuple[str, str]]] = field(default_factory=set, init=False)
    """The versions that have scored one event: each such set may be a new pair."""
    _written: list[WrittenIndex] = field(default_factory=list, init=False)

    @property
    def name(self) -> str:
        """Where it writes."""
        return f"Elasticsearch at {self.config.elasticsearch.url} and the Kafka topic {self._topics[0]!r}"

    @property
    def _topics(self) -> list[str]:
        return [self.config.kafka.topics.labelled, self.config.kafka.topics.rejected]

    def check(self) -> list[str]:
        """Create the missing topics and indices, and check the others.

        Raises:
            ServerError: a server cannot be reached, or an index cannot hold what is to be written.
        """
        created = kafka.ensure(self.config.kafka, *self._topics)
        kafka.require_writable(self.config.kafka, *(topic for topic in self._topics if topic not in created))
        indices = [*elasticsearch.ensure(self.config.elasticsearch), *client.ensure(self.config.elasticsearch)]
        return [*(f"the topic {name}" for name in created), *(f"the index {name}" for name in indices)]

    def prepare(self, spark: SparkSession) -> None:  # noqa: ARG002 (the contract's argument)
        """Take note of the indices.

        Raises:
            ServerError: the server cannot be reached, or an index was deleted since the check.
        """
        settings = self.config.elasticsearch
        names = (settings.labelled_index, settings.pending_index, settings.quality_index)
        self._written = [WrittenIndex(settings, name) for name in names]
        with elasticsearch.client(settings, _TIMEOUT) as server:
            self._require_same_indices(server)

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return the current end offsets and the ids of both topics.

        Raises:
            ServerError: no broker answers, or too few replicas have the last records.
        """
        return ends(self.config.kafka, self._topics)

    def take_up(self, stream: str) -> None:
        """Find out whether labels of an earlier run wait.

        Args:
            stream: identity of the query.
        """
        settings = self.config.elasticsearch
        with elasticsearch.client(settings, _TIMEOUT) as server:
            client.refresh(server, settings, settings.pending_index)
            self.waits = bool(client.waiting(server, settings, stream, None, 1))

    def is_due(self) -> bool:
        """Return whether waiting labels are to be tried again, and no batch has come that did so."""
        is_late = time.monotonic() - self._looked >= 1.5 * self.config.labels.retry_seconds
        return self.waits and is_late and not self.tries_again

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the messages, without the content of those that are too large, and without headers that are."""
        size = "greatest(coalesce(octet_length(key), 0), coalesce(octet_length(value), 0))"
        fits = f"{size} <= {MAX_BYTES}"
        return rows.selectExpr(
            "partition",
            "offset",
            "unix_millis(timestamp) AS time",
            *(f"CASE WHEN {fits} THEN {name} END AS {name}" for name in ("key", "value")),
            f"CASE WHEN {fits} AND octet_length(string(headers)) <= {MAX_BYTES} THEN headers END AS headers",
            f"{size} AS size",
        )

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Write one batch of labels, and try those again that wait.

        Raises:
            ServerError: a server does not answer within ``elasticsearch.retry_seconds``.
            RefusedError: a document names a later batch, or the name of an index stands for another one by now.
        """
        labels, bad = self._decoded(shaped)
        stream = batch.query()
        with elasticsearch.client(self.config.elasticsearch, _TIMEOUT) as server:
            run = _Run(server, batch, stream, replay)
            self._patiently(run, partial(self._require_same_indices, server))
            waiting, stale = self._patiently(run, partial(self._waiting, run))
            made = self._label(run, [*labels, *(each.candidate for each in waiting)])
            self._add_statistics(run, made)
            self._send(run, shaped.sparkSession, LabelRecords(list(made.labelled.values()), bad))
            counts = made.counts + Counter()  # without zeros and negative numbers
            counts["pending"] = made.counts["pending"]
            counts.update(received=len(labels) + len(bad), rejected=len(bad))
            self._keep_waiting(run, made, waiting, stale)
            self._patiently(run, partial(self._put_status, run, counts))
        self.counts[batch.number] = counts

    def _require_same_indices(self, server: Client) -> None:
        for index in self._written:
            index.require_same(server)

    def _patiently(self, run: _Run, work: Callable[[], _Made]) -> _Made:
        """Return what idempotent work returns; repeat it while Elasticsearch is away."""
        made: list[_Made] = []
        patiently(lambda: made.append(work()), self.config.elasticsearch, run.batch)
        return made[-1]

    # What comes in

    def _decoded(self, shaped: DataFrame) -> tuple[list[Candidate], list[Bad]]:
        names = self.config.labels
        fields = Fields(names.id_field, names.label_field, names.time_field, self.config.message.label_values)
        labels, bad = [], []
        read_at = now()
        for row in shaped.collect():
            key, value = (None if row[name] is None else bytes(row[name]) for name in ("key", "value"))
            message = Message(row["partition"], row["offset"], row["time"], key, value, row["size"])
            label = decode(message, fields)
            if isinstance(label, Label):
                labels.append(Candidate(label, "new", read_at))
            else:
                headers = [(each["key"], each["value"] and bytes(each["value"])) for each in row["headers"] or []]
                bad.append(Bad(message, headers, label))
        return labels, bad

    def _waiting(self, run: _Run) -> tuple[list[Waiting], list[str]]:
        """Return the waiting labels that this batch tries, and the ids of those that an earlier attempt put down."""
        is_time = time.monotonic() - self._looked >= self.config.labels.retry_seconds
        is_due = self.waits and (self.tries_again or is_time)
        if not is_due and run.replay is None:
            return [], []
        settings = self.config.elasticsearch
        client.refresh(run.server, settings, settings.pending_index)
        if run.replay is not None:  # what the earlier attempt has found must be found again
            client.refresh(run.server, settings, settings.index, settings.quality_index)
        found = dict(client.waiting(run.server, settings, run.stream, None if self.tries_all else now(), _MOST_WAITING))
        if run.replay is not None:
            found |= dict(client.touched(run.server, settings, run.stream, run.batch.number))
        stale = [document for document, source in found.items() if source["batch"] == run.batch.number]
        waiting = [as_before(document, found[document], run.batch.number) for document in found.keys() - set(stale)]
        return waiting, stale

    # Which outcome gets which label

    def _label(self, run: _Run, candidates: Sequence[Candidate]) -> Resolution:
        """Decide, and write the labelled outcomes; decide again if somebody else has written a later label.

        Raises:
            RefusedError: a document's version does not come from the times of labels.
        """
        if not candidates:
            return Resolution()
        outcomes = self._patiently(run, partial(self._outcomes, run, {each.label.id for each in candidates}))
        for _ in range(_ROUNDS):
            made = self._patiently(run, partial(self._resolve, run, candidates, outcomes))
            late: list[str] = []
            failpoints.write_parts(
                "labelled",
                list(made.labelled.values()),
                lambda part, late=late: late.extend(self._patiently(run, partial(self._write, run, part))),  # type: ignore[misc]
                lambda whole: whole[::2],
            )
            if not late:
                return made
        settings = self.config.elasticsearch
        raise RefusedError(
            f"the document {late[0]!r} of {settings.labelled_index!r} at {settings.url} has a later version than its "
            "label: was labels.conflict another before? Give the indices of late labels other names, and let "
            "label_stream read its topic again from a new --checkpoint"
        )

    def _outcomes(self, run: _Run, ids: set[str]) -> dict[str, list[Outcome]]:
        """Return the outcomes that a search sees, of versions whose scores the statistics know."""
        settings, topic = self.config.elasticsearch, self.config.kafka.topics.input
        found = client.outcomes(run.server, settings, topic, self.config.labels.match, ids)
        events: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        for of_id in found.values():
            for _, each in of_id:
                events[each["event_id"]].add((each["model"], each["model_version"]))
        served = {frozenset(versions) for versions in events.values()}
        if served - self._served_together:
            client.refresh(run.server, settings, settings.quality_index)
            self._scores |= client.scores(run.server, settings, topic)
            self._pairs |= client.pairs(run.server, settings, topic)
            self._served_together |= {versions for versions in served if versions <= self._scores.keys()}
        return {
            identity: [Outcome(*each) for each in of_id if (each[1]["model"], each[1]["model_version"]) in self._scores]
            for identity, of_id in found.items()
        }

    def _resolve(
        self, run: _Run, candidates: Sequence[Candidate], outcomes: Mapping[str, Sequence[Outcome]]
    ) -> Resolution:
        there = client.labelled(
            run.server, self.config.elasticsearch, [each.id for of_id in outcomes.values() for each in of_id]
        )
        priors = {document: self._prior(source, run) for document, source in there.items()}
        settings, at = self.config.labels, now()
        return resolve(
            candidates,
            outcomes,
            {document: prior for document, prior in priors.items() if prior is not None},
            {model.name for model in self.config.models},
            settings.conflict,
            lambda each: at - each.since >= settings.horizon * 1_000,
            lambda each: at - each.since >= SETTLING_MS,
        )

    def _prior(self, source: Mapping[str, Any], run: _Run) -> Prior | None:
        """Return the label of a document before the batch.

        Raises:
            RefusedError: a later batch has written it.
        """
        if source["stream"] == run.stream and source["batch"] > run.batch.number:
            settings = self.config.elasticsearch
            raise RefusedError(
                f"the index {settings.labelled_index!r} at {settings.url} has labels of batch {source['batch']} of "
                f"this stream already, and now comes batch {run.batch.number}: the checkpoint is older than what was "
                "written from it. Take the latest state of the checkpoint, or a new one"
            )
        is_own = (source["stream"], source["batch"]) == (run.stream, run.batch.number)
        known = source.get("before") if is_own else source
        if known is None:
            return None
        return Prior(float(known["label"]), known["label_time"], known["label_partition"], known["label_offset"])

    def _write(self, run: _Run, labelled: Sequence[Labelled]) -> list[str]:
        documents = []
        for each in labelled:
            at = each.label.time
            version = at if self.config.labels.conflict == "last" else max(0, _LATEST - at)
            source = {**labelled_fields(each), "stream": run.stream, "batch": run.batch.number}
            if each.prior is not None:
                source["before"] = label_fields(each.prior)
            documents.append((each.outcome.id, version, source))
        settings = self.config.elasticsearch
        return client.write(run.server, settings, settings.labelled_index, documents)

    # The statistics

    def _add_statistics(self, run: _Run, made: Resolution) -> None:
        added = contributions(self.config, made, self._scores, self._pairs, run.stream)
        if run.replay is not None:
            self._patiently(run, partial(self._take_back, run.server, run.stream, run.batch.number, added))
        failpoints.write_parts(
            "labels-quality",
            added,
            lambda part: self._add_in_pieces(run.server, part, run.batch),
            lambda whole: dict(list(whole.items())[::2]),
        )

    # The topics

    def _send(self, run: _Run, spark: SparkSession, records: LabelRecords) -> None:
        """Append the labelled outcomes and the rejected messages; on a replay those that are not there yet."""
        settings = self.config.kafka
        if run.replay is not None:
            records = records.missing(spark, settings, run.replay, run.batch)
        failpoints.write_parts("labels-records", records, lambda part: part.produce(settings), LabelRecords.half)

    # What is kept for the next batches

    def _keep_waiting(self, run: _Run, made: Resolution, waiting: Sequence[Waiting], stale: Sequence[str]) -> None:
        """Write down which labels wait, and delete those that are done since an earlier batch."""
        settings = self.config.elasticsearch
        documents = waiting_documents(made, waiting, run.stream, run.batch.number, self.config.labels.retry_seconds)
        gone = [document for document in stale if document not in documents]
        if waiting or run.replay is not None:
            gone += self._patiently(
                run, partial(client.resolved_before, run.server, settings, run.stream, run.batch.number)
            )
        rows = [(document, None, source) for document, source in documents.items()]
        failpoints.write_parts(
            "labels-pending",
            rows,
            partial(self._write_waiting, run),
            lambda whole: whole[::2],
        )
        self._patiently(run, lambda: client.delete(run.server, settings, settings.pending_index, gone))
        if waiting or run.replay is not None or self.tries_again:
            self._looked = time.monotonic()
            self._patiently(run, lambda: client.refresh(run.server, settings, settings.pending_index))
            left = self._patiently(run, lambda: client.waiting(run.server, settings, run.stream, None, 1))
            self.waits = bool(left)
            self.tries_again = self.tries_all = False
        elif made.waiting or made.incomplete:
            self.waits = True

    def _write_waiting(self, run: _Run, rows: Sequence[tuple[str, None, Mapping[str, Any]]]) -> None:
        settings = self.config.elasticsearch
        self._patiently(run, lambda: client.write(run.server, settings, settings.pending_index, rows))

    def _put_status(self, run: _Run, counts: Mapping[str, int]) -> None:
        settings = self.config.elasticsearch
        source = {
            TIME: now(),
            "query": run.stream,
            "batch": run.batch.number,
            "topic": self.config.kafka.topics.labels,
        }
        source |= {name: counts.get(name, 0) for name in LABEL_COUNTS}
        document = f"{run.stream}-{run.batch.number}"
        client.write(run.server, settings, settings.labels_status_index, [(document, None, source)])


class _Run(NamedTuple):
    """The batch that is written, and the client for it."""

    server: Client
    batch: Batch
    stream: str
    replay: Replay | None
