"""Data sets for seeding: their check by footers, their row numbers, and their messages in every format."""

import json
from decimal import Decimal
from unittest.mock import ANY

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml.linalg import SparseVector, Vectors

from streamscore import train_models
from streamscore.data import datasets
from streamscore.errors import InputError

VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)


@pytest.fixture
def seed(make_config):
    """Return a function that makes the seed section for a source."""
    return lambda source, *overrides: make_config(f"seed.source={source}", *overrides).seed


def refused(settings):
    """Return the message of a footer's refusal."""
    with pytest.raises(InputError) as caught:
        datasets.check_footer(settings)
    return str(caught.value)


def parquet(path, **columns):
    """Write a parquet file of the given arrays."""
    pq.write_table(pa.table(columns), path)
    return path


def vectors(count):
    """Return an Arrow array of vectors as Spark stores them."""
    return pa.array([{"type": 0, "size": 3, "indices": [1], "values": [float(i)]} for i in range(count)], VECTOR)


def test_good_footer_passes(seed, tmp_path):
    """A label and a vector suffice."""
    datasets.check_footer(seed(parquet(tmp_path / "t.parquet", label=pa.array([1.0]), features=vectors(1))))


def test_absent_file_is_named(seed, tmp_path):
    """The message has the command that makes the file."""
    assert refused(seed(tmp_path / "none")).startswith(f"{tmp_path}/none: no such file or folder")


def test_file_of_another_format_is_named(seed, tmp_path):
    """A file that is not parquet is reported."""
    (tmp_path / "a.csv").write_text("label,features\n1,2\n")

    assert f"{tmp_path}/a.csv: not parquet" in refused(seed(tmp_path / "a.csv"))


def test_empty_folder_is_named(seed, tmp_path):
    """An empty folder is reported."""
    assert refused(seed(tmp_path)) == f"{tmp_path}: no parquet file in this folder"


def test_missing_column_lists_those_found(seed, tmp_path):
    """The message lists the existing columns."""
    message = refused(seed(parquet(tmp_path / "t.parquet", label=pa.array([1.0]), features1=pa.array(["(1,[],[])"]))))

    assert "no column 'features', which must be a vector or a text" in message
    assert "label (number), features1 (text)" in message
    assert "--features-column" in message


def test_wrong_type_lists_those_found(seed, tmp_path):
    """A wrong type is reported with the existing types."""
    message = refused(seed(parquet(tmp_path / "t.parquet", label=pa.array(["1"]), features=vectors(1))))

    assert "the wrong type, text, for 'label', which must be a number" in message


def test_features_that_are_numbers_are_refused(seed, tmp_path):
    """A column of doubles is not a vector."""
    message = refused(seed(parquet(tmp_path / "t.parquet", label=pa.array([1.0]), features=pa.array([1.0]))))

    assert "the wrong type, number, for 'features'" in message


def test_file_without_rows_is_refused(seed, tmp_path):
    """A file without rows is refused."""
    message = refused(seed(parquet(tmp_path / "t.parquet", label=pa.array([], pa.float64()), features=vectors(0))))

    assert message.endswith("has the columns label, features, but no rows")


def test_folder_is_checked_by_all_its_footers(seed, tmp_path):
    """All files of a folder are checked."""
    parquet(tmp_path / "a.parquet", label=pa.array([], pa.float64()), features=vectors(0))
    parquet(tmp_path / "b.parquet", label=pa.array([1.0]), features=vectors(1))

    datasets.check_footer(seed(tmp_path))


@pytest.fixture
def folder(spark, tmp_path):
    """A folder of three parquet files with ten rows in total, whose only value is their number."""
    for name, numbers in (("a", range(4)), ("b", range(4, 5)), ("c", range(5, 10))):
        rows = [(float(n % 2), Vectors.sparse(3, [1], [float(n)])) for n in numbers]
        written = tmp_path / f"{name}.dir"
        spark.createDataFrame(rows, ["label", "features"]).coalesce(1).write.parquet(str(written))
        next(written.glob("part-*")).rename(tmp_path / f"{name}.parquet")
        for left in written.iterdir():
            left.unlink()
        written.rmdir()
    return tmp_path


