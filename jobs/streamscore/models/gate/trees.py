"""Check that Spark can build a tree model from its nodes, and follow every tree from the root to a leaf for any event.

Spark checks little when it builds a tree (``DecisionTreeModelReadWrite.buildTreeFromNodes``): a missing node becomes
null, and stops the stream at the first event that reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from streamscore.models.gate import schema

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_CLASSIFICATION: Final = "org.apache.spark.ml.classification"
_TREE: Final = f"{_CLASSIFICATION}.DecisionTreeClassificationModel"
_TREE_CLASSES: Final = {
    _TREE: _TREE,
    f"{_CLASSIFICATION}.RandomForestClassificationModel": _TREE,
    f"{_CLASSIFICATION}.GBTClassificationModel": "org.apache.spark.ml.regression.DecisionTreeRegressionModel",
}
"""The classes of tree models, each with the class of its trees."""

_MAX_DEPTH: Final = 30
"""Greatest depth that Spark trains; Spark follows a tree recursively, which needs stack."""
_MAX_TREES: Final = 100_000
_NONE: Final = -1
"""Spark's number for no child, and for no categories."""

_NODE: Final = {
    "id": "integer",
    "prediction": "double",
    "impurityStats": "array<double>",
    "leftChild": "integer",
    "rightChild": "integer",
    "split.featureIndex": "integer",
    "split.leftCategoriesOrThreshold": "array<double>",
    "split.numCategories": "integer",
}
"""The columns of a node that determine its position and its outcome, with their types."""
_MEMBER: Final = {"treeID": "integer", "metadata": "string", "weights": "double"}


@dataclass(frozen=True)
class TreeModel:
    """A tree model as described by its metadata."""

    class_name: str
    features: int
    classes: int | None
    """Number of classes; None for trees that predict a number, as in a GBT."""
    trees: int | None
    """Number of trees; None for a single tree."""

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> TreeModel | None:
        """Return the tree model of a stage's metadata; None if the stage is another model.

        Raises:
            ValueError: a number that Spark writes is absent or out of range.
        """
        class_name = metadata["class"]
        if class_name not in _TREE_CLASSES:
            return None
        return cls(
            class_name,
            _count(metadata, "numFeatures", (1 << 31) - 1),
            _count(metadata, "numClasses", 10_000) if _TREE_CLASSES[class_name] == _TREE else None,
            None if class_name == _TREE else _count(metadata, "numTrees", _MAX_TREES),
        )

    def check_nodes(self, files: Sequence[IO[bytes]]) -> None:
        """Check the nodes of all trees.

        Args:
            files: the parquet files of the nodes, open.

        Raises:
            ValueError: a node is absent, cannot be reached, or has a split or an outcome that Spark cannot use; the
                message names the tree and the node.
        """
        prefix = "" if self.trees is None else "nodeData."
        columns = {prefix + name: kind for name, kind in _NODE.items()}
        if prefix:
            columns["treeID"] = "integer"
        table = {name.removeprefix(prefix): array for name, array in _read(files, columns).items()}
        _Nodes(self, table).check()

    def check_members(self, files: Sequence[IO[bytes]]) -> None:
        """Check the list of the trees in a forest.

        Args:
            files: the parquet files of the list, open.

        Raises:
            ValueError: a tree is absent or duplicate, has a weight that is not a number, or is of another class.
        """
        import numpy as np

        table = _read(files, _MEMBER)
        found = sorted(table["treeID"].to_pylist())
        if found != list(range(self.trees or 0)):
            raise ValueError(f"it lists other trees than the numbers 0 to {(self.trees or 0) - 1}, each once")
        if not np.isfinite(table["weights"].to_numpy()).all():
            raise ValueError("the weight of a tree is not a finite number")
        for text in table["metadata"].to_pylist():
            metadata = schema.parse_json(text)
            class_name = metadata.get("class") if isinstance(metadata, dict) else None
            if class_name != _TREE_CLASSES[self.class_name]:
                raise ValueError(f"a tree is of the class {str(class_name)[:200]!a}")


