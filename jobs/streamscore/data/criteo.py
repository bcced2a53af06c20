"""The Criteo click data: their columns, and reading their file in row order.

This repository contains no row of them: the data are for non-commercial use and may not be passed on. The user provides
the file (Kaggle Display Advertising Challenge ``train.txt``, its 100,000-row sample, or a day of the 1TB click logs).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from pyspark.sql import functions as F

from streamscore.config.fields import Field
from streamscore.errors import InputError
from streamscore.schema import LABEL

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Row, SparkSession

INTEGERS: Final = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES: Final = tuple(f"C{number}" for number in range(1, 27))
FIELDS: Final = (*(Field(name, "INT") for name in INTEGERS), *(Field(name, "STRING") for name in CATEGORIES))
"""The columns without the label, as raw columns of a message."""

ROW: Final = "row"
"""Column that increases with a row's position in the file; it has gaps."""

MISSING: Final = "<na>"
"""Replaces a missing category, because its absence is a signal and the hasher would drop a null."""

_LABELS = (0, 1)
_WHOLE = ("tinyint", "smallint", "int", "bigint")
_CORRUPT = "_corrupt"
_DDL = ", ".join(
    [
        f"{LABEL} DOUBLE",
        *(f"{name} INT" for name in INTEGERS),
        *(f"{name} STRING" for name in CATEGORIES),
        f"{_CORRUPT} STRING",
    ]
)


def read(spark: SparkSession, path: str) -> DataFrame:
    """Read a Criteo file: tab-separated, 40 columns, no header, plain or ``.gz``.

    Returns:
        One row per line: ``row``, ``label`` (0.0 or 1.0), ``I1`` to ``I13`` (int, null where empty) and ``C1`` to
        ``C26`` (text, ``<na>`` where empty).

    Raises:
        InputError: the path is not a single file.
    """
    # With pruning, Spark would not notice missing columns that a query does not use. Without pruning, it still does not
    # notice columns that are not numbers: only `split`, which uses all columns, does.
    lines = spark.read.option("columnPruning", "false").csv(
        path, schema=_DDL, sep="\t", quote="", mode="PERMISSIVE", columnNameOfCorruptRecord=_CORRUPT
    )
    files = len(lines.inputFiles())
    if files != 1:
        raise InputError(
            f"{path}: Spark finds {files:,} files there, and takes them by their size: name one file, whose rows "
            "are in the order of time"
        )
    categories = [F.coalesce(name, F.lit(MISSING)).alias(name) for name in CATEGORIES]
    return lines.select(F.monotonically_increasing_id().alias(ROW), LABEL, *INTEGERS, *categories, _CORRUPT)


def from_table(table: DataFrame, name: str, order: str) -> DataFrame:
    """Return the rows of a table with Criteo's columns like ``read``; ``row`` is the column ``order`` as a number.

    The integers keep their types; ``split_table`` checks that they fit into int.

    Args:
        table: ``label``, ``I1`` to ``I13``, ``C1`` to ``C26`` and the column of the order.
        name: the table's name, for messages.
        order: column of whole numbers, dates or timestamps that orders the rows.

    Raises:
        InputError: a column is missing, or of another type.
    """
    absent = [column for column in (LABEL, *INTEGERS, *CATEGORIES, order) if column not in table.columns]
    if absent:
        raise InputError(f"{name}: no column {', '.join(absent)}; there are {', '.join(table.columns)}")
    kind = table.schema[order].dataType.simpleString()
    as_number = {"timestamp": F.unix_micros, "date": F.unix_date}.get(kind, F.col)
    if kind not in {"timestamp", "date", *_WHOLE}:
        raise InputError(f"{name}: the column {order!r} is of the type {kind}, which is not one to order rows by")
    for column, allowed in {**dict.fromkeys(INTEGERS, _WHOLE), **dict.fromkeys(CATEGORIES, ("string",))}.items():
        actual = table.schema[column].dataType.simpleString()
        if actual not in allowed:
            raise InputError(
                f"{name}: the column {column!r} is of the type {actual}, but must be of the type {' or '.join(allowed)}"
            )
    return table.select(
        as_number(order).cast("long").alias(ROW),
        F.col(LABEL).cast("double").alias(LABEL),
        *INTEGERS,
        *(F.coalesce(F.col(column), F.lit(MISSING)).alias(column) for column in CATEGORIES),
    )


