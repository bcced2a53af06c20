"""Check the content and the unpacked size of a parquet file by its footer and page headers, before Spark reads it.

Footers and page headers are parsed here, because libraries show neither duplicate keys nor page headers. Format:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple

from streamscore.models.gate import schema, thrift
from streamscore.models.gate.thrift import Struct

REFERENCE_MEMORY: Final = 2 << 30
"""Heap of the driver for which the following limits are made; a larger heap allows proportionally more.

A linear model of 8 million coefficients was loaded and tried in such a heap; one of 19 million ended the JVM.
"""

MAX_BYTES: Final = 256 << 20
"""Longest parquet that a model may have on disk, over all its files."""

MAX_UNPACKED_BYTES: Final = 256 << 20
MAX_ROWS: Final = 2_000_000
MAX_VALUES: Final = 8_000_000
"""Of one column, nulls and elements of lists included."""

_MAX_FOOTER_BYTES: Final = 4 << 20
_MAX_ALL_FOOTER_BYTES: Final = 32 << 20
_MAX_PAGES: Final = 100_000
_MAX_PAGE_HEADER_BYTES: Final = 1 << 20
_FIRST_READ: Final = 4096

_MAGIC: Final = b"PAR1"
_TAIL: Final = 8
_BYTE_ARRAY, _FIXED_LEN_BYTE_ARRAY = 6, 7
_WIDTHS: Final = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, _BYTE_ARRAY: 4}
"""Bytes of a value by physical type; for a text without its characters."""
_CODECS: Final = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_DICTIONARY, _RLE_DICTIONARY, _DELTA_BYTE_ARRAY = 2, 8, 7


class ParquetError(ValueError):
    """Raised for a parquet file that is refused; the message has the reason, without the file's name."""


class _Chunk(NamedTuple):
    """The position in a file of a column's values of one row group."""

    name: str
    kind: int
    width: int
    codec: int
    values: int
    start: int
    end: int


@dataclass
class Budget:
    """Totals over one model's parquet files, each of which has a limit."""

    memory: int = REFERENCE_MEMORY
    """Heap of the driver, in bytes."""
    files_bytes: int = 0
    footer_bytes: int = 0
    rows: int = 0
    unpacked: int = 0
    pages: int = 0

    def require(self, amount: int, limit: int, what: str) -> None:
        """Check an amount against a limit.

        Args:
            amount: what there is.
            limit: what is allowed in a heap of ``REFERENCE_MEMORY``.
            what: the amount's subject and unit, with a place for the limit.

        Raises:
            ParquetError: it is more than the driver's heap allows.
        """
        allowed = int(limit * max(1.0, self.memory / REFERENCE_MEMORY))
        _require(
            amount <= allowed,
            f"{what.format(f'{allowed:,}')}, which is refused with a spark.driver_memory of {self.memory >> 20}m",
        )

    def take_file(self, size: int) -> None:
        """Count a file before it is opened.

        Raises:
            ParquetError: the files exceed the limit in total.
        """
        self.files_bytes += size
        self.require(self.files_bytes, MAX_BYTES, "the model has more than {} bytes of parquet")

    def take_unpacked(self, size: int, name: str) -> None:
        """Count the unpacked bytes of a column.

        Raises:
            ParquetError: the columns exceed the limit in total.
        """
        self.unpacked += size
        self.require(
            self.unpacked,
            MAX_UNPACKED_BYTES,
            f"with the column {_plain(name)} the model unpacks to more than {{}} bytes",
        )


