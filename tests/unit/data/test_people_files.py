"""Common data sets: Spark reads what the footer check accepts, and the decoder what the seeder accepts."""

import hashlib
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from streamscore.data import datasets
from streamscore.errors import InputError
from streamscore.messages import decoder

COUNT = 40
LABELS = [n % 3 % 2 for n in range(COUNT)]
VECTORS = [[float(n), -1.5, 0.0, n / 7, 0.0, 0.0] for n in range(COUNT)]
PARTS = [
    {"type": 0, "size": 6, "indices": [i for i, v in enumerate(x) if v], "values": [v for v in x if v]} for x in VECTORS
]
TEXTS = [f"(6,{part['indices']},{part['values']})" for part in PARTS]
AGES = [None if n % 7 == 0 else 20.0 + n for n in range(COUNT)]
WORDS = [["private", "gov", "self-emp", None][n % 4] for n in range(COUNT)]
VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)
RAW = "message.fields='age DOUBLE, workclass STRING'"
NAMED = 'message.label_values={"no": 0, "yes": 1, "true": 1, "false": 0}'


def frame(path, **columns):
    """Write a file with pandas."""
    pd.DataFrame({"label": LABELS, **columns}).to_parquet(path)


def table(path, labels=LABELS, **columns):
    """Write a file with Arrow."""
    pq.write_table(pa.table({"label": labels, **columns}), path)


def nanoseconds(path):
    """Write an unused column of times in nanoseconds."""
    times = pd.to_datetime(np.arange(COUNT) * 10**9 + 7, unit="ns")
    pd.DataFrame({"ts": times, "label": LABELS, "features": TEXTS}).to_parquet(path, version="2.6")


def clock(path):
    """Write columns of types that Spark cannot read."""
    table(path, features=TEXTS, t=pa.array([1] * COUNT, pa.time64("ns")), d=pa.array([1] * COUNT, pa.duration("ns")))


def by_label(path, spell=str):
    """Write a folder per label, like Spark and Hive."""
    for value in (0, 1):
        folder = path / f"label={spell(value)}"
        folder.mkdir(parents=True)
        pq.write_table(
            pa.table({"features": [t for t, label in zip(TEXTS, LABELS, strict=True) if label == value]}),
            folder / "part-0.parquet",
        )


def by_day(path):
    """Write a folder per day."""
    for day in (0, 1):
        folder = path / f"day=2024-01-0{day + 1}"
        folder.mkdir(parents=True)
        rows = slice(20 * day, 20 * day + 20)
        table(folder / "part-0.parquet", LABELS[rows], features=TEXTS[rows])
    (path / "_SUCCESS").touch()


def spark_rewritten(path):
    """Write Spark's vectors after a round through pandas: structs without Spark's own type, numbers of 64 bits."""
    columns = pq.read_table(table(path, features=pa.array(PARTS, VECTOR)) or path).to_pandas()
    columns.to_parquet(path)


GOOD = {
    "text": lambda path: frame(path, features=TEXTS),
    "text, dictionary-encoded": lambda path: frame(path, features=pd.Categorical(TEXTS)),
    "large text": lambda path: table(path, features=pa.array(TEXTS, pa.large_string())),
    "nanoseconds": nanoseconds,
    "types that Spark does not read": clock,
    "list of doubles": lambda path: frame(path, features=VECTORS),
    "list of whole numbers": lambda path: frame(path, features=[[int(v) for v in x] for x in VECTORS]),
    "list of floats": lambda path: frame(path, features=[np.array(x, dtype="float32") for x in VECTORS]),
    "list of a fixed size": lambda path: table(path, features=pa.array(VECTORS, pa.list_(pa.float64(), 6))),
    "struct": lambda path: table(path, features=pa.array(PARTS, VECTOR)),
    "struct by pandas": lambda path: frame(path, features=PARTS),
    "struct of Spark, by pandas": spark_rewritten,
    "label in the path": by_label,
    "label in the path, as a double": lambda path: by_label(path, lambda value: f"{value}.0"),
    "day in the path": by_day,
    "label of 8 bits": lambda path: table(path, pa.array(LABELS, pa.int8()), features=TEXTS),
    "label without a sign": lambda path: table(path, pa.array(LABELS, pa.uint64()), features=TEXTS),
    "label as a decimal": lambda path: table(path, [Decimal(n) for n in LABELS], features=TEXTS),
    "label that pandas lacks": lambda path: frame(path, features=TEXTS, label=[float("nan"), *LABELS[1:]]),
    "zstd": lambda path: pq.write_table(pa.table({"label": LABELS, "features": TEXTS}), path, compression="zstd"),
}

