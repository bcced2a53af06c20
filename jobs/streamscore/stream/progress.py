"""What Spark reports of a running query, as facts about committed batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

Offsets = Mapping[tuple[str, int], int]
"""The next offset to read, by topic and partition."""


@dataclass(frozen=True)
class CommittedBatch:
    """A batch that is written to every sink and committed in the checkpoint."""

    query: str
    """Identity of the query, which lasts as long as its checkpoint does."""
    number: int
    started: str
    """When its trigger began, as ISO 8601 text in UTC."""
    observed: Mapping[str, Mapping[str, Any]]
    """The metrics that its rows were observed for, by the name of the observation."""
    lag: int | None
    """Records in the topic beyond the end of this batch; None if Spark has not looked, as before a replay."""
    milliseconds: int
    """How long its trigger took."""
    rows_per_second: float
    ends: Offsets
    """Where it ended."""


@dataclass
class ProgressReader:
    """Reads the batches of a query's reports, each once; the reports of two looks overlap."""

    _last: int = field(default=-1, init=False)

    def take(self, query: StreamingQuery) -> list[CommittedBatch]:
        """Return the batches that were committed since the last call, oldest first."""
        new = [report for report in query.recentProgress if report["batchId"] > self._last and _has_run(report)]
        if new:
            self._last = new[-1]["batchId"]
        return [committed(report) for report in new]


def committed(report: Mapping[str, Any]) -> CommittedBatch:
    """Return the facts of one batch from Spark's ``StreamingQueryProgress``."""
    source = report["sources"][0]
    return CommittedBatch(
        report["id"],
        report["batchId"],
        report["timestamp"],
        report.get("observedMetrics", {}),
        _lag(source),
        report["durationMs"]["triggerExecution"],
        report.get("processedRowsPerSecond", 0.0),
        _offsets(source.get("endOffset")),
    )


def _has_run(report: Mapping[str, Any]) -> bool:
    """Return whether a report is of a batch: one of an idle trigger bears the number of the batch to come."""
    return bool("addBatch" in report["durationMs"] or report.get("observedMetrics"))


def _lag(source: Mapping[str, Any]) -> int | None:
    if source.get("latestOffset") is None:
        return None
    latest, end = (_offsets(source.get(name)) for name in ("latestOffset", "endOffset"))
    return sum(max(0, latest.get(partition, offset) - offset) for partition, offset in end.items())


def _offsets(offsets: Any) -> Offsets:
    if isinstance(offsets, str):
        offsets = json.loads(offsets)
    return {
        (topic, int(partition)): offset
        for topic, partitions in (offsets or {}).items()
        if isinstance(partitions, dict)  # another source than Kafka has no topics
        for partition, offset in partitions.items()
    }
