"""The columns, fields and types of all topics and indices."""

from __future__ import annotations

from typing import Any, Final, Literal

LABEL: Final = "label"
FEATURES: Final = "features"
REASON: Final = "reason"
DETAIL: Final = "detail"
TIME: Final = "@timestamp"
"""Field of every document."""

OUTCOME_FIELDS: Final = (
    "event_id",
    "key",
    "model",
    "model_version",
    "prediction",
    "score",
    "label",
    "correct",
    "declined",
    "declined_column",
    "event_time",
)
"""Fields of a record in the predictions topic, in order; times are epoch milliseconds."""

DECLINED_FIELDS: Final = ("declined", "declined_column")
"""Fields of an outcome that earlier versions did not write: why a model has none for an event, and the column."""

TABLE_ROW: Final = (
    "event_id STRING, key STRING, model STRING, model_version STRING, prediction DOUBLE, score DOUBLE, label DOUBLE, "
    "correct TINYINT, declined STRING, declined_column STRING, event_time TIMESTAMP"
)
"""A row of the Delta table."""

DeclineReason = Literal["null_value", "unknown_category", "out_of_range"]
"""Why a model has no outcome for an event: a column that its pipeline cannot take is null or NaN, has a category that
the training had not, or a number out of the pipeline's range."""

DOCUMENT_ID: Final = "document_id"
"""Column that becomes a document's ``_id``: event, model and model version, so that a replay overwrites documents."""

OUTCOME_PROPERTIES: Final[dict[str, Any]] = {
    TIME: {"type": "date"},
    "event_id": {"type": "keyword"},
    "key": {"type": "keyword", "ignore_above": 8191},
    "model": {"type": "keyword"},
    "model_version": {"type": "keyword"},
    "prediction": {"type": "double"},
    "score": {"type": "double"},
    "label": {"type": "double"},
    "correct": {"type": "byte"},
    "declined": {"type": "keyword"},
    "declined_column": {"type": "keyword"},
    "topic": {"type": "keyword"},
}
"""Mapping of the index of outcomes; ``@timestamp`` is the event's time, ``topic`` the input topic."""

REJECTED_PROPERTIES: Final[dict[str, Any]] = {
    TIME: {"type": "date"},
    "event_id": {"type": "keyword"},
    "reason": {"type": "keyword"},
    "detail": {"type": "keyword", "ignore_above": 1024},
}
"""Mapping of the index of rejected messages: ids and reasons; the messages themselves stay in the rejected topic."""

STATUS_PROPERTIES: Final[dict[str, Any]] = {
    TIME: {"type": "date"},
    "query": {"type": "keyword"},
    "batch": {"type": "long"},
    "events": {"type": "long"},
    "rejected": {"type": "long"},
    "lag": {"type": "long"},
    "batch_ms": {"type": "long"},
    "events_per_second": {"type": "double"},
    "models": {"type": "keyword"},
    "refused": {"type": "keyword", "ignore_above": 1024},
    "synthetic": {"type": "boolean"},
    "topic": {"type": "keyword"},
    "score_kinds": {"type": "keyword"},
}
"""Mapping of the index with one document per batch: ``@timestamp`` is the batch's start, ``topic`` the input topic;
``models`` holds ``name:version``, ``score_kinds`` holds ``name:version:kind``, ``refused`` holds refused versions with
the reason."""


ScoreKind = Literal["probability", "margin", "class_probability", "class_margin"]
"""What a model's score is: the probability of class 1, a raw margin without bounds, or, with more than two classes, the
probability of one of these."""

STATISTIC_PROPERTIES: Final[dict[str, Any]] = {
    "score_kind": {"type": "keyword"},
    **{name: {"type": "long"} for name in ("scored", "declined", "labelled", "correct", "incorrect", "positives")},
    "loss_events": {"type": "long"},
    **{name: {"type": "double"} for name in ("sum_p", "sum_p_squared", "sum_miss")},
    **{name: {"type": "double"} for name in ("labelled_p", "labelled_p_squared", "p_times_label")},
    **{name: {"type": "double"} for name in ("loss", "loss_squared", "loss_times_label", "logit_times_label")},
    "counts": {"type": "object", "enabled": False},
}
"""Mapping of a statistic of quality (``quality.statistic``): additive numbers, and ``counts`` by bin, label and
prediction, which are not indexed."""

PAIR_PROPERTIES: Final[dict[str, Any]] = {
    **{name: {"type": "keyword"} for name in ("pair", "champion", "champion_version", "champion_uri", "model_uri")},
    **{name: {"type": "long"} for name in ("events", "both_right", "only_challenger", "only_champion")},
    "probability_events": {"type": "long"},
    **{name: {"type": "double"} for name in ("loss_difference", "loss_difference_squared")},
    **{name: {"type": "double"} for name in ("brier_difference", "brier_difference_squared")},
    "labels": {"type": "object", "enabled": False},
    **{name: {"type": "double"} for name in ("alpha", "log_evidence")},
    "verdict": {"type": "keyword"},
    "verdict_events": {"type": "long"},
}
"""Mapping of a paired statistic (``quality.pairs``), and of the comparison that follows from all of a pair
(``quality.comparison``): ``pair`` identifies both versions, of which ``model`` and ``model_version`` are the
challenger's; the addresses are those of the compared versions."""