GOOD_RAW = {
    "pandas": lambda path: frame(path, age=AGES, workclass=WORDS),
    "category": lambda path: frame(path, age=AGES, workclass=pd.Categorical(WORDS)),
    "NaN in pandas": lambda path: frame(path, age=np.array(AGES, dtype=float), workclass=WORDS),
    "NaN in parquet": lambda path: table(
        path, age=pa.array(np.array(AGES, dtype=float), from_pandas=False), workclass=WORDS
    ),
    "floats": lambda path: table(path, age=pa.array(AGES, pa.float32()), workclass=WORDS),
    "small numbers without a sign": lambda path: table(
        path, age=pa.array([None if a is None else int(a) for a in AGES], pa.uint16()), workclass=WORDS
    ),
}

GOOD_NAMED = {
    "text": lambda path: frame(path, features=TEXTS, label=[("no", "yes")[n] for n in LABELS]),
    "category": lambda path: frame(path, features=TEXTS, label=pd.Categorical([("no", "yes")[n] for n in LABELS])),
    "truth values": lambda path: frame(path, features=TEXTS, label=[bool(n) for n in LABELS]),
    "numbers": lambda path: frame(path, features=TEXTS),
    "in the path": lambda path: by_label(path, lambda value: ("no", "yes")[value]),
}


@pytest.fixture
def round_trip(spark, make_config, tmp_path):
    """Return a function that checks, seeds and decodes a data set, and returns the decoded rows in order."""

    def run(write, *overrides):
        write(tmp_path / "rows")
        config = make_config(f"seed.source={tmp_path / 'rows'}", *overrides)
        shape = config.message
        datasets.check_footer(config.seed, shape.columns, shape.label_values)
        rows = datasets.numbered(spark, config.seed, shape.columns, shape.label_values)
        decoder.register(spark, "decode_seeded", shape, 6)
        records = datasets.records(rows, config, range(1)).select(
            "number", "value", F.expr("decode_seeded(cast(value as binary))").alias("d")
        )
        found = records.orderBy("number").collect()
        assert [row["number"] for row in found] == list(range(COUNT))
        assert [row["d"]["reason"] for row in found] == [None] * COUNT
        return [(row["d"]["label"], row["d"]["features"], json.loads(row["value"])) for row in found]

    return run


def expected(name, rows):
    """Return labels and values of a data set; with a folder per label their order differs."""
    if "path" not in name or "day" in name:
        return rows
    return [row for value in (0, 1) for row in rows if row[0] == value]


@pytest.mark.parametrize("name", GOOD)
def test_vectors_come_through_whole(round_trip, name):
    """Vectors are unchanged from the file through the message to the models."""
    found = round_trip(GOOD[name])
    places = {"list of whole numbers": lambda x: [float(int(v)) for v in x]}
    values = places.get(name, list)
    wanted = expected(name, [(label, values(x)) for label, x in zip(LABELS, VECTORS, strict=True)])

    for (label, features, _), (wanted_label, wanted_values) in zip(found, wanted, strict=True):
        assert features.toArray().tolist() == pytest.approx(wanted_values, rel=1e-7)
        assert label in ((None, wanted_label) if "lacks" in name else (wanted_label,))
    assert [label for label, *_ in found].count(None) == ("lacks" in name)


