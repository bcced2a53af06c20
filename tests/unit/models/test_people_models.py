"""Models as people save them are served as they are: tuners, bare classifiers, label indexers, copied folders."""

import bz2
import gzip
import json
import shutil
import zlib
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from folders import changed
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression, OneVsRest, RandomForestClassifier
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import (
    IndexToString,
    MaxAbsScaler,
    OneHotEncoder,
    StringIndexer,
    VectorAssembler,
    VectorSizeHint,
)
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import functions as F

from streamscore import models
from streamscore.config.fields import parse
from streamscore.errors import ModelError
from streamscore.models import gate
from streamscore.models.gate.files import LocalFiles
from streamscore.scoring.apply import apply_models


@pytest.fixture(scope="module")
def data(spark):
    """Labelled vectors: the label as a number, as text, and as numbers of which the more frequent is 1."""
    rows = [
        (float(i % 3 == 0), "rich" if i % 3 == 0 else "poor", float(i % 3 != 0), float(i % 3 == 0) * 2 + 1,
         Vectors.dense([i % 3, i % 5, i % 7]))
        for i in range(90)
    ]  # fmt: skip
    return spark.createDataFrame(rows, ["label", "income", "often", "odd", "features"]).coalesce(1).persist()


def tuned(cls, learner, **how):
    """Return a tuner over two regularisations."""
    grid = ParamGridBuilder().addGrid(learner.regParam, [0.01, 0.1]).build()
    estimator = how.pop("estimator", learner)
    return cls(estimator=estimator, estimatorParamMaps=grid, evaluator=BinaryClassificationEvaluator(), seed=1, **how)


def load(spark, make_config, *folders, trust="unsigned", extra=()):
    """Load models, each named as its folder; by default unsigned."""
    listed = ", ".join(f"{{name: {folder.name}, uri: '{folder}', trust: {trust}}}" for folder in folders)
    return models.load(spark, make_config(f"models=[{listed}]", *extra))


def saved(model, folder):
    """Save a model; return its folder."""
    model.write().overwrite().save(str(folder))
    return folder


def outcomes(served, data):
    """Return predictions and scores of the first model."""
    rows = apply_models(data.select("label", "features"), served[:1]).collect()
    return [(row[served[0].prediction], row[served[0].score]) for row in rows]


def alone(model, data):
    """Return the predictions of a model and the probabilities of class 1."""
    return [(row["prediction"], row["probability"][1]) for row in model.transform(data).collect()]


SERVED = {
    "bare": lambda: LogisticRegression(maxIter=3),
    "forest": lambda: RandomForestClassifier(numTrees=2, seed=1),
    "cross": lambda: tuned(CrossValidator, LogisticRegression(maxIter=3), numFolds=2),
    "split": lambda: tuned(TrainValidationSplit, LogisticRegression(maxIter=3)),
    "cross_of_pipeline": lambda: tuned(
        CrossValidator,
        learner := LogisticRegression(maxIter=3, featuresCol="scaled"),
        estimator=Pipeline(stages=[MaxAbsScaler(inputCol="features", outputCol="scaled"), learner]),
        numFolds=2,
        collectSubModels=True,
    ),
    "cross_in_pipeline": lambda: Pipeline(
        stages=[
            MaxAbsScaler(inputCol="features", outputCol="scaled"),
            tuned(CrossValidator, LogisticRegression(maxIter=3, featuresCol="scaled"), numFolds=2),
        ]
    ),
    "label_indexer": lambda: Pipeline(
        stages=[
            StringIndexer(inputCol="label", outputCol="target"),
            LogisticRegression(maxIter=3, labelCol="target"),
            IndexToString(inputCol="prediction", outputCol="said", labels=["0.0", "1.0"]),
        ]
    ),
}


@pytest.mark.parametrize("name", SERVED)
def test_model_is_served_as_it_was_saved(spark, make_config, data, tmp_path, name):
    """The outcomes are the saved model's own, without a step in between."""
    model = SERVED[name]().fit(data)
    served = load(spark, make_config, saved(model, tmp_path / name))

    assert outcomes(served, data) == alone(model, data)
    assert (served[0].size, served[0].classes, served[0].label_values) == (3, 2, {})