def split_table(data: DataFrame, name: str, test_rows: int) -> tuple[DataFrame, DataFrame]:
    """Split the rows of ``from_table`` like ``split``; rows with equal order values stay together.

    Args:
        data: the rows of one table.
        name: the table's name, for messages.
        test_rows: smallest number of rows of the test set.

    Returns:
        The rows to train on, and those to test on.

    Raises:
        InputError: rows without an order value, labels other than 0 and 1, integers beyond int, too few rows, or only
            one label before or after the boundary.
    """
    counts = data.agg(
        F.count("*").alias("rows"),
        F.min(ROW).alias("first"),
        F.count_if(F.col(ROW).isNull()).alias("placeless"),
        F.count_if(_wrong_label()).alias("mislabelled"),
        *_extent(),
        *(F.count_if(~F.col(column).between(-(1 << 31), (1 << 31) - 1)).alias(column) for column in INTEGERS),
    ).collect()[0]
    problems = {
        "placeless": "no place in the order",
        "mislabelled": "a label other than 0 and 1",
        **{column: f"a number in the column {column!r} that is beyond the range of an int" for column in INTEGERS},
    }
    for problem, meaning in problems.items():
        if counts[problem]:
            raise InputError(f"{name}: {counts[problem]:,} rows have {meaning}")
    if counts["rows"] <= test_rows:
        raise InputError(
            f"{name}: {counts['rows']:,} rows, too few to hold out train.test_rows = {test_rows:,} of them"
        )
    last = data.select(ROW).orderBy(F.desc(ROW)).limit(test_rows)
    boundary = last.agg(F.min(ROW)).collect()[0][0]
    if boundary == counts["first"]:
        raise InputError(
            f"{name}: no row comes before those that share their place in the order with the last {test_rows:,}, which "
            "are held out: choose a finer train.order_column, or smaller train.test_rows"
        )
    _require_both_labels([counts], boundary, name)
    ints = data.withColumns({column: F.col(column).cast("int") for column in INTEGERS})
    return ints.filter(F.col(ROW) < boundary), ints.filter(F.col(ROW) >= boundary)


def _wrong_label() -> Column:
    return F.col(LABEL).isNull() | ~F.col(LABEL).isin(0.0, 1.0)


def _extent() -> list[Column]:
    """Return aggregates with the positions of the first and the last row of each label."""
    rows = {label: F.when(F.col(LABEL) == label, F.col(ROW)) for label in _LABELS}
    ends = [(F.min(own).alias(f"first_{label}"), F.max(own).alias(f"last_{label}")) for label, own in rows.items()]
    return [*chain.from_iterable(ends)]


def _require_both_labels(extents: Sequence[Row], boundary: int, path: str) -> None:
    """Check that both sides of the boundary have rows with and without a click.

    On rows of one label every model looks perfect, and a stream that watches the alias would deploy it.

    Args:
        extents: per partition, the positions of the first and the last row of each label.
        boundary: position of the first row of the test set.
        path: the data's name, for messages.

    Raises:
        InputError: one side has rows of only one label.
    """
    for label in _LABELS:
        having = [row for row in extents if row[f"first_{label}"] is not None]
        before = any(row[f"first_{label}"] < boundary for row in having)
        behind = any(row[f"last_{label}"] >= boundary for row in having)
        if not (before and behind):
            part = "held out" if before else "to train on"
            raise InputError(
                f"{path}: none of the rows {part} has the label {label}, but a model is trained and judged on rows of "
                "both labels: bring more rows, or change train.test_rows"
            )