class _Nodes:
    """All nodes of a model as arrays, ordered by tree and number."""

    def __init__(self, model: TreeModel, table: dict[str, pa.Array]) -> None:
        import numpy as np
        import pyarrow.compute as pc

        self._model = model
        ids = table["id"].to_numpy()
        trees = table["treeID"].to_numpy() if "treeID" in table else np.zeros_like(ids)
        count = model.trees or 1
        if len(ids) == 0 or trees.min() < 0 or trees.max() >= count:
            raise ValueError(f"there are nodes of other trees than the numbers 0 to {count - 1}, or none")
        sizes = np.bincount(trees, minlength=count)
        if (sizes == 0).any():
            raise ValueError(f"tree {int(np.argmin(sizes))} has no nodes")
        starts = np.cumsum(sizes) - sizes
        self._require_ids(ids, trees, starts, sizes)
        order = np.argsort(starts[trees] + ids)
        self._tree, self._id = trees[order], ids[order]
        self._starts, self._sizes = starts, sizes
        self._left = table["leftChild"].to_numpy()[order]
        self._right = table["rightChild"].to_numpy()[order]
        self._leaf = self._left == _NONE
        self._prediction = table["prediction"].to_numpy()[order]
        self._feature = table["split.featureIndex"].to_numpy()[order]
        self._categories = table["split.numCategories"].to_numpy()[order]
        self._stats = pc.take(table["impurityStats"], order)
        self._values = pc.take(table["split.leftCategoriesOrThreshold"], order)

    def check(self) -> None:
        self._check_links()
        self._check_splits()
        self._check_outcomes()

    def _require_ids(self, ids: np.ndarray, trees: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        """Check that the nodes of each tree are numbered consecutively from 0."""
        import numpy as np

        inside = (ids >= 0) & (ids < sizes[trees])
        held = np.bincount((starts[trees] + ids)[inside], minlength=int(sizes.sum()))
        wrong = np.flatnonzero(held != 1)
        if len(wrong):
            tree = int(np.searchsorted(starts, wrong[0], "right")) - 1
            how = "is not there" if held[wrong[0]] == 0 else "is there twice"
            raise ValueError(f"tree {tree}: node {int(wrong[0] - starts[tree])} {how}")

    def _check_links(self) -> None:
        """Check the depth, and that every node but the root is the child of exactly one node with a lower number."""
        import numpy as np

        last = self._sizes[self._tree] - 1
        for child in (self._left, self._right):
            self._refuse(~self._leaf & ((child <= self._id) | (child > last)), "has a child that is not there", child)
        self._refuse(self._leaf & (self._right != _NONE), "has only a right child", self._right)
        offset = self._starts[self._tree]
        children = np.concatenate([(offset + child)[~self._leaf] for child in (self._left, self._right)])
        parents = np.bincount(children, minlength=len(self._id))
        parents[self._starts] += 1
        self._refuse(parents != 1, "is not the child of exactly one node", parents)
        level = self._starts
        for _ in range(_MAX_DEPTH + 1):
            level = level[~self._leaf[level]]
            level = np.concatenate([(offset + self._left)[level], (offset + self._right)[level]])
        if len(level):
            raise ValueError(
                f"tree {int(self._tree[level[0]])} is deeper than {_MAX_DEPTH}, the most that Spark trains"
            )

    def _check_splits(self) -> None:
        """Check that every split uses an existing feature, by a threshold or by categories.

        A threshold may be any number: with NaN or an infinity all events take the same branch.
        """
        import numpy as np
        import pyarrow.compute as pc

        inner = ~self._leaf
        out_of_range = (self._feature < 0) | (self._feature >= self._model.features)
        self._refuse(inner & out_of_range, f"splits by a feature out of {self._model.features}", self._feature)
        length = pc.list_value_length(self._values).to_numpy()
        by_threshold = self._categories == _NONE
        self._refuse(inner & by_threshold & (length != 1), "has no single threshold, but as many as", length)
        self._refuse(inner & ~by_threshold & (self._categories < 1), "has a number of categories of", self._categories)
        node = np.repeat(np.arange(len(length)), length)
        value = self._values.flatten().to_numpy()
        with np.errstate(invalid="ignore"):
            known = (value >= 0) & (value < self._categories[node]) & (value == np.floor(value))
        wrong = np.zeros(len(length), dtype=bool)
        wrong[node[~known]] = True
        self._refuse(inner & ~by_threshold & wrong, "names a category out of", self._categories)

    def _check_outcomes(self) -> None:
        """Check the predictions of the leaves."""
        import numpy as np
        import pyarrow.compute as pc

        self._refuse(self._leaf & ~np.isfinite(self._prediction), "predicts", self._prediction)
        if self._model.classes is None:
            return
        length = pc.list_value_length(self._stats).to_numpy()
        self._refuse(
            self._leaf & (length != self._model.classes), f"has not {self._model.classes} class counts, but", length
        )
        count = self._stats.flatten().to_numpy()
        wrong = np.zeros(len(length), dtype=bool)
        wrong[np.repeat(np.arange(len(length)), length)[~(np.isfinite(count) & (count >= 0))]] = True
        self._refuse(self._leaf & wrong, "has a class count that is negative or not finite, as a node of size", length)

    def _refuse(self, wrong: np.ndarray, reason: str, values: np.ndarray) -> None:
        """Raise an error that names the first wrong node."""
        import numpy as np

        places = np.flatnonzero(wrong)
        if len(places):
            first = places[0]
            raise ValueError(f"tree {self._tree[first]}: node {self._id[first]} {reason}: {values[first]}")


def _read(files: Sequence[IO[bytes]], columns: dict[str, str]) -> dict[str, pa.Array]:
    """Read columns of parquet files.

    Args:
        files: the files, open.
        columns: the columns' types, by their names with dots.

    Raises:
        ValueError: a column is absent, of another type, or has a null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, list[pa.Array]] = {name: [] for name in columns}
    for file in files:
        file.seek(0)
        try:
            table = pq.ParquetFile(file).read()
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"it cannot be read ({str(error).splitlines()[0][:200]})") from None
        # Spark converts values to its own row schema's types: these must be equal, or Spark reads other numbers.
        own = (table.schema.metadata or {}).get(schema.ROW_METADATA.encode())
        row_types = None if own is None else schema.types(own.decode())
        for name, kind in columns.items():
            if row_types is not None and row_types.get(name) != kind:
                raise ValueError(f"its row schema has {name} as {row_types.get(name)}, not as {kind}")
            found[name].append(_column(table, name, kind))
    if not files:
        raise ValueError("there is no file of nodes or trees")
    return {name: pa.concat_arrays(arrays) for name, arrays in found.items()}


def _column(table: pa.Table, name: str, kind: str) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    types = {
        "integer": pa.types.is_int32,
        "double": pa.types.is_float64,
        "string": pa.types.is_string,
        "array<double>": lambda one: pa.types.is_list(one) and pa.types.is_float64(one.value_type),
    }
    first, *inside = name.split(".")
    if table.schema.names.count(first) != 1:
        raise ValueError(f"it has no single column {first}")
    array = table.column(first)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    for part in inside:
        if array.null_count or not pa.types.is_struct(array.type) or array.type.get_field_index(part) < 0:
            raise ValueError(f"it has no single column {name}")
        array = pc.struct_field(array, part)
    if not types[kind](array.type):
        raise ValueError(f"its column {name} is {array.type}, not {kind}")
    if array.null_count or (kind == "array<double>" and array.flatten().null_count):
        raise ValueError(f"its column {name} has a null")
    return array


def _count(metadata: dict[str, Any], key: str, limit: int) -> int:
    value = metadata.get(key)
    if type(value) is not int or not 0 < value <= limit:
        raise ValueError(f"{key} is {str(value)[:40]!a}, not a number from 1 to {limit:,}")
    return value
