"""Decode labels that arrive in messages of their own, after or before the messages of their events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from streamscore.schema import NOT_KEPT

MAX_BYTES: Final = 16_384
"""Longest message and longest key of a label, in bytes."""

_FIRST_MS: Final = 100_000_000_000
"""A time below this would lie before 1973 in milliseconds: it is one in seconds."""
_LAST_MS: Final = 100_000_000_000_000
"""A time from here on would lie after the year 5138 in milliseconds: it is one in microseconds or nanoseconds."""


class Label(NamedTuple):
    """A label and its place in its topic."""

    id: str
    value: float
    time: int
    """When it became known, in epoch milliseconds."""
    partition: int
    offset: int

    @property
    def place(self) -> tuple[int, int, int]:
        """What orders the labels of an event: time, then offset, then partition."""
        return self.time, self.offset, self.partition


class BadLabel(NamedTuple):
    """Why a message holds no label."""

    reason: str
    detail: str


class Message(NamedTuple):
    """A record of the topic of labels; key and value are null where they are absent or too large."""

    partition: int
    offset: int
    timestamp: int
    """Kafka's time of the record, in epoch milliseconds."""
    key: bytes | None
    value: bytes | None
    bytes: int
    """Length of key and value, whichever is longer."""


@dataclass(frozen=True)
class Fields:
    """Where a message holds what."""

    id: str = "id"
    label: str = "label"
    time: str = "time"
    label_values: Mapping[str, float] = field(default_factory=dict)
    """The class of each label that is a text."""


class _DuplicateError(ValueError):
    """A name occurs twice in an object."""


def decode(message: Message, fields: Fields) -> Label | BadLabel:
    """Return the label of a message, or why it has none.

    Args:
        message: the message.
        fields: the names of its fields.
    """
    content = _content(message)
    if isinstance(content, BadLabel):
        return content
    parts = _id(content, message, fields.id), _value(content, fields), _time(content, message, fields.time)
    for part in parts:
        if isinstance(part, BadLabel):
            return part
    identity, value, time = parts
    return Label(str(identity), float(value), int(time), message.partition, message.offset)  # type: ignore[arg-type]


def _content(message: Message) -> dict[str, Any] | BadLabel:
    if message.bytes > MAX_BYTES:
        return BadLabel("too_large", f"the message has {message.bytes} bytes, more than {MAX_BYTES}{NOT_KEPT}")
    if message.value is None:
        return BadLabel("tombstone", "the message has no value")
    try:
        content = json.loads(
            message.value.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object
        )
    except UnicodeDecodeError:
        return BadLabel("not_utf8", "the message is not UTF-8")
    except _DuplicateError as error:
        return BadLabel("duplicate_name", str(error))
    except (ValueError, ArithmeticError, RecursionError):  # arithmetic: an exponent that no Decimal has
        return BadLabel("not_json", "the message is not JSON")
    return content if isinstance(content, dict) else BadLabel("not_json", "the message is not a JSON object")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _DuplicateError(f"the field {twice!r} occurs twice")
    return made


def _id(content: Mapping[str, Any], message: Message, name: str) -> str | BadLabel:
    given = content.get(name)
    if given is None:
        if not message.key:
            return BadLabel("bad_id", f"the message has neither the field {name!r} nor a key")
        try:
            return message.key.decode("utf-8")
        except UnicodeDecodeError:
            return BadLabel("bad_id", f"the message lacks the field {name!r}, and its key is not UTF-8")
    if isinstance(given, bool) or not isinstance(given, str | int | Decimal):
        return BadLabel("bad_id", f"{name!r} is {_kind(given)}, not a text or a number")
    return str(given) or BadLabel("bad_id", f"{name!r} is empty")


def _value(content: Mapping[str, Any], fields: Fields) -> float | BadLabel:
    name = fields.label
    if name not in content:
        return BadLabel("bad_label", f"the message lacks the field {name!r}")
    given = content[name]
    text = str(given).lower() if isinstance(given, bool) else given
    if isinstance(text, str) and text in fields.label_values:
        return float(fields.label_values[text])
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        known = f", nor one of {', '.join(map(repr, fields.label_values))}" if fields.label_values else ""
        return BadLabel("bad_label", f"{name!r} is {_kind(given)}, not a number{known}")
    try:
        value = float(given)
    except OverflowError:
        value = math.inf
    return value if math.isfinite(value) else BadLabel("bad_label", f"{name!r} is beyond the range of a double")


def _time(content: Mapping[str, Any], message: Message, name: str) -> int | BadLabel:
    given = content.get(name)
    if given is None:
        return max(0, message.timestamp)
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        return BadLabel("bad_time", f"{name!r} is {_kind(given)}, not a whole number of epoch milliseconds")
    # Before it becomes an integer, which for 1e999999999 would take all memory.
    if not _FIRST_MS <= given < _LAST_MS:
        unit = "seconds" if given < _FIRST_MS else "microseconds or nanoseconds"
        return BadLabel("bad_time", f"{name!r} is {_kind(given)}, which looks like {unit}: expected epoch milliseconds")
    at = int(given)
    if given != at:
        return BadLabel("bad_time", f"{name!r} is {_kind(given)}, not a whole number of epoch milliseconds")
    return at


def _kind(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the value {str(value).lower()}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, int | Decimal):
        return f"the number {str(value)[:40]}"
    return "an array" if isinstance(value, list) else "an object"