QUALITY_PROPERTIES: Final[dict[str, Any]] = {
    TIME: {"type": "date"},
    "seconds": {"type": "integer"},
    "topic": {"type": "keyword"},
    "stream": {"type": "keyword"},
    "model": {"type": "keyword"},
    "model_version": {"type": "keyword"},
    "batch": {"type": "long"},
    **STATISTIC_PROPERTIES,
    **PAIR_PROPERTIES,
    "margin_scale": {"type": "double"},
    "late_labels": {"type": "boolean"},
    "before": {"type": "object", "enabled": False},
}
"""Mapping of the index with a statistic of quality per window, model and version: ``@timestamp`` is the window's start
in event time and ``seconds`` its length; ``topic`` is the input topic, ``stream`` the identity of the query; ``batch``
is the last batch that added to the statistic, and ``before`` the statistic before that batch. A document with ``pair``
has a paired statistic instead, and one of them, of 0 ``seconds``, that of the pair's whole life. ``margin_scale`` is
what margins are divided by for their bins. A document with ``late_labels`` was written by label_stream: it holds what
labels that came later add to the statistic of the window, or, for corrected labels, take from it."""

ADDED_FIELDS: Final = frozenset(
    {"topic", "score_kinds", "margin_scale", "late_labels", "logit_times_label", *DECLINED_FIELDS, *PAIR_PROPERTIES}
)
"""Fields that are added to the indices of earlier versions; an index that lacks any other field is refused."""

LABELLED_PROPERTIES: Final[dict[str, Any]] = {
    **OUTCOME_PROPERTIES,
    "label_time": {"type": "date"},
    "label_lag_ms": {"type": "long"},
    "label_partition": {"type": "integer"},
    "label_offset": {"type": "long"},
    "stream": {"type": "keyword"},
    "batch": {"type": "long"},
    "before": {"type": "object", "enabled": False},
}
"""Mapping of the index of outcomes that got a label after their events: ``label_lag_ms`` is how much later; partition
and offset are the label's in its topic; ``stream`` and ``batch`` say which batch of labels wrote the document last, and
``before`` is the label before that batch."""

PENDING_PROPERTIES: Final[dict[str, Any]] = {
    "id": {"type": "keyword", "ignore_above": 8191},
    "label": {"type": "double"},
    "label_time": {"type": "date"},
    "label_partition": {"type": "integer"},
    "label_offset": {"type": "long"},
    "stream": {"type": "keyword"},
    "batch": {"type": "long"},
    "since": {"type": "date"},
    "next_try": {"type": "date"},
    "matched_batch": {"type": "long"},
    "resolved_batch": {"type": "long"},
}
"""Mapping of the index of labels whose outcomes are not there yet: ``since`` when they were read, ``next_try`` when
they are looked up again. One with ``matched_batch`` found some of its outcomes in that batch, and looks for the
others for a while; one with ``resolved_batch`` is done, and deleted after that batch."""

LABEL_COUNTS: Final = (
    "received",
    "matched",
    "duplicate",
    "superseded",
    "pending",
    "expired",
    "rejected",
    "ambiguous",
)
"""What became of labels: the first is the sum of the next six; ``ambiguous`` of the matched ones had several events."""

LABELS_STATUS_PROPERTIES: Final[dict[str, Any]] = {
    TIME: {"type": "date"},
    "query": {"type": "keyword"},
    "batch": {"type": "long"},
    "topic": {"type": "keyword"},
    **{name: {"type": "long"} for name in LABEL_COUNTS},
}
"""Mapping of the index with one document per batch of labels. ``pending`` is by how much the waiting labels became more
in the batch, or fewer, so that the sums over all batches are what became of all labels."""

REASONS: Final = (
    "tombstone",
    "too_large",
    "not_utf8",
    "not_json",
    "duplicate_name",
    "bad_label",
    "bad_features",
    "wrong_size",
    "not_finite",
)
"""Reasons of rejection: a closed list, by which consumers may route messages."""

LABEL_REASONS: Final = ("bad_id", "bad_time")
"""Further reasons for which label_stream rejects a label."""

DETAIL_HEADER: Final = "__connect.errors.exception.message"
REASON_HEADER: Final = "reason"
EVENT_ID_HEADER: Final = "event-id"
REJECTED_HEADERS: Final = (
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
    "__connect.errors.stage",
    DETAIL_HEADER,
    REASON_HEADER,
    EVENT_ID_HEADER,
    "app-version",
)
"""Headers that follow the message's own on a record of the rejected topic, in order."""

NOT_KEPT: Final = "; its content is not kept here, for this topic does not take a record of that size"
"""End of the detail of a bad message whose record has our headers alone."""
