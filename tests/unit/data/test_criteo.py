"""Criteo's file: its format, its row order, and its faults."""

import gzip

import pytest
from pyspark.sql import functions as F

from streamscore import train_models
from streamscore.data import criteo
from streamscore.errors import InputError


def line(number: int | str, label: str = "0", category: str = "68fd1e64") -> str:
    """Return a line of Criteo's format with its number as I1."""
    return "\t".join([label, str(number), *[""] * 12, category, *["7e0ccccf"] * 24, ""]) + "\n"


@pytest.fixture
def file(tmp_path):
    """Return a function that writes lines to a file."""

    def write(lines, name="train.txt"):
        path = tmp_path / name
        data = "".join(lines).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return write


@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_reads_plain_and_compressed_files(spark, file, name):
    """Plain and gzip files are read; empty integers become null, empty categories a token."""
    path = file([line(5, "1"), line(6)], name)
    rows = criteo.read(spark, path).orderBy("row").collect()

    assert [(row["label"], row["I1"], row["I2"], row["C1"], row["C26"]) for row in rows] == [
        (1.0, 5, None, "68fd1e64", "<na>"),
        (0.0, 6, None, "68fd1e64", "<na>"),
    ]


def test_quotes_are_plain_text(spark, file):
    """Quotes are ordinary characters."""
    path = file([line(1, category='"'), line(2, category='a"b')])

    assert [row["C1"] for row in criteo.read(spark, path).orderBy("row").collect()] == ['"', 'a"b']


@pytest.fixture
def set_conf(spark):
    """Return a function that changes a setting of the session during this test."""
    names = set()

    def give(name, value):
        names.add(name)
        spark.conf.set(name, value)

    yield give
    for name in names:
        spark.conf.unset(name)


def numbers(parts):
    """Return the numbers of each part's rows, in their order."""
    return [[row["I1"] for row in part.orderBy("row").collect()] for part in parts]


def test_split_is_by_order_across_partitions(spark, file, set_conf):
    """The last rows are the test set, however Spark partitions the file."""
    path = file([line(number, str(number % 2)) for number in range(1000)])
    set_conf("spark.sql.files.maxPartitionBytes", "50000")
    data = criteo.read(spark, path)
    assert data.rdd.getNumPartitions() > 2

    assert numbers(criteo.split(data, path, 123)) == [list(range(877)), list(range(877, 1000))]


def test_split_stays_when_the_number_of_cores_changes(spark, file, make_config, set_conf):
    """The split does not depend on the number of cores, which may change between queries."""
    path = file([line(number, str(number % 2)) for number in range(4000)])
    for name, value in train_models.JOB.settings(make_config()).items():
        if name.startswith("spark.sql.files."):
            set_conf(name, value)
    set_conf("spark.sql.files.openCostInBytes", "50000")
    set_conf("spark.sql.leafNodeDefaultParallelism", "2")
    parts = criteo.split(criteo.read(spark, path), path, 1500)
    set_conf("spark.sql.leafNodeDefaultParallelism", "7")

    assert numbers(part.select("row", "I1") for part in parts) == [list(range(2500)), list(range(2500, 4000))]


@pytest.mark.parametrize(
    "bad",
    [
        *(line(3).replace("\t", ",", 1), "0\t1\t2\n", line(3, "2"), line(3, ""), line(3, "x"), "a\n"),
        *(line("x"), line("12.0"), line(3_000_000_000), line(" 3")),
    ],
)
def test_line_of_another_format_is_named(spark, file, bad):
    """A malformed line is reported with its row number."""
    path = file([line(1), line(2), bad, line(4), line(5)])

    with pytest.raises(InputError, match="row 3 is not a Criteo row"):
        criteo.split(criteo.read(spark, path), path, 1)


@pytest.mark.parametrize("name", ["", "*"])
def test_several_files_have_no_order(spark, file, tmp_path, name):
    """A folder or a pattern is refused, because Spark reads the largest file first."""
    file([line(1), line(2)], "day_0")
    file([line(3), line(4), line(5)], "day_1")

    with pytest.raises(InputError, match="Spark finds 2 files there.*: name one file"):
        criteo.read(spark, f"file:{tmp_path}/{name}")


def test_too_few_rows_are_refused(spark, file):
    """Too few rows for a training set are refused."""
    path = file([line(1), line(2)])

    with pytest.raises(InputError, match="2 rows, too few to hold out"):
        criteo.split(criteo.read(spark, path), path, 2)


def test_balance_keeps_every_click_and_as_many_others(spark, file):
    """Balancing keeps every click and about as many other rows, deterministically."""
    path = file([line(number, "1" if number % 4 == 0 else "0") for number in range(4004)])
    train, _ = criteo.split(criteo.read(spark, path), path, 4)
    kept = criteo.balance(train).groupBy("label").count().collect()
    counts = {row["label"]: row["count"] for row in kept}

    assert counts[1.0] == 1000
    assert 900 < counts[0.0] < 1100
    assert {row["label"]: row["count"] for row in criteo.balance(train).groupBy("label").count().collect()} == counts