def require_safe(file: IO[bytes], size: int, budget: Budget) -> None:
    """Check the classes that Spark would construct from a parquet file's footer, and the file's unpacked size.

    Args:
        file: the file, open and seekable.
        size: size of the file in bytes.
        budget: the totals of the model's files, to which this file is added.

    Raises:
        ParquetError: the file is refused, or is not parquet as Spark writes it.
    """
    budget.take_file(size)
    try:
        _Reader(file, size, budget).check()
    except (thrift.TruncatedError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ParquetError(f"it is not parquet as Spark writes it ({error})") from None
    except ParquetError:
        raise
    except ValueError as error:
        raise ParquetError(str(error)) from None


@dataclass
class _Reader:
    file: IO[bytes]
    size: int
    budget: Budget
    values: dict[str, int] = field(default_factory=dict)
    """Number of values of each column so far."""

    def check(self) -> None:
        footer, end = self._footer()
        self._check_row_schema(footer)
        _require(
            8 not in footer and 9 not in footer,  # noqa: PLR2004 (encryption_algorithm, footer_signing_key_metadata)
            "it is encrypted or signed by parquet's own means, which Spark ML does not write",
        )
        leaves = _leaves(footer[2])
        rows = footer[3]
        groups = footer[4]
        _require(rows == sum(group[3] for group in groups), "its row groups have other rows than its footer says")
        _require(all(group[3] >= 0 for group in groups), "a row group has a negative number of rows")
        self.budget.rows += rows
        self.budget.require(self.budget.rows, MAX_ROWS, "the model has more than {} rows")
        for group in groups:
            _require(len(group[1]) == len(leaves), "a row group has other columns than the schema")
            for leaf, column in zip(leaves, group[1], strict=True):
                self._check_chunk(_chunk(leaf, column, end))

    def _footer(self) -> tuple[Struct, int]:
        """Return the footer and its offset."""
        _require(self.size >= len(_MAGIC) + _TAIL, "it is too short to be parquet")
        tail = self._read(self.size - _TAIL, _TAIL)
        _require(
            tail[4:] == _MAGIC and self._read(0, len(_MAGIC)) == _MAGIC,
            "it is not plain parquet: it does not begin and end with PAR1 (with PARE it is encrypted)",
        )
        length = int.from_bytes(tail[:4], "little")
        start = self.size - _TAIL - length
        _require(length <= _MAX_FOOTER_BYTES, f"its footer is longer than {_MAX_FOOTER_BYTES:,} bytes")
        _require(start >= len(_MAGIC), "its footer is longer than the file")
        self.budget.footer_bytes += length
        _require(
            self.budget.footer_bytes <= _MAX_ALL_FOOTER_BYTES,
            f"the footers of the model have more than {_MAX_ALL_FOOTER_BYTES:,} bytes, which is refused",
        )
        footer, used = thrift.read_struct(self._read(start, length))
        _require(used == length, "there are bytes after its footer's end")
        return footer, start

    def _check_row_schema(self, footer: Struct) -> None:
        entries = [(entry[1].decode(), entry.get(2, b"").decode()) for entry in footer.get(5, [])]
        keys = [key for key, _ in entries]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        _require(twice is None, f"its footer has the key {twice!a} twice, and each reader takes the one it likes")
        for key, value in entries:
            if key == schema.ROW_METADATA:
                schema.require_safe(value)

    def _check_chunk(self, chunk: _Chunk) -> None:
        """Walk the pages of a column's chunk, as far as Spark reads it, and count their unpacked bytes."""
        total = self.values[chunk.name] = self.values.get(chunk.name, 0) + chunk.values
        self.budget.require(total, MAX_VALUES, f"the column {_plain(chunk.name)} has more than {{}} values")
        unpacked = seen = by_dictionary = longest = 0
        place = chunk.start
        while seen < chunk.values:
            header, body = self._page_header(place, chunk)
            kind, packed_size, unpacked_size = header[1], header[3], header[2]
            place = body + packed_size
            _require(min(packed_size, unpacked_size) >= 0 and place <= chunk.end, "a page is longer than its column")
            unpacked += unpacked_size
            if kind == _DICTIONARY_PAGE:
                self._check_dictionary(header)
                if chunk.kind == _BYTE_ARRAY:
                    longest = max(longest, _longest(self._read(body, packed_size), unpacked_size, chunk.codec))
                continue
            _require(kind in {_DATA_PAGE, _DATA_PAGE_V2}, f"a page of the unknown kind {kind}")
            data = header[5] if kind == _DATA_PAGE else header[8]
            count, encoding = data[1], data[2] if kind == _DATA_PAGE else data[4]
            _require(count >= 0, "a page with a negative number of values")
            _require(
                encoding != _DELTA_BYTE_ARRAY,
                f"the column {chunk.name} has the encoding DELTA_BYTE_ARRAY, refused",
            )
            seen += count
            by_dictionary += count if encoding in {_DICTIONARY, _RLE_DICTIONARY} else 0
        _require(seen == chunk.values, f"the pages of {chunk.name} have other values than the footer says")
        texts = by_dictionary * longest
        self.budget.take_unpacked(max(unpacked, chunk.values * chunk.width) + texts, chunk.name)

    def _page_header(self, place: int, chunk: _Chunk) -> tuple[Struct, int]:
        """Return the header of a page and the offset of the page's data."""
        self.budget.pages += 1
        _require(self.budget.pages <= _MAX_PAGES, f"the model has more than {_MAX_PAGES:,} pages, which is refused")
        for size in (_FIRST_READ, _MAX_PAGE_HEADER_BYTES):
            try:
                header, used = thrift.read_struct(self._read(place, min(size, chunk.end - place)))
            except thrift.TruncatedError:
                continue
            return header, place + used
        raise ParquetError(f"a page of the column {chunk.name} has no header that Spark would read")

    def _check_dictionary(self, header: Struct) -> None:
        _require(
            0 <= header[7][1] <= header[2],  # readers allocate memory for that many values in advance
            "a dictionary says that it has more entries than bytes",
        )

    def _read(self, place: int, size: int) -> bytes:
        _require(size >= 0, "a column is longer than the file")
        self.file.seek(place)
        return self.file.read(size)


def _leaves(elements: list[Struct]) -> list[tuple[str, int, int]]:
    """Return name, physical type and bytes per value of every column, from the schema in depth-first order."""
    found = []
    ahead = iter(elements)

    def walk(path: tuple[str, ...], depth: int) -> None:
        _require(depth <= 16, "its schema is too deeply nested")  # noqa: PLR2004 (Spark ML needs 5)
        element = next(ahead, None)
        if element is None:
            raise ParquetError("its schema ends too early")
        path = (*path, element[4].decode())
        if 1 in element:
            width = element[2] if element[1] == _FIXED_LEN_BYTE_ARRAY else _WIDTHS[element[1]]
            _require(0 <= width <= MAX_BYTES and not element.get(5), f"its schema has a strange column {path[-1]!a}")
            found.append((ascii(".".join(path[1:])), element[1], width))
            return
        for _ in range(element.get(5, 0)):
            walk(path, depth + 1)

    walk((), 0)
    _require(next(ahead, None) is None, "its schema goes on after its end")
    return found


def _chunk(leaf: tuple[str, int, int], column: Struct, end: int) -> _Chunk:
    name, kind, width = leaf
    _require(1 not in column, f"the column {name} is in another file, which is refused")
    _require(8 not in column and 9 not in column, f"the column {name} is encrypted, which is refused")  # noqa: PLR2004
    metadata = column[3]
    _require(metadata[1] == kind, f"the column {name} has another type than the schema says")
    _require(metadata[5] >= 0, f"the column {name} has a negative number of values")
    first, dictionary = metadata[9], metadata.get(11) or 0
    start = dictionary if 0 < dictionary < first else first
    _require(
        len(_MAGIC) <= start <= start + metadata[7] <= end,
        f"the column {name} is not between the file's begin and footer",
    )
    return _Chunk(name, kind, width, metadata[4], metadata[5], start, start + metadata[7])


def _longest(packed: bytes, size: int, codec: int) -> int:
    """Return the length of the longest text in a dictionary page."""
    _require(size <= MAX_UNPACKED_BYTES, f"a dictionary unpacks to {size:,} bytes, which is refused")
    content = memoryview(packed if codec == 0 else _unpacked(packed, size, codec))
    return max(_lengths(content), default=0)


def _lengths(content: memoryview) -> Iterator[int]:
    place = 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "little")
        place += 4 + length
        _require(place <= len(content), "a dictionary is cut off")
        yield length


def _unpacked(packed: bytes, size: int, codec: int) -> Any:
    import pyarrow as pa

    _require(codec in _CODECS, f"a dictionary is packed by the codec {codec}, which is refused")
    try:
        return pa.Codec(_CODECS[codec]).decompress(packed, size)
    except (OSError, pa.ArrowException) as error:
        raise ParquetError(f"a dictionary cannot be unpacked ({error})") from None


def _plain(name: str) -> str:
    """Return a name as a part of a pattern for ``str.format``."""
    return name.replace("{", "{{").replace("}", "}}")


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ParquetError(reason)
