"""Parquet in a model's folder: the classes in its footer, and its unpacked size."""

import contextlib
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import OVR, PARQUET, SCALER, refusal, write_manifest, write_model
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression, OneVsRest, RandomForestClassifier
from pyspark.ml.linalg import Vectors

from streamscore import models
from streamscore.errors import ModelError
from streamscore.models import gate
from streamscore.models.gate import parquet
from streamscore.models.gate.files import LocalFiles
from streamscore.models.gate.remote import HadoopFiles
from streamscore.models.gate.schema import ROW_METADATA

HANDLER = "java.util.logging.FileHandler"
VECTOR = "org.apache.spark.ml.linalg.VectorUDT"


def udt(class_name=HANDLER, **further):
    """Return a user-defined type of a row schema."""
    return {"type": "udt", "class": class_name, "pyClass": None, "sqlType": "double"} | further


def field(data_type, name="value", **further):
    """Return a field of a row schema."""
    return {"name": name, "type": data_type, "nullable": True, "metadata": {}} | further


def row(*fields):
    """Return a row schema."""
    return {"type": "struct", "fields": list(fields)}


def array(data_type):
    """Return the type of a list."""
    return {"type": "array", "elementType": data_type, "containsNull": True}


def write_footer(file, *texts, key=ROW_METADATA):
    """Rewrite a file with one or more values of the footer's row-schema key."""
    table = pq.read_table(file)
    stand_ins = {f"{number}".zfill(len(key)): text for number, text in enumerate(texts)}
    pq.write_table(table.replace_schema_metadata(stand_ins), file)
    content = file.read_bytes()
    for stand_in in stand_ins:
        assert content.count(stand_in.encode()) == 1
        content = content.replace(stand_in.encode(), key.encode())
    file.write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    """A valid model folder."""
    return write_model(tmp_path / "model")