def test_bare_one_vs_rest_is_served(spark, make_config, data, tmp_path):
    """A one-vs-rest alone is a classifier like others."""
    model = OneVsRest(classifier=LogisticRegression(maxIter=3)).fit(data)
    served = load(spark, make_config, saved(model, tmp_path / "ovr"))

    margins = [[row["rawPrediction"][1] for row in one.transform(data).collect()] for one in model.models]
    expected = [float(first < second) for first, second in zip(*margins, strict=True)]

    assert [found for found, _ in outcomes(served, data)] == expected
    assert set(expected) == {0.0, 1.0}


def test_log_says_which_stages_are_left_out(spark, make_config, data, tmp_path, caplog):
    """A stage on the label and one after the classifier are left out, and named."""
    caplog.set_level("INFO", "streamscore")
    load(spark, make_config, saved(SERVED["label_indexer"]().fit(data), tmp_path / "label_indexer"))

    assert (
        "left out, for the prediction does not depend on it: StringIndexerModel (label), IndexToString (pred"
        in caplog.text
    )


def named_classes(data, label, **how):
    """Return a model with a label indexer on another column."""
    indexer = StringIndexer(inputCol=label, outputCol="target", **how)
    return Pipeline(stages=[indexer, LogisticRegression(maxIter=3, labelCol="target")]).fit(data)


def test_label_indexer_supplies_the_label_values(spark, make_config, data, tmp_path):
    """The classes by name are those of the label indexer."""
    (served,) = load(spark, make_config, saved(named_classes(data, "income"), tmp_path / "income"))

    assert served.label_values == {"poor": 0.0, "rich": 1.0}


def test_label_indexers_must_agree(spark, make_config, data, tmp_path):
    """Two models that number the classes differently cannot share a label; the configuration can settle it."""
    one = saved(named_classes(data, "income"), tmp_path / "one")
    other = saved(named_classes(data, "income", stringOrderType="alphabetDesc"), tmp_path / "other")

    with pytest.raises(
        ModelError, match="the label '(poor|rich)' is class . of the model 'one', but class . of the model 'o"
    ):
        load(spark, make_config, one, other)


def test_configuration_numbers_the_texts_of_all_label_indexers(spark, make_config, data, tmp_path):
    """With message.label_values, models whose label indexers disagree predict the same classes."""
    one = saved(named_classes(data, "income"), tmp_path / "one")
    other = saved(named_classes(data, "income", stringOrderType="alphabetDesc"), tmp_path / "other")
    served = load(spark, make_config, one, other, extra=['message.label_values={"poor": 1, "rich": 0}'])
    predictions = [[prediction for prediction, _ in outcomes([model], data)] for model in served]

    assert [model.label_values["poor"] for model in served] == [0.0, 1.0]
    assert predictions[0] == predictions[1]
    assert set(predictions[0]) == {0.0, 1.0}
    agreeing = sum(
        prediction == float(row["income"] == "poor")
        for prediction, row in zip(predictions[0], data.collect(), strict=True)
    )
    assert agreeing > data.count() / 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ('{"poor": 1, "wealthy": 0}', "knows the label 'rich', which message.label_values lacks"),
        ('{"poor": 1, "rich": 2}', "the classes 'poor': 1, 'rich': 2: it must give them 0, 1 and so on"),
    ],
)
def test_label_values_that_do_not_fit_the_label_indexer_are_refused(
    spark, make_config, data, tmp_path, values, message
):
    """The message names the label."""
    model = saved(named_classes(data, "income"), tmp_path / "income")

    with pytest.raises(ModelError, match=message):
        load(spark, make_config, model, extra=[f"message.label_values={values}"])


def test_numbers_that_the_label_indexer_exchanged_are_exchanged_back(spark, make_config, data, tmp_path):
    """The outcome has the label's own number, though the more frequent 1 is the indexer's class 0."""
    model = named_classes(data, "often")
    served = load(spark, make_config, saved(model, tmp_path / "often"))
    found = outcomes(served, data)

    assert model.stages[0].labels == ["1.0", "0.0"]
    assert found == [(1 - row["prediction"], row["probability"][0]) for row in model.transform(data).collect()]


def test_label_indexer_of_other_numbers_is_refused(spark, make_config, data, tmp_path):
    """Numbers that are no classes would be compared with the number of a class."""
    with pytest.raises(ModelError, match="label indexer knows the labels 1.0, 3.0: .* if they are 0, 1 and so on"):
        load(spark, make_config, saved(named_classes(data, "odd"), tmp_path / "odd"))


