"""A slow reference implementation of the decoder in plain Python: which messages are scored or rejected, and why.

It shares neither code nor method with the decoder: it parses the whole document first and checks it afterwards.
"""

from __future__ import annotations

import json
import math
import random
from typing import Any, NamedTuple

INT = range(-(2**31), 2**31)


class Verdict(NamedTuple):
    """The reason of a message's rejection, or its label and features by index."""

    reason: str | None
    label: float | None = None
    features: tuple[float, ...] | None = None


class _NotANumber(float):
    """NaN, Infinity or -Infinity as a JSON literal."""


class _DuplicateError(Exception):
    pass


def verdict(  # noqa: PLR0911 (a list of rules reads best as a list)
    value: bytes | None, size: int, max_bytes: int
) -> Verdict:
    """Return the verdict on a message of the form ``spark``."""
    if value is None:
        return Verdict("tombstone")
    if len(value) > max_bytes:
        return Verdict("too_large")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return Verdict("not_utf8")
    try:
        document = json.loads(text, object_pairs_hook=_pairs, parse_constant=_NotANumber)
    except _DuplicateError:
        return Verdict("duplicate_name")
    except (ValueError, RecursionError):
        return Verdict("not_json")
    if not isinstance(document, dict) or text.startswith("\ufeff"):
        return Verdict("not_json")
    if _has_misplaced_letters(document):
        return Verdict("not_json")
    return _judge(document, size)


def _judge(document: dict[str, Any], size: int) -> Verdict:
    label = document.get("label")
    if label is not None and (not _is_number(label) or not _is_finite(label)):
        return Verdict("bad_label")
    reason, features = _vector(document.get("features"), size)
    if reason is not None:
        return Verdict(reason)
    return Verdict(None, None if label is None else float(label), features)


def _vector(  # noqa: C901, PLR0911 (as above)
    vector: Any, size: int
) -> tuple[str | None, tuple[float, ...] | None]:
    bad = "bad_features", None
    if not isinstance(vector, dict):
        return bad
    kind, length, indices, values = (vector.get(name) for name in ("type", "size", "indices", "values"))
    if not _is_int(kind) or kind not in {0, 1} or not isinstance(values, list) or not all(map(_is_number, values)):
        return bad
    if length is not None and (not _is_int(length) or length < 0):
        return bad
    if indices is not None and (not isinstance(indices, list) or not all(map(_is_int, indices))):
        return bad
    if kind == 0:
        if length is None or indices is None or len(indices) != len(values):
            return bad
        if any(a >= b for a, b in zip([-1, *indices], indices, strict=False)) or (indices and indices[-1] >= length):
            return bad
    else:
        length, indices = len(values), range(len(values))
    if length != size:
        return "wrong_size", None
    if not all(map(_is_finite, values)):
        return "not_finite", None
    dense = [0.0] * size
    for place, number in zip(indices, values, strict=True):
        dense[place] = float(number)
    return None, tuple(dense)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _DuplicateError
    return dict(pairs)


def _has_misplaced_letters(document: dict[str, Any]) -> bool:
    """Return whether NaN or Infinity occurs outside the label and the values, where it is not JSON."""
    rest = dict(document)
    label, vector = rest.pop("label", None), rest.get("features")
    if isinstance(vector, dict) and isinstance(vector.get("values"), list):
        inner = [value for value in vector["values"] if not isinstance(value, _NotANumber)]
        rest["features"] = {**vector, "values": inner}
    return _has_letters(rest) or (not isinstance(label, _NotANumber) and _has_letters(label))


def _has_letters(part: Any) -> bool:
    """Return whether a literal NaN or Infinity occurs in a value."""
    if isinstance(part, dict):
        return any(map(_has_letters, part.values()))
    if isinstance(part, list):
        return any(map(_has_letters, part))
    return isinstance(part, _NotANumber)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond a double
        return False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in INT


TOKENS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b" ",
        b"\n",
        b"null",
        b"true",
        b"false",
        b"NaN",
        b"Infinity",
        b"-Infinity",
    ),
    *(b"0", b"1", b"-1", b"-0", b"1.5", b"1e5", b"1e999", b"-1e999", b"1e-999", b"01", b"1.", b".5", b"+1", b"0x1"),
    *(
        b"2147483647",
        b"2147483648",
        b"9" * 40,
        b"9" * 400,
        b'""',
        b'"a"',
        b'"label"',
        b'"features"',
        b'"values"',
        b"[]",
    ),
    *(
        b"{}",
        b"\xff",
        b"\xc3",
        b"\xe2\x82\xac",
        b"\xed\xa0\x80",
        b"\x00",
        b"\xef\xbb\xbf",
        b"/*x*/",
        b"'",
        b"\\",
        b"\\u0061",
    ),
]


def mutated(generator: random.Random, message: bytes) -> bytes:
    """Return a message with one to three changes: bytes, tokens, slices."""
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(message) + 1)
        other = min(len(message), at + generator.choice([1, 1, 2, 5, 20]))
        kind = generator.randrange(7)
        if kind == 0:
            message = message[:at] + message[other:]
        elif kind == 1:
            message = message[:at] + generator.choice(TOKENS) + message[at:]
        elif kind == 2:
            message = message[:at] + generator.choice(TOKENS) + message[other:]
        elif kind == 3:
            message = message[:at] + message[at:other] * 2 + message[other:]
        elif kind == 4:
            message = message[:at]
        elif kind == 5 and message:
            byte = bytes([generator.randrange(256)])
            message = message[:at] + byte + message[at + 1 :]
        else:
            message = message + generator.choice([b" ", b"\n", b"{}", b"x", message])
    return message