@pytest.mark.parametrize("name", GOOD_RAW)
def test_raw_columns_come_through_whole(round_trip, name):
    """Raw columns are unchanged, except that NaN, pandas' missing number, becomes null."""
    found = round_trip(GOOD_RAW[name], RAW)

    assert [tuple(features) for _, features, _ in found] == list(zip(AGES, WORDS, strict=True))
    assert [label for label, *_ in found] == LABELS
    assert [value["age"] for *_, value in found] == AGES


@pytest.mark.parametrize("name", GOOD_NAMED)
def test_labels_by_name_become_classes(round_trip, name):
    """Labels by name become the numbers of their classes in the message."""
    found = round_trip(GOOD_NAMED[name], NAMED)
    wanted = [label for label, _ in expected(name, [(label, None) for label in LABELS])]

    assert [label for label, *_ in found] == [value["label"] for *_, value in found] == wanted


@pytest.mark.parametrize("form", ["spark", "triple", "dense"])
def test_envelope_is_written_as_it_is_read(round_trip, form):
    """Seeded messages in an envelope are decoded with the same configuration."""
    envelope = ["message.root=payload.after", f"message.vector_form={form}", "message.label_field=clicked"]
    found = round_trip(GOOD["text"], *envelope)

    assert found[3][2]["payload"]["after"]["clicked"] == found[3][0] == LABELS[3]


def test_envelope_of_raw_columns(round_trip):
    """An envelope of raw columns keeps nulls."""
    found = round_trip(GOOD_RAW["NaN in parquet"], RAW, "message.root=payload")

    assert found[0][2] == {"payload": {"label": 0.0, "age": None, "workclass": "private"}}


def test_remote_or_inferred_types_read_the_same(spark, make_config, tmp_path, monkeypatch):
    """Data sets whose footers cannot be read here give the same rows by Spark's own check."""
    nanoseconds(tmp_path / "rows")
    seed = make_config(f"seed.source={tmp_path / 'rows'}").seed
    digest = datasets.numbered(spark, seed).digest
    monkeypatch.setattr(datasets.footers, "has_footers", lambda _: False)

    assert datasets.numbered(spark, seed).digest == digest


def test_spark_s_vectors_have_the_digest_that_they_always_had(spark, make_config, tmp_path, monkeypatch):
    """The digest of Spark's vectors is stable between releases, so that ``--resume`` works."""
    both = [
        (float(label), Vectors.dense(x) if label else Vectors.sparse(6, part["indices"], part["values"]))
        for label, x, part in zip(LABELS, VECTORS, PARTS, strict=True)
    ]
    spark.createDataFrame(both, ["label", "features"]).coalesce(1).write.parquet(str(tmp_path / "rows"))
    seed = make_config(f"seed.source={tmp_path / 'rows'}").seed
    as_vectors = spark.read.parquet(str(tmp_path / "rows"))
    hashes = as_vectors.select(F.bit_xor(F.xxhash64(F.col("_metadata.row_index"), "label", "features")).alias("hash"))
    wanted = hashlib.sha256(f"{COUNT},{hashes.first()['hash']}".encode()).hexdigest()[:12]

    assert datasets.numbered(spark, seed).digest == wanted
    monkeypatch.setattr(datasets.footers, "has_footers", lambda _: False)
    assert datasets.numbered(spark, seed).digest == wanted