def test_overview_tells_what_is_missing_and_what_is_rare(spark, file):
    """The overview has the shares of missing and rare values, and the number of distinct values."""
    rows = [line(7, "1"), line(7), line(8), line(9, "1", ""), line(9, "0", ""), line(9, "0", "")]
    found = criteo.overview(criteo.read(spark, file(rows)), min_count=2).collect()
    by_column = {row["column"]: tuple(row)[1:] for row in found}

    assert list(by_column) == [*criteo.INTEGERS, *criteo.CATEGORIES]
    assert by_column["I1"] == (0.0, None, 3, pytest.approx(1 / 6))
    assert by_column["I2"] == (1.0, pytest.approx(1 / 3), 0, 0.0)
    assert by_column["C1"] == (0.5, pytest.approx(1 / 3), 1, 0.0)
    assert by_column["C2"] == (0.0, None, 1, 0.0)


@pytest.fixture
def table(spark):
    """Return a function that makes a table of shuffled numbered rows, with changed columns as SQL."""

    def make(count, order="id", **others):
        rows = spark.range(count).selectExpr("id", "date_add('2026-01-01', int(id)) AS day", "double(id % 2) AS label")
        for name in criteo.INTEGERS:
            rows = rows.withColumn(name, rows["id"].cast("long"))
        for name in criteo.CATEGORIES:
            rows = rows.selectExpr("*", f"IF(id % 3 = 0, null, 'a') AS {name}")
        rows = rows.withColumns({name: F.expr(sql) for name, sql in others.items()})
        return criteo.from_table(rows.orderBy("I1", ascending=False).orderBy(F.xxhash64("id")), "t", order)

    return make


@pytest.mark.parametrize("order", ["id", "day"])
def test_table_is_split_by_the_column_of_its_order(table, order):
    """A table is split by its order column, with the columns and types of the file."""
    train, test = criteo.split_table(table(100, order), "t", 30)

    assert sorted(row["I1"] for row in test.collect()) == list(range(70, 100))
    assert sorted(row["I1"] for row in train.collect()) == list(range(70))
    assert {row["C26"] for row in train.collect()} == {"a", "<na>"}
    assert dict(train.dtypes) == {"row": "bigint", "label": "double"} | dict.fromkeys(
        criteo.INTEGERS, "int"
    ) | dict.fromkeys(criteo.CATEGORIES, "string")


def test_faulty_tables_are_refused(spark, table):
    """A missing column, a wrong order or label, and too few rows are refused."""
    good = table(10)
    for data, order, reason in (
        (good.drop("C7"), "row", "t: no column C7; there are row, label, I1"),
        (good, "C1", "the column 'C1' is of the type string, which is not one to order rows by"),
    ):
        with pytest.raises(InputError, match=reason):
            criteo.from_table(data, "t", order)
    for data, reason in (
        (good.withColumn("label", F.lit(2.0)), "10 rows have a label other than 0 and 1"),
        (good.withColumn("row", F.lit(None).cast("long")), "10 rows have no place in the order"),
        (good.limit(5), "5 rows, too few to hold out train.test_rows = 5"),
    ):
        with pytest.raises(InputError, match=reason):
            criteo.split_table(data, "t", 5)


@pytest.mark.parametrize(
    ("column", "sql", "reason"),
    [
        ("I2", "string(id)", "the column 'I2' is of the type string, but must be of the type tinyint or smallint"),
        ("I3", "double(id)", "the column 'I3' is of the type double"),
        ("I4", "decimal(id)", "the column 'I4' is of the type decimal"),
        ("C5", "id", "the column 'C5' is of the type bigint, but must be of the type string"),
    ],
)
def test_column_that_would_lose_something_is_refused(table, column, sql, reason):
    """Columns whose conversion would lose data are refused."""
    with pytest.raises(InputError, match=reason):
        table(10, **{column: sql})


def test_numbers_beyond_int_are_refused_and_narrower_ones_widened(table):
    """Integers beyond int, which would overflow silently, are refused; narrower types are widened."""
    with pytest.raises(InputError, match="t: 1 rows have a number in the column 'I6' that is beyond the range of an"):
        criteo.split_table(table(10, I6="IF(id = 3, 3000000000, id)"), "t", 5)
    train, _ = criteo.split_table(table(10, I6="IF(id = 3, 2147483647, -2147483648)", I7="tinyint(id)"), "t", 5)

    assert {row["I6"] for row in train.collect()} == {2147483647, -2147483648}
    assert dict(train.dtypes)["I7"] == "int"


def test_rows_that_share_their_place_are_balanced_and_split(spark, table):
    """Rows of one day stay together in the split, but are balanced individually."""
    data = table(4000).withColumn("row", F.col("row") % 2)
    data = data.withColumn("label", F.when(F.col("I1") % 5 == 0, 1.0).otherwise(0.0))
    train, test = criteo.split_table(data, "t", 10)
    counts = {
        row["label"]: row["count"] for row in criteo.balance(train.union(test)).groupBy("label").count().collect()
    }

    assert (train.count(), test.count()) == (2000, 2000)
    assert counts[1.0] == 800
    assert 710 < counts[0.0] < 890
    with pytest.raises(InputError, match="no row comes before those that share their place in the order with the last"):
        criteo.split_table(data.withColumn("row", F.lit(1).cast("long")), "t", 10)