@pytest.fixture(scope="module")
def forest(data, tmp_path_factory):
    """A saved pipeline with a random forest."""
    stages = [MaxAbsScaler(inputCol="features", outputCol="scaled"), RandomForestClassifier(numTrees=2, seed=1)]
    return saved(Pipeline(stages=stages).fit(data), tmp_path_factory.mktemp("saved") / "forest")


def on_a_mac(folder):
    """Add the files of a Mac beside every file and folder."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            (path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        if path != folder:
            (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7")


def in_an_object_store(folder):
    """Add Hadoop's empty marks of folders."""
    for path in [path for path in folder.rglob("*") if path.is_dir()]:
        (path.parent / f"{path.name}_$folder$").touch()


def on_databricks(folder):
    """Rename the parts as Databricks does, and add its notes."""
    for number, path in enumerate(sorted(folder.rglob("part-*"))):
        name = f"part-00000-tid-82{number}-0a1b2c3d-1111-4222-8333-444455556666-{number}-1-c000"
        path.rename(path.with_name(f"{name}{'.snappy.parquet' if path.suffix == '.parquet' else '.txt'}"))
        (path.parent / f"_committed_82{number}").write_text("{}")
        (path.parent / f"_started_82{number}").touch()


def without_checksums(folder):
    """Delete the checksums, as most copies do."""
    for path in folder.rglob(".*.crc"):
        path.unlink()


def packed(suffix, pack):
    """Return a change that compresses all metadata."""

    def change(folder):
        for path in list(folder.rglob("metadata/part-00000")):
            path.with_name(f"part-00000.{suffix}").write_bytes(pack(path.read_bytes()))
            path.unlink()

    return change


def of_spark_2(folder):
    """Rewrite the trees in the layout of Spark 2.4, which has no rawCount."""
    (stage,) = (folder / "stages").glob("*RandomForest*")
    changed(folder, stage.relative_to(folder), sparkVersion="2.4.5")
    for path in stage.glob("data/*.parquet"):
        table = pq.read_table(path)
        nodes = table.column("nodeData").combine_chunks()
        kept = [field.name for field in nodes.type if field.name != "rawCount"]
        columns = [pc.struct_field(nodes, name) for name in kept]
        schema = table.schema.metadata[b"org.apache.spark.sql.parquet.row.metadata"].decode()
        schema = schema.replace('{"name":"rawCount","type":"long","nullable":false,"metadata":{}},', "")
        assert "rawCount" not in schema
        table = pa.table({"treeID": table.column("treeID"), "nodeData": pa.StructArray.from_arrays(columns, kept)})
        pq.write_table(table.replace_schema_metadata({"org.apache.spark.sql.parquet.row.metadata": schema}), path)


COPIES = {
    "mac": on_a_mac,
    "object_store": in_an_object_store,
    "databricks": on_databricks,
    "gz": packed("gz", gzip.compress),
    "deflate": packed("deflate", zlib.compress),
    "bz2": packed("bz2", bz2.compress),
    "spark_2": of_spark_2,
}


@pytest.mark.parametrize("name", COPIES)
def test_copy_of_a_folder_is_served(spark, make_config, data, forest, tmp_path, name):
    """What a file system, a runtime or an older Spark did to a folder is read or ignored as Spark does."""
    copy = shutil.copytree(forest, tmp_path / "forest")
    without_checksums(copy)
    COPIES[name](copy)
    before, after = load(spark, make_config, forest), load(spark, make_config, copy)

    assert outcomes(after, data) == outcomes(before, data)


@pytest.mark.parametrize("name", ["mac", "object_store"])
def test_marks_of_a_file_system_are_not_in_the_manifest(spark, data, forest, tmp_path, name):
    """A folder with a manifest stays what it is when it is copied; any other added file is refused as before."""
    copy = shutil.copytree(forest, tmp_path / "forest")
    models.sign(spark, copy, [row["features"] for row in data.limit(2).collect()], {}, {})
    COPIES[name](copy)

    assert gate.inspect(LocalFiles(copy)).manifest is not None
    (copy / "stages_$folder$").write_text("not empty")
    with pytest.raises(ModelError, match=r"stages_\$folder\$: this file is not in the manifest"):
        gate.inspect(LocalFiles(copy))


