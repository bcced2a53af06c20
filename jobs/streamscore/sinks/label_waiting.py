"""The documents of labels that wait for their outcomes, and what they were before a batch that is written again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamscore.messages.labels import Label
from streamscore.scoring.labelling import Candidate, Resolution
from streamscore.sinks.label_records import label_fields

SETTLING_MS: Final = 600_000
"""How long a label looks for the outcomes of an event's further models, in milliseconds."""


class Waiting(NamedTuple):
    """A label that waits, as it was before the batch that is written."""

    document: str
    candidate: Candidate
    batch: int
    """The batch that put it down as waiting."""
    matched_batch: int | None
    """The batch in which it found some of its outcomes."""


def as_before(document: str, source: Mapping[str, Any], number: int) -> Waiting:
    """Return a waiting label as it was before a batch.

    Args:
        document: id of its document.
        source: fields of its document, perhaps as an earlier attempt at the batch has left them.
        number: number of the batch.
    """
    place = source["label_time"], source["label_partition"], source["label_offset"]
    label = Label(source["id"], float(source["label"]), *place)
    matched = source.get("matched_batch")
    matched = None if matched == number else matched
    candidate = Candidate(label, "pending" if matched is None else "matched", source["since"])
    return Waiting(document, candidate, source["batch"], matched)


def waiting_documents(
    made: Resolution, waiting: Sequence[Waiting], stream: str, number: int, retry_seconds: float
) -> dict[str, dict[str, Any]]:
    """Return the documents that say which labels wait after a batch, and which of those before it are done.

    Args:
        made: what the batch has decided.
        waiting: the labels that waited before it.
        stream: identity of the query.
        number: number of the batch.
        retry_seconds: shortest time until a label is tried again.
    """
    before = {each.candidate.label.place: each for each in waiting}
    documents: dict[str, dict[str, Any]] = {}
    for state, candidates in (("waiting", made.waiting), ("matched", made.incomplete), ("done", made.done)):
        for candidate in candidates:
            known = before.get(candidate.label.place) if candidate.origin != "new" else None
            if state == "done" and known is None:
                continue
            matched = known.matched_batch if known else None
            if state == "matched" and matched is None:
                matched = number
            label = candidate.label
            document = known.document if known else f"{stream}-{label.partition}-{label.offset}"
            documents[document] = {
                "id": label.id,
                **label_fields(label),
                "stream": stream,
                "batch": known.batch if known else number,
                "since": candidate.since,
                "next_try": now() + _pause_ms(now() - candidate.since, retry_seconds),
                **({} if matched is None else {"matched_batch": matched}),
                **({"resolved_batch": number} if state == "done" else {}),
            }
    return documents


def _pause_ms(age: int, retry_seconds: float) -> int:
    """Return the milliseconds until a label is tried again that has waited for ``age`` milliseconds."""
    shortest = round(retry_seconds * 1_000)
    return max(shortest, age // 10) if age > SETTLING_MS else shortest


def now() -> int:
    """Return the time in epoch milliseconds."""
    return round(time.time() * 1_000)