ALLOWED = {
    "plain types": row(field("double"), field("decimal(10,0)"), field("string")),
    "vector": row(field(udt(VECTOR))),
    "matrix in a list": row(
        field(array(udt("org.apache.spark.ml.linalg.MatrixUDT", pyClass="pyspark.ml.linalg.MatrixUDT")))
    ),
    "map": row(field({"type": "map", "keyType": "string", "valueType": row(), "valueContainsNull": False})),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_row_schema_of_spark_ml_passes(folder, name):
    """Row schemas with Spark's own vectors and matrices pass."""
    write_footer(folder / SCALER / "data" / PARQUET, json.dumps(ALLOWED[name]))

    assert gate.inspect(LocalFiles(folder), "unsigned")


FOREIGN = {
    "class": (row(field(udt())), f"the type of 'value' names the class '{HANDLER}', which Spark would construct"),
    "class as the whole row": (udt(), f"the row schema names the class '{HANDLER}'"),
    "class in a list": (row(field(array(udt()))), f"'value' names the class '{HANDLER}'"),
    "class in a struct": (row(field(row(field(udt(), "in")))), f"'value.in' names the class '{HANDLER}'"),
    "class in a map's key": (
        row(field({"type": "map", "keyType": udt(), "valueType": "string", "valueContainsNull": True})),
        f"'value' names the class '{HANDLER}'",
    ),
    "class in a vector's own type": (
        row(field(udt(VECTOR, sqlType=row(field(udt(), "in"))))),
        f"'value.in' names the class '{HANDLER}'",
    ),
    "class in other letters": (row(field(udt(VECTOR.lower()))), f"names the class '{VECTOR.lower()}'"),
    "older class of vectors": (
        row(field(udt("org.apache.spark.mllib.linalg.VectorUDT"))),
        "names the class 'org.apache.spark.mllib.linalg.VectorUDT'",
    ),
    "module of Python's": (row(field(udt(VECTOR, pyClass="evil.Evil"))), "names the class 'evil.Evil'"),
    "pickled class": (
        row(field({"type": "udt", "pyClass": "evil.Evil", "serializedClass": "gAA=", "sqlType": "double"})),
        "'value' has a serializedClass, which is code",
    ),
    "pickled class beside an allowed one": (
        row(field(udt(VECTOR, serializedClass="gAA="))),
        "'value' has a serializedClass",
    ),
    "SQL as a default": (
        row(field("double", metadata={"EXISTS_DEFAULT": "java_method('java.lang.Runtime', 'exit')"})),
        "the field 'value' has metadata, 'EXISTS_DEFAULT'",
    ),
    "unknown type": (row(field("interval")), "the type of 'value' is 'interval', which Spark ML does not write"),
    "unknown kind": (row(field({"type": "object", "class": HANDLER})), "the type of 'value' has the keys 'class'"),
    "field without a name": (row({"type": "double"}), "a field of the row schema is not as Spark writes one"),
    "class without a name": (row(field(udt(["a"]))), "names the class"),
    "bottomless": (json.loads('{"a":' * 900 + "1" + "}" * 900), "the row schema has the keys"),
}
TEXTS = {
    "JSON with a name twice": (
        f'{{"type":"udt","class":"{VECTOR}","class":"{HANDLER}","pyClass":null,"sqlType":"double"}}',
        "the name 'class' stands there twice",
    ),
    "text of Spark 1.2": ("StructType(List(StructField(value,DoubleType,true)))", "the text form of Spark 1.2"),
    "JSON that is none": ("{", "Expecting property name"),
    "JSON without end": ('{"a":' * 100_000, "too deeply nested"),
}


@pytest.mark.parametrize("name", [*FOREIGN, *TEXTS])
def test_row_schema_with_something_foreign_is_refused(folder, name):
    """Another class at any depth and in any stage is refused with file and class, also with a manifest."""
    content, message = FOREIGN.get(name) or TEXTS[name]
    place = f"{OVR}/model_1/data/{PARQUET}"
    write_footer(folder / place, content if isinstance(content, str) else json.dumps(content))

    assert re.match(f"{place}: .*{re.escape(message)}", refusal(folder)), refusal(folder)


def test_row_schema_given_twice_is_refused(folder):
    """A duplicate row schema, of which readers choose differently, is refused."""
    write_footer(folder / SCALER / "data" / PARQUET, json.dumps(row(field("double"))), json.dumps(row(field(udt()))))

    assert f"its footer has the key '{ROW_METADATA}' twice" in refusal(folder)


def replace_in(folder, change):
    """Change the bytes of a parquet file."""
    file = folder / SCALER / "data" / PARQUET
    file.write_bytes(change(file.read_bytes()))


BYTES = {
    "encrypted footer": (lambda b: b[:-4] + b"PARE", "it is not plain parquet"),
    "encrypted from its begin": (lambda b: b"PARE" + b[4:], "it is not plain parquet"),
    "ORC": (lambda b: b"ORC" + b[3:], "it is not plain parquet"),
    "nothing": (lambda _: b"", "it is too short"),
    "cut off": (lambda b: b[: len(b) // 2], "it is not plain parquet"),
    "footer longer than the file": (lambda b: b[:-8] + b"\xff\xff\x0f\0PAR1", "its footer is longer than the file"),
    "huge footer": (lambda b: b[:-8] + b"\xff\xff\xff\xffPAR1", "its footer is longer than 4,194,304 bytes"),
    "second footer": (
        lambda b: b + b[-8 - int.from_bytes(b[-8:-4], "little") :],
        None,  # all readers use the last one, which is equal
    ),
    "rest after the footer": (
        lambda b: b[:-8] + b"\0" + (int.from_bytes(b[-8:-4], "little") + 1).to_bytes(4, "little") + b"PAR1",
        "there are bytes after its footer's end",
    ),
    "noise for a footer": (lambda b: b[:-300] + b"\xee" * 292 + b[-8:], ""),
}


@pytest.mark.parametrize("name", BYTES)
def test_file_that_two_readers_may_read_differently_is_refused(folder, name):
    """Files that two readers could read differently are refused."""
    change, message = BYTES[name]
    replace_in(folder, change)

    if message is None:
        assert gate.inspect(LocalFiles(folder), "unsigned")
    else:
        assert refusal(folder).startswith(f"{SCALER}/data/{PARQUET}: {message}"), refusal(folder)


def test_no_byte_of_a_parquet_file_makes_the_gate_fail(folder):
    """With any changed byte a file passes or is refused, without another error."""
    file = folder / SCALER / "data" / PARQUET
    content = file.read_bytes()
    for place in range(len(content)):
        for value in (0, 0x7F, 0xFF):
            file.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                gate.inspect(LocalFiles(folder), "unsigned")
            except ModelError as error:
                assert PARQUET in str(error)  # noqa: PT017 (both results are allowed)


def write(folder, values, **options):
    """Replace a stage's data by a column."""
    pq.write_table(pa.table({"value": values}), folder / SCALER / "data" / PARQUET, **options)


TOO_MUCH = {
    "numbers from a few bytes": (
        lambda f: write(f, pa.ListArray.from_arrays([0, 8_000_001], np.zeros(8_000_001)), compression="zstd"),
        "the column 'value.list.element' has more than 8,000,000 values",
    ),
    "nulls from a few bytes": (
        lambda f: write(f, pa.ListArray.from_arrays([0, 8_000_001], pa.nulls(8_000_001, pa.int8()))),
        "the column 'value.list.element' has more than 8,000,000 values",
    ),
    "rows": (lambda f: write(f, pa.nulls(2_000_001, pa.bool_())), "the model has more than 2,000,000 rows"),
    "one long text many times": (
        lambda f: write(f, pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["x" * 100_000])),
        "with the column 'value' the model unpacks to more than 268,435,456 bytes",
    ),
    "texts by what they share": (
        lambda f: write(
            f, pa.array(["x" * 1000] * 9), use_dictionary=False, column_encoding={"value": "DELTA_BYTE_ARRAY"}
        ),
        "the column 'value' has the encoding DELTA_BYTE_ARRAY",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_file_that_unpacks_to_too_much_is_refused(folder, name):
    """A small file with a huge unpacked size is refused without being unpacked."""
    write_it, message = TOO_MUCH[name]
    write_it(folder)
    file = folder / SCALER / "data" / PARQUET

    assert file.stat().st_size < 1 << 20
    assert refusal(folder).startswith(f"{SCALER}/data/{PARQUET}: {message}"), refusal(folder)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_BYTES", 1000, "the model has more than 1,000 bytes of parquet"),
        ("MAX_ROWS", 2, "the model has more than 2 rows"),
        ("MAX_UNPACKED_BYTES", 30, "the model unpacks to more than 30 bytes"),
        ("_MAX_ALL_FOOTER_BYTES", 500, "the footers of the model have more than 500 bytes"),
        ("_MAX_PAGES", 3, "the model has more than 3 pages"),
    ],
)
def test_limits_are_those_of_all_files_together(folder, monkeypatch, limit, value, message):
    """The limits apply to the total of all files."""
    monkeypatch.setattr(parquet, limit, value)

    assert message in refusal(folder)


def test_larger_driver_takes_larger_models(folder):
    """The limit is there for the driver's memory, and the message names the setting."""
    write(folder, pa.ListArray.from_arrays([0, 8_000_001], pa.nulls(8_000_001, pa.int8())))

    assert "which is refused with a spark.driver_memory of 2048m" in refusal(folder)
    assert gate.inspect(LocalFiles(folder), "unsigned", memory=4 << 30)


def test_sizes_in_a_footer_are_not_taken_on_trust(folder, monkeypatch):
    """Sizes are read from the page headers, by which readers allocate memory, not from the footer."""
    monkeypatch.setattr(parquet, "MAX_UNPACKED_BYTES", 8150)
    write(folder, pa.array(np.arange(1000.0)), use_dictionary=False, compression="none")
    file = folder / SCALER / "data" / PARQUET
    content = file.read_bytes()
    unpacked = content[7:9]  # after the magic, the page type and the field's number: 8,007 in Thrift
    assert unpacked == b"\x8e\x7d"
    assert gate.inspect(LocalFiles(folder), "unsigned")
    file.write_bytes(content[:7] + b"\xfe\x7f" + content[9:])

    assert "with the column 'value' the model unpacks to more than 8,150 bytes" in refusal(folder)


def test_parquet_on_another_file_system_is_checked(spark, folder):
    """The rules are the same on another file system."""
    place = f"{SCALER}/data/{PARQUET}"
    write_footer(folder / place, json.dumps(row(field(udt()))))

    with pytest.raises(ModelError, match=f"{place}: .*{HANDLER}"):
        gate.inspect(HadoopFiles(spark, f"file:{folder}"), "unsigned")


def test_manifest_does_not_make_a_footer_safe(folder, monkeypatch):
    """A manifest does not allow a hostile footer, because an attacker could write it."""
    place = f"{SCALER}/data/{PARQUET}"
    write_footer(folder / place, json.dumps(row(field(udt()))))
    with monkeypatch.context() as patch:
        patch.setattr("streamscore.models.gate.contents.check", lambda *_: None)
        write_manifest(folder)

    assert HANDLER in refusal(folder, "manifest")


# Canary: the real effect of such a footer on Spark.


@pytest.fixture(scope="module")
def saved(spark, tmp_path_factory):
    """A pipeline saved by Spark, with a forest inside a OneVsRest."""
    rows = [(float(i % 2), Vectors.dense([i % 7, i % 5])) for i in range(40)]
    data = spark.createDataFrame(rows, ["label", "features"]).coalesce(1).persist()
    place = tmp_path_factory.mktemp("saved")
    learners = {
        "linear": LogisticRegression(maxIter=1),
        "forest": RandomForestClassifier(numTrees=1, maxDepth=1),
        "several": OneVsRest(classifier=LogisticRegression(maxIter=1)),
    }
    for name, learner in learners.items():
        Pipeline(stages=[learner]).fit(data).save(str(place / name))
    return place


@pytest.fixture
def handler_home(spark, tmp_path):
    """A folder in which the constructor of Java's file handler creates a file."""
    system = spark._jvm.java.lang.System
    before = system.setProperty("user.home", str(tmp_path))
    yield tmp_path
    system.setProperty("user.home", before)


CANARIES = {
    "class": ("linear", "data", lambda fields: [field(udt(), fields[0]["name"]), *fields[1:]]),
    "class in a list": ("linear", "data", lambda fields: [field(array(udt()), fields[0]["name"]), *fields[1:]]),
    "class of another column": ("linear", "data", lambda fields: [*fields, field(udt(), "more")]),
    "class among a forest's trees": ("forest", "treesMetadata", lambda fields: [*fields, field(udt(), "more")]),
    "class in a OneVsRest": ("several", "model_1/data", lambda fields: [*fields, field(udt(), "more")]),
}


@pytest.mark.parametrize("name", CANARIES)
def test_class_of_a_footer_is_not_constructed(spark, make_config, saved, handler_home, tmp_path, name):
    """The gate prevents the construction that Spark would perform, as the trace shows."""
    kind, inside, change = CANARIES[name]
    folder = shutil.copytree(saved / kind, tmp_path / "model")
    (file,) = folder.glob(f"stages/*/{inside}/part-*.parquet")
    own = json.loads(pq.read_schema(file).metadata[ROW_METADATA.encode()])
    write_footer(file, json.dumps({"type": "struct", "fields": change(own["fields"])}))
    for crc in folder.rglob(".*.crc"):
        crc.unlink()
    config = make_config(f"models=[{{name: lr, uri: {folder}, trust: unsigned}}]")

    with pytest.raises(ModelError, match=f"names the class '{HANDLER}', which Spark would construct"):
        models.load(spark, config)
    with pytest.raises(ModelError, match=HANDLER):
        models.sign(spark, folder, [Vectors.dense(1, 2)], {}, {})
    assert not list(handler_home.glob("java*.log*"))
    with contextlib.suppress(Exception):
        PipelineModel.load(str(folder))
    assert list(handler_home.glob("java*.log*"))


def test_linear_model_of_millions_of_coefficients_leaves_the_one_in_use(spark, make_config, saved, tmp_path):
    """A small file with millions of coefficients is refused before the JVM unpacks it."""
    folder = shutil.copytree(saved / "linear", tmp_path / "model")
    (file,) = folder.glob("stages/*/data/part-*.parquet")
    table = pq.read_table(file)
    size = 8_000_001
    matrix = {"type": 1, "numRows": 1, "numCols": size, "isTransposed": True, "colPtrs": None, "rowIndices": None}
    kind = table.schema.field("coefficientMatrix").type
    values = pa.ListArray.from_arrays(pa.array([0, size], pa.int32()), pa.array(np.ones(size)))
    columns = [
        values.cast(kind.field(at).type) if kind.field(at).name == "values"
        else pa.array([matrix[kind.field(at).name]], kind.field(at).type)
        for at in range(kind.num_fields)
    ]  # fmt: skip
    place = table.schema.get_field_index("coefficientMatrix")
    struct = pa.StructArray.from_arrays(columns, fields=[kind.field(at) for at in range(kind.num_fields)])
    pq.write_table(table.set_column(place, table.schema.field(place), struct), file, store_schema=False)
    for crc in folder.rglob(".*.crc"):
        crc.unlink()

    assert file.stat().st_size < 100_000
    with pytest.raises(ModelError, match="'coefficientMatrix.values.list.element' has more than 8,000,000 values"):
        models.load(spark, make_config(f"models=[{{name: lr, uri: {folder}, trust: unsigned}}]"))