def numbered(spark, settings):
    """Return the rows' numbers with the numbers in their vectors, and the numbered rows."""
    rows = datasets.numbered(spark, settings)
    found = rows.data.orderBy("number").collect()
    return rows, [(row["number"], row["features"].values[0]) for row in found]


def test_rows_are_numbered_in_order_across_files(spark, seed, folder):
    """Rows are numbered by file name, then by position in the file."""
    rows, found = numbered(spark, seed(folder))

    assert found == [(n, float(n)) for n in range(10)]
    assert rows.count == 10


def test_limit_keeps_the_first_rows(spark, seed, folder):
    """A limit keeps the first rows in order."""
    rows, found = numbered(spark, seed(folder, "seed.limit=6"))

    assert found == [(n, float(n)) for n in range(6)]
    assert rows.count == 6


def test_digest_is_of_the_content_not_of_the_names(spark, seed, folder, tmp_path_factory):
    """The digest depends on rows and their order, not on file names."""
    digest = datasets.numbered(spark, seed(folder)).digest
    moved = tmp_path_factory.mktemp("moved")
    for name in "abc":
        (moved / f"x{name}.parquet").write_bytes((folder / f"{name}.parquet").read_bytes())
    swapped = tmp_path_factory.mktemp("swapped")
    for name, other in zip("abc", "cba", strict=True):
        (swapped / f"{name}.parquet").write_bytes((folder / f"{other}.parquet").read_bytes())

    assert datasets.numbered(spark, seed(moved)).digest == digest
    assert datasets.numbered(spark, seed(swapped)).digest != digest
    assert len(digest) == 12


def test_delta_table_is_numbered_too(spark, seed, folder, tmp_path_factory):
    """A folder with a Delta log is read as Delta."""
    table = tmp_path_factory.mktemp("delta") / "t"
    spark.read.parquet(str(folder)).write.format("delta").save(str(table))
    _, found = numbered(spark, seed(table))

    assert [number for number, _ in found] == list(range(10))
    assert sorted(value for _, value in found) == [float(n) for n in range(10)]


def texts(spark, make_config, source, *overrides):
    """Return the keys and parsed values of the messages of a source."""
    config = make_config(f"seed.source={source}", *overrides)
    records = (
        datasets.records(datasets.numbered(spark, config.seed), config, range(config.seed.repeat))
        .orderBy("number")
        .collect()
    )
    for row in records:
        assert [(header["key"], header["value"]) for header in row["headers"]] == [("id", row["key"])]
    return [(bytes(row["key"]).decode(), json.loads(row["value"])) for row in records]


def test_message_is_what_spark_writes(spark, make_config, folder):
    """A message has label and vector under the configured names, in Spark's format."""
    key, value = texts(spark, make_config, folder, "message.features_field=x")[3]

    assert key.split("-")[1] == "3"
    assert value == {"label": 1.0, "x": {"type": 0, "size": 3, "indices": [1], "values": [3.0]}}