def split(data: DataFrame, path: str, test_rows: int) -> tuple[DataFrame, DataFrame]:
    """Split the rows of ``read`` into the first rows for training and the last rows for the test set.

    The rows are chronological, so a split by order mimics a stream; a random split would leak the future.

    Args:
        data: the rows of one file.
        path: the file's name, for messages.
        test_rows: number of rows of the test set.

    Raises:
        InputError: malformed lines, labels other than 0 and 1, too few rows, or only one label before or after the
            boundary.
    """
    # monotonically_increasing_id is (partition << 33) + position within the partition.
    rows = data.groupBy(F.shiftright(ROW, 33).alias("partition")).agg(
        F.count("*").alias("count"),
        F.min(F.when(F.col(_CORRUPT).isNotNull() | _wrong_label(), F.col(ROW))).alias("bad"),
        *_extent(),
        # Spark reports a line with a malformed integer as corrupt only if the query uses that column.
        *(F.count(name) for name in INTEGERS),
    )
    partitions = sorted(rows.collect(), key=lambda part: part["partition"])
    before = 0
    for part in partitions:
        if part["bad"] is not None:
            line = before + (part["bad"] & (1 << 33) - 1) + 1
            raise InputError(
                f"{path}: row {line:,} is not a Criteo row: expected 40 tab-separated columns, the first 0 or 1, then "
                "13 whole numbers and 26 texts, without a header"
            )
        before += part["count"]
    if before <= test_rows:
        raise InputError(f"{path}: {before:,} rows, too few to hold out train.test_rows = {test_rows:,} of them")
    remaining = before - test_rows
    for part in partitions:
        if remaining < part["count"]:
            break
        remaining -= part["count"]
    boundary = (part["partition"] << 33) + remaining
    _require_both_labels(partitions, boundary, path)
    clean = data.drop(_CORRUPT)
    return clean.filter(F.col(ROW) < boundary), clean.filter(F.col(ROW) >= boundary)


def balance(data: DataFrame) -> DataFrame:
    """Downsample the rows without a click to about the number with a click; the choice is deterministic."""
    counts = {row[LABEL]: row["count"] for row in data.groupBy(LABEL).count().collect()}
    share = min(1.0, counts.get(1.0, 0) / max(1, counts.get(0.0, 0)))
    # Rows of a table may have equal order values: all rows of a day must not be kept or dropped together.
    lot = F.pmod(F.xxhash64(ROW, *INTEGERS, *CATEGORIES), F.lit(1_000_000)) / 1_000_000
    return data.filter((F.col(LABEL) == 1.0) | (lot < share))


def overview(data: DataFrame, min_count: int) -> DataFrame:
    """Return statistics of missing and rare values, one row per column in the file's order.

    Args:
        data: the rows of ``read``.
        min_count: a value with fewer rows is rare.

    Returns:
        ``column``; ``missing``, the share of rows without a value; ``clicks_if_missing``, the share of clicks among
        these; ``values``, the number of distinct values; ``rare``, the share of rows with a rare value.
    """
    names = [*INTEGERS, *CATEGORIES]
    cells = F.explode(
        F.array(
            *(
                F.struct(
                    F.lit(place).alias("place"), F.lit(name).alias("column"), F.col(name).cast("string").alias("value")
                )
                for place, name in enumerate(names)
            )
        )
    )
    counts = (
        data.select(LABEL, cells.alias("cell"))
        .groupBy(
            "cell.place", "cell.column", F.when(F.col("cell.value") != MISSING, F.col("cell.value")).alias("value")
        )
        .agg(F.count("*").alias("rows"), F.sum(LABEL).alias("clicks"))
    )
    missing, rare = F.col("value").isNull(), F.col("value").isNotNull() & (F.col("rows") < min_count)
    return (
        counts.groupBy("place", "column")
        .agg(
            (F.sum(F.when(missing, F.col("rows")).otherwise(0)) / F.sum("rows")).alias("missing"),
            (F.sum(F.when(missing, F.col("clicks"))) / F.sum(F.when(missing, F.col("rows")))).alias(
                "clicks_if_missing"
            ),
            F.count("value").alias("values"),
            (F.sum(F.when(rare, F.col("rows")).otherwise(0)) / F.sum("rows")).alias("rare"),
        )
        .orderBy("place")
        .drop("place")
    )
