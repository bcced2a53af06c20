"""Read Thrift's compact protocol strictly: data that two parsers could read differently are refused.

Parquet's footers and page headers use this protocol. Format:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import struct
from typing import Any, Final

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = (*range(1, 11), 12)
_BITS: Final = {_I16: 16, _I32: 32, _I64: 64}
_MAX_DEPTH: Final = 16

Struct = dict[int, Any]
"""A Thrift struct: values by field number. Values are structs, lists, numbers, booleans and bytes."""


class TruncatedError(ValueError):
    """Raised when the data end inside a value."""


def read_struct(data: bytes) -> tuple[Struct, int]:
    """Read the struct at the start of the data.

    Returns:
        The struct, and its length in bytes.

    Raises:
        TruncatedError: the data end before the struct does.
        ValueError: the data are not in the form of Thrift's own writer: a field is duplicate or out of order, a type is
            unknown, or a number is too large.
    """
    reader = _Reader(data)
    value = reader.structure(0)
    return value, reader.position


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def structure(self, depth: int) -> Struct:
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} structs inside each other")
        fields: Struct = {}
        number = 0
        while header := self._byte():
            kind, delta = header & 0x0F, header >> 4
            if not delta:  # Thrift writes the number in full only after a gap of more than 15
                delta = self._integer(_I16) - number
                if delta <= 15:  # noqa: PLR2004 (the gap of the comment above)
                    raise ValueError("a field twice, or out of order")
            number += delta
            fields[number] = kind == _TRUE if kind in {_TRUE, _FALSE} else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: PLR0911 (a line per type)
        if kind in _BITS:
            return self._integer(kind)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.structure(depth + 1)
        if kind in {_LIST, _SET}:
            return self._list(depth + 1)
        if kind in {_TRUE, _FALSE}:  # inside of a list
            return self._byte() == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind == _DOUBLE:
            return struct.unpack("<d", self._bytes(8))[0]
        raise ValueError(f"the type {kind}, which Parquet does not use")

    def _list(self, depth: int) -> list[Any]:
        header = self._byte()
        size = header >> 4
        if size == 0x0F:  # noqa: PLR2004 (the size follows)
            size = self._varint()
        if size > len(self._data) - self.position:  # every element has at least one byte
            raise TruncatedError("a list is longer than the data")
        return [self._value(header & 0x0F, depth) for _ in range(size)]

    def _integer(self, kind: int) -> int:
        zigzag = self._varint()
        if zigzag >> _BITS[kind]:
            raise ValueError("a number that is too large for its type")
        return (zigzag >> 1) ^ -(zigzag & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 (the bit that says whether another byte follows)
                return value
            shift += 7
            if shift > 63:  # noqa: PLR2004 (bits of the longest number)
                raise ValueError("a number that is too long")

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise TruncatedError("the data end too early")
        self.position += 1
        return self._data[self.position - 1]

    def _bytes(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise TruncatedError("the data end too early")
        self.position = end
        return self._data[end - size : end]