def test_repeat_goes_on_with_the_numbers(spark, make_config, folder):
    """Repeated rounds continue the numbering, so that keys are unique."""
    found = texts(spark, make_config, folder, "seed.repeat=3", "seed.limit=4")

    assert [key.split("-")[1] for key, _ in found] == [str(10 * (n // 4) + n % 4) for n in range(12)]
    assert [value["features"]["values"] for _, value in found] == [[float(n % 4)] for n in range(12)]


def test_without_a_label_column_messages_have_no_label(spark, make_config, folder):
    """Without a label column messages have no label."""
    assert "label" not in texts(spark, make_config, folder, "seed.label_column=null")[0][1]


def test_triple_and_dense_forms(spark, make_config, folder):
    """The triple and the dense format are written correctly."""
    triple = texts(spark, make_config, folder, "message.vector_form=triple", "message.features_field=feature")[3][1]
    dense = texts(spark, make_config, folder, "message.vector_form=dense", "seed.label_column=null")[3][1]

    assert triple == {"label": 1.0, "feature": [3, [1], [3.0]]}
    assert dense == {"features": [0.0, 3.0, 0.0]}


@pytest.mark.parametrize("form", ["spark", "triple", "dense"])
def test_vectors_as_text_give_the_same_messages(spark, make_config, folder, tmp_path, form):
    """Vectors printed as text give the same messages as vectors."""
    printed = [(row["label"], str(row["features"])) for row in spark.read.parquet(str(folder)).collect()]
    frame = spark.createDataFrame(printed, ["label", "features1"]).coalesce(1)
    frame.write.parquet(str(tmp_path / "text"))
    overrides = [f"message.vector_form={form}"]
    original = sorted(str(value) for _, value in texts(spark, make_config, folder, *overrides))
    as_text = texts(spark, make_config, tmp_path / "text", "seed.features_column=features1", *overrides)

    assert sorted(str(value) for _, value in as_text) == original
    assert isinstance(SparseVector(3, [1], [1.0]), SparseVector)


@pytest.mark.parametrize(
    "bad",
    [
        *(None, "", "(3,[1],[1.0]", "(3,[a],[1.0])", "1,2,3", "{}", "[]", "(0,[],[])", "[1.0,NaN]", "[1.0,null]"),
        *("(3,[1],[1.0,2.0])", "(3,[1,2],[1.0])", "(3,[0,3],[1.0,2.0])", "(3,[-1],[1.0])", "(3,[1.5],[1.0])"),
        *("(3,[2,1],[1.0,2.0])", "(3,[1,1],[1.0,2.0])", "(3,[null],[1.0])", "(3000000000,[1],[1.0])"),
        *('[1.0,2.0],"indices":[1]', "[1.0],[2.0]", '(3,[0],[1.0],"x":[2.0])', "(3,[1],[Infinity])"),
    ],
)
def test_text_that_is_no_vector_is_named_by_its_row(spark, seed, tmp_path, bad):
    """A text that is not a vector is reported with its row, before any message is sent."""
    spark.createDataFrame([(1.0, "(3,[1],[2.0])"), (0.0, bad)], "label double, features string").coalesce(
        1
    ).write.parquet(str(tmp_path / "text"))

    with pytest.raises(
        InputError,
        match="row 2 of .*: its features, .features., (are absent, or they are not a vector|have a value that)",
    ):
        datasets.numbered(spark, seed(tmp_path / "text"))


@pytest.mark.parametrize(
    ("good", "values"),
    [("(3,[],[])", [0.0, 0.0, 0.0]), (" (3, [0, 2], [1, -2.5e0]) ", [1.0, 0.0, -2.5]), ("[1.0, 0]", [1.0, 0.0])],
)
def test_text_that_is_a_vector_has_its_values(spark, make_config, tmp_path, good, values):
    """Texts with blanks, exponents or no values are parsed."""
    path = parquet(tmp_path / "t.parquet", label=pa.array([None], pa.float64()), features=pa.array([good]))

    assert texts(spark, make_config, path, "message.vector_form=dense") == [(ANY, {"features": values})]


@pytest.mark.parametrize("label", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("fields", [None, "message.fields='n INT'"])
def test_label_that_is_no_number_is_named_by_its_row(spark, make_config, tmp_path, label, fields):
    """A label that JSON cannot represent is reported with its row."""
    columns = {
        "label": pa.array([1.0, None, label]),
        "n": pa.array([1] * 3, pa.int32()),
        "features": pa.array(["(3,[1],[1.0])"] * 3),
    }
    config = make_config(f"seed.source={parquet(tmp_path / 't.parquet', **columns)}", *([fields] if fields else []))

    with pytest.raises(InputError, match="row 3 of .*: its label, .label., is not a finite number"):
        datasets.numbered(spark, config.seed, config.message.columns)


def test_label_may_be_a_decimal(spark, seed, make_config, tmp_path):
    """A decimal label is accepted by the footer check and by Spark."""
    label = pa.array([Decimal("1.00")], pa.decimal128(3, 2))
    path = parquet(tmp_path / "t.parquet", label=label, features=pa.array(["(3,[1],[1.0])"]))
    datasets.check_footer(seed(path))

    assert texts(spark, make_config, path)[0][1]["label"] == 1.0


def test_dense_vectors_are_written_dense(spark, make_config, tmp_path):
    """Dense vectors have the same values in every format."""
    frame = spark.createDataFrame([(1.0, Vectors.dense([0.0, 2.5]))], ["label", "features"])
    frame.write.parquet(str(tmp_path / "dense"))

    assert texts(spark, make_config, tmp_path / "dense")[0][1]["features"] == {"type": 1, "values": [0.0, 2.5]}
    assert texts(spark, make_config, tmp_path / "dense", "message.vector_form=dense")[0][1]["features"] == [0.0, 2.5]
    triple = "message.vector_form=triple"
    assert texts(spark, make_config, tmp_path / "dense", triple)[0][1]["features"] == [
        2, [0, 1], [0.0, 2.5],
    ]  # fmt: skip


RAW = "message.fields='n INT, x DOUBLE, word STRING'"


def test_raw_columns_become_fields_of_the_message(spark, make_config, tmp_path):
    """Raw columns appear in the order of message.fields, with nulls and widened types; others are omitted."""
    path = parquet(
        tmp_path / "t.parquet",
        spare=pa.array([1, 2]),
        word=pa.array(['é"', None]),
        label=pa.array([1.0, None]),
        n=pa.array([3, None], pa.int16()),
        x=pa.array([0.5, None], pa.float32()),
    )
    config = make_config(f"seed.source={path}", RAW)
    datasets.check_footer(config.seed, config.message.columns)
    rows = datasets.numbered(spark, config.seed, config.message.columns)
    values = [
        row["value"] for row in datasets.records(rows, config, range(1)).orderBy("number").select("value").collect()
    ]

    assert values == ['{"label":1.0,"n":3,"x":0.5,"word":"é\\""}', '{"n":null,"x":null,"word":null}']


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (
            {"n": pa.array([1], pa.int64())},
            "the wrong type, bigint, for 'n', which must be one of int, smallint, tinyint",
        ),
        ({"word": pa.array([1])}, "the wrong type, bigint, for 'word', which must be one of string"),
        ({"label": pa.array(["1"])}, "the wrong type, string, for 'label'"),
        ({"x": None}, "no column 'x'"),
    ],
)
def test_raw_columns_that_would_lose_something_are_refused(make_config, tmp_path, columns, problem):
    """A column whose conversion would lose data is refused."""
    good = {
        "label": pa.array([1.0]), "n": pa.array([1], pa.int32()), "x": pa.array([1.0]), "word": pa.array(["a"]),
    }  # fmt: skip
    kept = {name: array for name, array in {**good, **columns}.items() if array is not None}
    config = make_config(f"seed.source={parquet(tmp_path / 't.parquet', **kept)}", RAW)

    with pytest.raises(InputError, match=problem):
        datasets.check_footer(config.seed, config.message.columns)


def test_place_that_spark_cannot_reach_is_told_in_one_line(spark, make_config):
    """The one-line error has Java's reason, such as a missing connector or wrong credentials."""
    with pytest.raises(InputError, match="nosuch://bucket/x: cannot be read as parquet: .*nosuch") as caught:
        datasets.numbered(spark, make_config("seed.source=nosuch://bucket/x").seed)

    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("address", ["dbfs:/Volumes/a/b.parquet", "s3a://bucket/a.parquet"])
def test_address_is_left_to_spark(make_config, address):
    """Remote addresses are left to Spark, also with a single slash."""
    datasets.check_footer(make_config(f"seed.source={address}").seed)
    train_models.check(make_config("train.data=criteo", f"train.path={address}"))


@pytest.mark.parametrize("address", ["/nowhere/a.parquet", "file:/nowhere/a.parquet", "file:///nowhere/a.parquet"])
def test_what_is_not_on_this_machine_is_missed_before_any_jvm_starts(make_config, address):
    """A missing local file is reported before any JVM starts, in every spelling."""
    with pytest.raises(InputError, match=f"{address}: no such file or folder"):
        datasets.check_footer(make_config(f"seed.source={address}").seed)
    with pytest.raises(InputError, match=f"no file at {address}"):
        train_models.check(make_config("train.data=criteo", f"train.path={address}"))


def test_files_of_other_types_than_the_first_are_told_in_one_line(spark, make_config, tmp_path):
    """Files with different types are reported in one line, even if the first footer is valid."""
    for number, label in enumerate((pa.array([1.0]), pa.array(["x"]))):
        parquet(tmp_path / f"{number}.parquet", label=label, features=pa.array(["(1,[],[])"]))
    with pytest.raises(InputError, match=f"{tmp_path}: cannot be read") as caught:
        datasets.numbered(spark, make_config(f"seed.source={tmp_path}").seed)

    assert len(str(caught.value).splitlines()) == 1
