"""Notes in a checkpoint: the id of its topic, where its outputs began, and which models scored which batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streamscore.errors import CheckpointError
from streamscore.stream.folders import NOTES, Folder

TOPIC: Final = f"{NOTES}/topic.json"
MODELS: Final = f"{NOTES}/models.json"
OUTPUTS: Final = f"{NOTES}/outputs.json"


def require_same_topic(files: Folder, location: str, topic: str, topic_id: str | None) -> None:
    """Raise if a topic was deleted and created again since its events were scored from a checkpoint.

    The new topic's events have offsets that count as scored, so the stream would skip them.

    Args:
        files: the checkpoint.
        location: its name, for the message.
        topic: the input topic.
        topic_id: Kafka's id of the topic now; None if the brokers have no ids.

    Raises:
        CheckpointError: the checkpoint has another id of this topic on record.
    """
    recorded = _recorded_topic_id(files, topic)
    if None not in {recorded, topic_id} and recorded != topic_id:
        raise CheckpointError(
            f"the topic {topic!r} was deleted and created again since its events were scored from the checkpoint "
            f"{location} (its id was {recorded}, now it is {topic_id}): events at offsets that were scored before "
            "would be left out. To score the new topic from its beginning, start with a new --checkpoint and "
            "--new-checkpoint"
        )


def record_topic(files: Folder, topic: str, topic_id: str | None) -> None:
    """Record Kafka's id of the topic that is scored from a checkpoint, unless it is recorded already.

    Args:
        files: the checkpoint.
        topic: name of the topic.
        topic_id: Kafka's id of the topic; None: the brokers have no ids, and nothing is recorded.
    """
    if topic_id is not None and topic_id != _recorded_topic_id(files, topic):
        files.write(TOPIC, json.dumps({"name": topic, "id": topic_id}))


def record_outputs(files: Folder, ends: Mapping[str, Mapping[str, Any]]) -> None:
    """Record, by topic, where the output topics ended before anything was written from a checkpoint."""
    files.write(OUTPUTS, json.dumps(ends))


def recorded_outputs(files: Folder) -> dict[str, dict[str, Any]]:
    """Return what ``record_outputs`` recorded; empty if the checkpoint is older than such records.

    Raises:
        CheckpointError: the record is damaged.
    """
    try:
        return dict(json.loads(files.read(OUTPUTS) or "{}"))
    except (ValueError, TypeError):
        raise CheckpointError(
            f"{OUTPUTS} in the checkpoint is damaged: delete it, if the input topic was not created again since the "
            "output topics were"
        ) from None


def record_models(files: Folder, first_batch: int, models: Sequence[dict[str, str]]) -> None:
    """Record which models are in force from a batch on; an entry for that or a later batch is replaced.

    Args:
        files: the checkpoint.
        first_batch: number of the first batch that they score.
        models: the ``identity`` of each model.
    """
    earlier = [entry for entry in _models(files) if entry["first_batch"] < first_batch]
    entries = [*earlier[-9:], {"first_batch": first_batch, "models": list(models)}]
    files.write(MODELS, json.dumps(entries, indent=1))


def recorded_models(files: Folder, batch: int) -> list[dict[str, str]] | None:
    """Return the models that were in force at a batch; None if there is no record."""
    entries = [entry for entry in _models(files) if entry["first_batch"] <= batch]
    return list(entries[-1]["models"]) if entries else None


def _models(files: Folder) -> list[dict[str, Any]]:
    text = files.read(MODELS)
    try:
        return list(json.loads(text)) if text else []
    except ValueError:
        raise CheckpointError(
            f"{MODELS} in the checkpoint is damaged: delete it, and a batch that has begun is finished with the "
            "present models"
        ) from None


def _recorded_topic_id(files: Folder, topic: str) -> str | None:
    try:
        recorded = json.loads(files.read(TOPIC) or "{}")
        return str(recorded["id"]) if recorded.get("name") == topic else None
    except (ValueError, KeyError, AttributeError):
        raise CheckpointError(
            f"{TOPIC} in the checkpoint is damaged: delete it, if the topic {topic!r} was not created again since its "
            "events were scored"
        ) from None
