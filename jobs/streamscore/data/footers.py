"""Read the columns, as Spark sees them, and the number of rows from local parquet footers, without a JVM."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from streamscore.errors import InputError
from streamscore.spark import sources
from streamscore.system.paths import is_local, local_path

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MISSING_CODECS: Final = frozenset({"BROTLI", "LZO"})
"""Parquet codecs that neither Spark nor Hadoop implements."""

_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
_NAMES: Final[Mapping[str, str]] = {
    "bool": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "uint8": "smallint",
    "uint16": "int",
    "uint32": "bigint",
    "uint64": "decimal(20,0)",
    "float": "float",
    "double": "double",
    "string": "string",
    "large_string": "string",
    "string_view": "string",
}
"""Spark's names of the simple Arrow types from which messages can be made."""


@dataclass(frozen=True)
class Footers:
    """The columns and the number of rows of a data set, partition columns included."""

    types: Mapping[str, str]
    """Name of each column's Spark type, or of its Arrow type if no message can be made from the column."""
    count: int
    _files: tuple[tuple[str, pq.FileMetaData], ...]

    def require_codecs(self, names: Collection[str]) -> None:
        """Check that Spark can decompress the named columns.

        Raises:
            InputError: Spark cannot decompress a column.
        """
        for file, metadata in self._files:
            for codec in _codecs(metadata, names):
                if codec in _MISSING_CODECS:
                    raise InputError(
                        f"{file}: compressed with {codec}, which Spark cannot read. Write it again, with snappy, zstd "
                        "or gzip"
                    )


def has_footers(source: str) -> bool:
    """Return whether a data set is local parquet, whose footers can be read without Spark."""
    return is_local(source) and not sources.is_delta(source)


def read(source: str) -> Footers:
    """Read the footers of a parquet file, or of all parquet files in a folder.

    Raises:
        InputError: the data set is absent or not parquet, or its files have different types for a column.
    """
    import pyarrow as pa
    import pyarrow.dataset as pads

    path = local_path(source)
    if not path.exists():
        raise InputError(
            f"{source}: no such file or folder. `streamscore train` writes a test set; --source names another"
        )
    types: dict[str, str] = {}
    seen: dict[str, str] = {}
    try:
        dataset = pads.dataset(path, format="parquet")
        files = [(fragment.path, fragment.metadata) for fragment in dataset.get_fragments()]
        schemas = [metadata.schema.to_arrow_schema() for _, metadata in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{source}: not parquet ({str(error).splitlines()[0]})") from None
    if not files:
        raise InputError(f"{source}: no parquet file in this folder")
    for (file, _), schema in zip(files, schemas, strict=True):
        for field in schema:
            kind = _spark_type(field.type)
            if types.setdefault(field.name, kind) != kind:
                raise InputError(
                    f"{source}: cannot be read as one data set: the column {field.name!r} is {kind} in {file}, "
                    f"but {types[field.name]} in {seen[field.name]}"
                )
            seen.setdefault(field.name, file)
    types |= _partition_types(path, [file for file, _ in files])
    return Footers(types, sum(metadata.num_rows for _, metadata in files), tuple(files))


def _spark_type(kind: pa.DataType) -> str:
    """Return the name of a column's Spark type, or of its Arrow type if no message can be made from it."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _spark_type(kind.value_type)
    if types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"array<{_spark_type(kind.value_type)}>"
    if types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{_spark_type(field.type)}' for field in kind)}>"
    return _NAMES.get(str(kind), str(kind))


def _partition_types(path: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the Spark types of the partition columns, which are in the files' paths as ``label=0/``."""
    values: dict[str, list[str]] = {}
    for file in files:
        for name, value in _partition_values(path, file):
            values.setdefault(name, []).append(value)
    return {name: _inferred(each) for name, each in values.items()}


def _partition_values(path: Path, file: str) -> Iterator[tuple[str, str]]:
    for part in Path(file).relative_to(path).parts[:-1]:
        name, separator, value = part.partition("=")
        if separator:
            yield unquote(name), unquote(value)


def _inferred(values: Iterable[str]) -> str:
    known = [value for value in values if value != _NO_VALUE]
    if known and all(re.fullmatch(r"[+-]?\d{1,18}", value) for value in known):
        return "int" if all(-(1 << 31) <= int(value) < 1 << 31 for value in known) else "bigint"
    try:
        return "double" if [float(value) for value in known] else "string"
    except ValueError:
        return "string"


def _codecs(metadata: pq.FileMetaData, names: Collection[str]) -> Iterator[str]:
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(metadata.num_columns):
            column = row_group.column(place)
            if column.path_in_schema.partition(".")[0] in names or column.path_in_schema in names:
                yield column.compression
