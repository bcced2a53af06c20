"""The records of late labels: labelled outcomes, and messages that hold no label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streamscore import __version__
from streamscore.clients.producer import Outbox
from streamscore.config import Kafka
from streamscore.messages.labels import BadLabel, Message
from streamscore.schema import EVENT_ID_HEADER, OUTCOME_FIELDS, REJECTED_HEADERS, TIME
from streamscore.scoring.labelling import Labelled
from streamscore.sinks.base import Batch, Replay
from streamscore.sinks.topics import written_since

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Bad(NamedTuple):
    """A message without a label, with the content that goes to the rejected topic."""

    message: Message
    headers: list[tuple[str, bytes | None]]
    why: BadLabel


@dataclass(frozen=True)
class LabelRecords:
    """Records for the two output topics of label_stream."""

    labelled: list[Labelled] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)

    def half(self) -> LabelRecords:
        """Return half of the records."""
        return LabelRecords(self.labelled[::2], self.bad[::2])

    def missing(self, spark: SparkSession, kafka: Kafka, replay: Replay, batch: Batch) -> LabelRecords:
        """Return the records that the topics do not hold yet.

        Args:
            spark: the session.
            kafka: the brokers and topics.
            replay: which batches may have been written before.
            batch: the batch.
        """
        if not (self.labelled or self.bad):
            return self
        names = kafka.topics
        rows = written_since(spark, kafka, [names.labelled, names.rejected], replay, batch.is_stopping)
        there: set[Any] = set()
        for row in rows.select("topic", "value", "headers").collect():
            if row["topic"] == names.labelled:
                there.add(_identity(json.loads(bytes(row["value"]))))
            else:
                headers = {each["key"]: each["value"] for each in row["headers"] or []}
                there.add(bytes(headers.get(EVENT_ID_HEADER) or b"").decode(errors="replace"))
        return LabelRecords(
            [each for each in self.labelled if _identity(labelled_record(each)) not in there],
            [each for each in self.bad if _event_id(kafka, each) not in there],
        )

    def produce(self, kafka: Kafka) -> None:
        """Append the records, and wait until the brokers have all of them.

        Raises:
            ServerError: a topic does not take a record.
        """
        outcomes, refused = Outbox(kafka, kafka.topics.labelled), Outbox(kafka, kafka.topics.rejected)
        for each in self.labelled:
            record = labelled_record(each)
            key = record["event_id"] if record["key"] is None else record["key"]
            outcomes.send(each.outcome.id, key.encode(), json.dumps(record, ensure_ascii=False), [])
            outcomes.poll()
        for bad in self.bad:
            event_id, message = _event_id(kafka, bad), bad.message
            at = (kafka.topics.labels, str(message.partition), str(message.offset))
            values = (*at, "DECODE", bad.why.detail, bad.why.reason, event_id, __version__)
            ours = [(name, value.encode()) for name, value in zip(REJECTED_HEADERS, values, strict=True)]
            refused.send(event_id, message.key, message.value, [*bad.headers, *ours])
            refused.poll()
        outcomes.flush()
        refused.flush()


def label_fields(label: Any) -> dict[str, Any]:
    """Return the fields of a label in a document.

    Args:
        label: a ``Label`` or a ``Prior``.
    """
    return {
        "label": label.value,
        "label_time": label.time,
        "label_partition": label.partition,
        "label_offset": label.offset,
    }


def labelled_fields(labelled: Labelled) -> dict[str, Any]:
    """Return the fields of an outcome with its label, without those that say which batch wrote it."""
    fields, label = labelled.outcome.fields, labelled.label
    prediction = fields.get("prediction")
    return {
        **fields,
        **label_fields(label),
        "correct": None if prediction is None else int(prediction == label.value),
        "label_lag_ms": label.time - fields[TIME],
    }


def labelled_record(labelled: Labelled) -> dict[str, Any]:
    """Return a record of the topic of labelled outcomes: an outcome's fields, and the time and lag of the label."""
    fields = labelled_fields(labelled)
    record = {name: fields.get(name) for name in OUTCOME_FIELDS}
    added = {name: fields[name] for name in ("label_time", "label_lag_ms")}
    return {**record, "event_time": fields[TIME], **added}


def _identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in ("event_id", "model", "model_version", "label", "label_time"))


def _event_id(kafka: Kafka, bad: Bad) -> str:
    return f"{kafka.topics.labels}-{bad.message.partition}-{bad.message.offset}"