BAD_ROWS = {
    "NaN in a vector": (
        lambda path: table(path, features=pa.array([VECTORS[0], [float("nan")] * 6, *VECTORS[2:]])), (),
        "row 2 of .*: its features, 'features', have a value that is not a finite number",
    ),
    "Infinity in a struct": (
        lambda path: table(
            path, features=pa.array([*PARTS[:39], {**PARTS[1], "values": [1.0, float("-inf"), 2.0]}], VECTOR)
        ), (), "row 40 of .*: its features, 'features', have a value that is not",
    ),
    "null in a list": (
        lambda path: table(path, features=pa.array([VECTORS[0], [None, 1.0], *VECTORS[2:]])), (),
        "row 2 of .*: its features, 'features', have a value that is not",
    ),
    "unsorted indices": (
        lambda path: table(path, features=pa.array([{**PARTS[1], "indices": [3, 1, 0]}, *PARTS[1:]], VECTOR)), (),
        "row 1 of .*: its features, 'features', are absent, or they are not a vector",
    ),
    "an index beyond the size": (
        lambda path: frame(path, features=[{**PARTS[1], "indices": [0, 1, 6]}, *PARTS[1:]]), (),
        "row 1 of .* not a vector",
    ),
    "an index beyond 32 bits": (
        lambda path: frame(path, features=[{**PARTS[1], "indices": [0, 1, (1 << 32) + 2]}, *PARTS[1:]]), (),
        "row 1 of .* not a vector",
    ),
    "an empty list": (lambda path: table(path, features=pa.array([[], *VECTORS[1:]])), (), "row 1 of .* not a vector"),
    "a null": (lambda path: table(path, features=pa.array([*VECTORS[:39], None])), (), "row 40 of .* are absent"),
    "an infinite column": (
        lambda path: frame(path, age=[1.0, float("inf"), *AGES[2:]], workclass=WORDS), (RAW,),
        "row 2 of .*: its column 'age' is infinite",
    ),
    "a label without a class": (
        lambda path: frame(path, features=TEXTS, label=["yes", "no", "maybe", *["no"] * 37]), (NAMED,),
        "row 3 of .*: its label, 'label', is none of the names in message.label_values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_row_that_makes_no_message_is_named_with_its_column(spark, make_config, tmp_path, name):
    """A row that makes no message is reported with its column, before any message is sent."""
    write, overrides, problem = BAD_ROWS[name]
    write(tmp_path / "rows")
    config = make_config(f"seed.source={tmp_path / 'rows'}", *overrides)

    with pytest.raises(InputError, match=problem):
        datasets.numbered(spark, config.seed, config.message.columns, config.message.label_values)


@pytest.mark.parametrize("label", [["1"] * COUNT, [True] * COUNT])
@pytest.mark.parametrize("raw", [True, False])
def test_label_by_name_names_the_setting(make_config, tmp_path, label, raw):
    """Labels by name without a mapping are refused with the setting to use."""
    table(tmp_path / "rows", label, **({"age": AGES, "workclass": WORDS} if raw else {"features": TEXTS}))
    config = make_config(f"seed.source={tmp_path / 'rows'}", *([RAW] if raw else []))

    with pytest.raises(InputError, match="for 'label', which must be a number.* message.label_values says which class"):
        datasets.check_footer(config.seed, config.message.columns)


@pytest.mark.parametrize("needed", [True, False])
def test_codec_that_spark_lacks_is_named_at_once(make_config, tmp_path, needed):
    """A codec that Spark lacks is reported if a needed column uses it."""
    codecs = {"label": "snappy", "features": "brotli" if needed else "zstd", "other": "brotli"}
    columns = pa.table({"label": LABELS, "features": TEXTS, "other": TEXTS})
    pq.write_table(columns, tmp_path / "rows", compression=codecs)
    seed = make_config(f"seed.source={tmp_path / 'rows'}").seed
    if not needed:
        datasets.check_footer(seed)
        return

    with pytest.raises(InputError, match="compressed with BROTLI, which Spark cannot read. Write it again"):
        datasets.check_footer(seed)


def test_files_that_disagree_are_named(make_config, tmp_path):
    """Files with different types are reported with column and types, before any JVM starts."""
    for name, labels in (("a", LABELS), ("b", [str(n) for n in LABELS])):
        table(tmp_path / f"{name}.parquet", labels, features=TEXTS)

    with pytest.raises(InputError, match="column 'label' is string in .*b.parquet, but bigint in .*a.parquet"):
        datasets.check_footer(make_config(f"seed.source={tmp_path}").seed)


def test_unusual_column_names(round_trip):
    """Column names with dots and backticks work."""
    found = round_trip(
        lambda path: pq.write_table(pa.table({"a.b": LABELS, "x`y": TEXTS}), path),
        *("seed.label_column=a.b", "seed.features_column=x`y"),
    )

    assert [label for label, *_ in found] == LABELS