BROKEN = {
    "two streams": (lambda text: gzip.compress(text) * 2, "it cannot be unpacked .it is not one complete stream"),
    "no gzip": (lambda text: text, "it cannot be unpacked"),
    "half a stream": (lambda text: gzip.compress(text)[:-9], "it is not one complete stream"),
    "bomb": (lambda text: gzip.compress(text + b" " * (5 << 20)), "it is longer than 4,194,304 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_compressed_metadata_are_unpacked_strictly(forest, tmp_path, name):
    """Metadata that two readers could unpack differently are refused."""
    pack, reason = BROKEN[name]
    copy = shutil.copytree(forest, tmp_path / "forest")
    packed("gz", pack)(copy)

    with pytest.raises(ModelError, match=f"part-00000.gz: .*{reason}"):
        gate.inspect(LocalFiles(copy), "unsigned")


COLUMNS = "`hours-per-week` FLOAT, `âge` SMALLINT, `a job` STRING, `un.used` DATE, price DECIMAL(8,2), v ARRAY<DOUBLE>"


def mixed(spark, *between):
    """Return rows with a vector beside raw columns of many names and types, and a pipeline on them."""
    rows = [(float(i % 2), i / 3, 20 + i % 9, "abc"[i % 3], Decimal(i) / 4) for i in range(60)]
    schema = "label double, `hours-per-week` float, `âge` smallint, `a job` string, price decimal(8,2)"
    data = spark.createDataFrame(rows, schema).coalesce(1)
    data = data.withColumn("v", array_to_vector(F.array(F.col("label"), F.col("âge").cast("double"))))
    stages = [
        StringIndexer(inputCol="a job", outputCol="job_index"),
        OneHotEncoder(inputCols=["job_index"], outputCols=["job_vector"]),
        *between,
        VectorAssembler(inputCols=["v", "hours-per-week", "âge", "job_vector", "price"], outputCol="features"),
        LogisticRegression(maxIter=3),
    ]
    return data, Pipeline(stages=stages).fit(data)


@pytest.mark.parametrize("hinted", [False, True])
def test_vector_beside_raw_columns_of_any_name_is_served(spark, make_config, tmp_path, hinted):
    """An ARRAY<DOUBLE> is a vector to the pipeline, as long as the classifier's other features leave room for."""
    hints = [VectorSizeHint(inputCol="v", size=2)] if hinted else []
    data, model = mixed(spark, *hints)
    (served,) = load(spark, make_config, saved(model, tmp_path / "mixed"), extra=[f"message.fields='{COLUMNS}'"])
    arrays = data.withColumn("v", vector_to_array("v")).withColumn("un.used", F.lit(None).cast("date"))
    names = ("hours-per-week", "âge", "a job", "un.used", "price", "v")
    features = F.struct(*(F.col(f"`{name}`").alias(name) for name in names))
    rows = apply_models(arrays.select("label", features.alias("features")), [served]).collect()

    assert served.lengths == {"v": 2}
    assert any(isinstance(stage, VectorSizeHint) for stage in served.stages) == hinted
    assert [(row["prediction_mixed"], row["score_mixed"]) for row in rows] == alone(model, data)
    strange = [F.lit(None).cast("array<double>"), F.array(F.lit(1.0))]
    for value, reason in zip(strange, ("null_value", "out_of_range"), strict=True):
        given = arrays.limit(1).withColumn("v", value).select(features.alias("features"))
        assert tuple(apply_models(given, [served]).first()["declined_mixed"]) == (reason, "v")


def test_vector_beside_raw_columns_has_golden_rows(spark, make_config, tmp_path):
    """They are rows of the data as Spark returns them: vectors, decimals and dates too."""
    data, model = mixed(spark)
    folder = saved(model, tmp_path / "mixed")
    examples = [row.asDict() for row in data.withColumn("un.used", F.current_date()).limit(3).collect()]
    path = models.sign(spark, folder, examples, {}, {}, parse(COLUMNS))
    golden = json.loads(path.read_text())["golden"]

    assert [(row["prediction"], row["score"]) for row in golden] == alone(model, data.limit(3))
    assert len(load(spark, make_config, folder, trust="manifest", extra=[f"message.fields='{COLUMNS}'"])) == 1
