"""Check a model's parquet files before Spark opens them, and the nodes of tree models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

from streamscore.models.gate import parquet
from streamscore.models.gate.files import refused

if TYPE_CHECKING:
    from streamscore.models.gate.files import Files
    from streamscore.models.gate.trees import TreeModel


def check(files: Files, inner: str, sizes: Mapping[str, int], trees: Mapping[str, TreeModel], memory: int) -> None:
    """Check every parquet file of a model, and the nodes of its tree models.

    Args:
        files: the model's folder.
        inner: Spark's folder inside it.
        sizes: size in bytes of each file in Spark's folder.
        trees: the tree models by their folder.
        memory: heap of the driver that will load the model, in bytes.

    Raises:
        ModelError: Spark would construct an unknown class, the model unpacks to too many bytes, or a tree cannot be
            followed; the message names the file.
    """
    names = [name for name in sizes if name.endswith(".parquet")]
    budget = parquet.Budget(memory)
    for name in names:
        with files.opened(inner + name) as file:
            try:
                parquet.require_safe(file, sizes[name], budget)
            except parquet.ParquetError as error:
                raise refused(files.location, inner + name, str(error)) from None
    for folder, model in trees.items():
        _check_files(files, inner, [name for name in names if name.startswith(f"{folder}data/")], model.check_nodes)
        if model.trees is not None:
            members = [name for name in names if name.startswith(f"{folder}treesMetadata/")]
            _check_files(files, inner, members, model.check_members)


def _check_files(files: Files, inner: str, names: Sequence[str], check: Callable[[Sequence[IO[bytes]]], None]) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(files.opened(inner + name)) for name in names]
        try:
            check(opened)
        except ValueError as error:
            raise refused(files.location, inner + (names[0] if names else ""), str(error)) from None
