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
    lags: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """The records beyond its end, by topic and partition; empty where ``lag`` is None."""


@dataclass
class ProgressReader:
    """Reads the batches of a query's reports, each once; the reports of two looks overlap."""

    has_reported: bool = field(default=False, init=False)
    """Whether a trigger has ended, with a batch or, where there are no records, without one."""
    _last: int = field(default=-1, init=False)

    def take(self, query: StreamingQuery) -> list[CommittedBatch]:
        """Return the batches that were committed since the last call, oldest first."""
        reports = query.recentProgress
        self.has_reported = self.has_reported or bool(reports)
        new = [report for report in reports if report["batchId"] > self._last and _has_run(report)]
        if new:
            self._last = new[-1]["batchId"]
        return [committed(report) for report in new]


def committed(report: Mapping[str, Any]) -> CommittedBatch:
    """Return the facts of one batch from Spark's ``StreamingQueryProgress``."""
    source = report["sources"][0]
    lags = _lags(source)
    return CommittedBatch(
        report["id"],
        report["batchId"],
        report["timestamp"],
        report.get("observedMetrics", {}),
        None if lags is None else sum(lags.values()),
        report["durationMs"]["triggerExecution"],
        report.get("processedRowsPerSecond", 0.0),
        _offsets(source.get("endOffset")),
        lags or {},
    )


def _has_run(report: Mapping[str, Any]) -> bool:
    """Return whether a report is of a batch: one of an idle trigger bears the number of the batch to come."""
    return bool("addBatch" in report["durationMs"] or report.get("observedMetrics"))


def _lags(source: Mapping[str, Any]) -> Mapping[tuple[str, int], int] | None:
    if source.get("latestOffset") is None:
        return None
    latest, end = (_offsets(source.get(name)) for name in ("latestOffset", "endOffset"))
    return {partition: max(0, latest.get(partition, offset) - offset) for partition, offset in end.items()}


def _offsets(offsets: Any) -> Offsets:
    if isinstance(offsets, str):
        offsets = json.loads(offsets)
    return {
        (topic, int(partition)): offset
        for topic, partitions in (offsets or {}).items()
        if isinstance(partitions, dict)  # another source than Kafka has no topics
        for partition, offset in partitions.items()
    }
