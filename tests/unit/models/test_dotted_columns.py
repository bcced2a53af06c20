"""Columns with a dot in the name, which of Spark's stages only an SQLTransformer can read."""

import json

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression, OneVsRest
from pyspark.ml.feature import (
    Bucketizer,
    OneHotEncoder,
    SQLTransformer,
    StringIndexer,
    VectorAssembler,
)
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import functions as F
from shapes import shape

from streamscore import models
from streamscore.config.fields import parse
from streamscore.errors import ModelError
from streamscore.messages import decoder
from streamscore.scoring.apply import apply_models
from streamscore.scoring.renames import parse as renamed

DDL = "`a.b` DOUBLE, `user.word` STRING, `v.v` ARRAY<DOUBLE>, `odd.``x` DOUBLE, n INT"
NAMES = [field.name for field in parse(DDL)]
STATEMENT = """
    select *, `a.b` AS ab, `user.word` AS word,
        `v.v` AS v, `odd.``x` as odd FROM __THIS__
"""


@pytest.fixture(scope="module")
def data(spark):
    """Sixty labelled rows."""
    rows = [(float(i % 2), i / 7, "abc"[i % 3], [i % 5 / 2, float(i % 2)], i / 3, i) for i in range(60)]
    data = spark.createDataFrame(rows, f"label double, {DDL}").coalesce(1)
    return data.withColumn("v.v", array_to_vector("`v.v`")).persist()


def fitted(data, *stages, last=None):
    """Return a pipeline that gives every column another name first."""
    last = last or LogisticRegression(maxIter=3)
    return Pipeline(stages=[SQLTransformer(statement=STATEMENT), *stages, last]).fit(data)


def assembled(*columns):
    """Return the stage that makes the vector."""
    return VectorAssembler(inputCols=[*columns], outputCol="features")


def load(spark, make_config, folder, *extra, trust="unsigned"):
    """Load one model for messages of the columns."""
    return models.load(
        spark, make_config(f"models=[{{name: lr, uri: '{folder}', trust: {trust}}}]", f"message.fields='{DDL}'", *extra)
    )


def given(data):
    """Return rows as messages: a struct of raw columns, in which a vector is an array."""
    arrays = data.withColumn("v.v", vector_to_array("`v.v`"))
    return arrays.select(
        "label", F.struct(*(F.col(f"`{name.replace('`', '``')}`").alias(name) for name in NAMES)).alias("features")
    )


def test_renamed_columns_are_served_as_spark_scores_them(spark, make_config, data, tmp_path):
    """Prediction and score are the pipeline's own to the last bit; the vector's length is known."""
    model = fitted(
        data,
        StringIndexer(inputCol="word", outputCol="index"),
        OneHotEncoder(inputCols=["index"], outputCols=["word_vector"]),
        Bucketizer(inputCol="ab", outputCol="bucket", splits=[-1.0, 2.0, 4.0, 90.0]),
        assembled("v", "bucket", "odd", "word_vector", "n"),
    )
    model.save(str(tmp_path / "model"))
    (served,) = load(spark, make_config, tmp_path / "model")
    rows = apply_models(given(data), [served]).collect()

    assert [field.name for field in served.fields] == NAMES
    assert served.lengths == {"v.v": 2}
    assert [(row["prediction_lr"], row["score_lr"], row["declined_lr"]) for row in rows] == [
        (row["prediction"], row["probability"][1], None) for row in model.transform(data).collect()
    ]


def test_one_vs_rest_beside_any_name_is_served(spark, make_config, data, tmp_path):
    """PySpark's own stage cannot have such columns beside its vector; without them it gives the same."""
    model = fitted(data, assembled("v", "odd"), last=OneVsRest(classifier=LogisticRegression(maxIter=3)))
    model.save(str(tmp_path / "model"))
    (served,) = load(spark, make_config, tmp_path / "model")
    rows = apply_models(given(data), [served]).collect()
    rename, assembler, last = model.stages
    alone = last.transform(assembler.transform(rename.transform(data)).select("label", "features")).collect()

    assert (served.lengths, [field.name for field in served.fields]) == ({"v.v": 2}, ["v.v", "odd.`x"])
    assert [row["prediction_lr"] for row in rows] == [row["prediction"] for row in alone]


def test_message_with_dots_is_decoded_and_scored(spark, make_config, data, tmp_path):
    """From bytes to outcome, with golden rows; a decline names the message's own field."""
    folder = tmp_path / "signed"
    indexer = StringIndexer(inputCol="word", outputCol="index")
    fitted(data, indexer, assembled("ab", "index", "odd")).save(str(folder))
    good = {"a.b": 1.0, "user.word": "a", "odd.`x": 2.0}
    fields = [field for field in parse(DDL) if field.name in good]
    models.sign(spark, folder, [good, good | {"a.b": -1.0}], {"auc": 0.5}, {}, fields)
    (served,) = load(spark, make_config, folder, trust="manifest")
    decoder.register(spark, "decode_dotted", shape(max_bytes=500, fields=DDL), 1)
    changes = [{}, {"a.b": None}, {"user.word": "new"}, {"odd.`x": None}]
    values = [(at, json.dumps(good | change).encode()) for at, change in enumerate(changes)]
    messages = spark.createDataFrame(values, "at int, value binary").select("at", F.expr("decode_dotted(value) AS d"))
    rows = apply_models(messages.select("at", F.col("d.features").alias("features")), [served]).orderBy("at").collect()

    assert rows[0]["prediction_lr"] in {0.0, 1.0}
    assert [row["declined_lr"] and tuple(row["declined_lr"]) for row in rows] == [
        None,
        ("null_value", "a.b"),
        ("unknown_category", "user.word"),
        ("null_value", "odd.`x"),
    ]


@pytest.mark.parametrize(("name", "shown"), [("a.b", "'a.b'"), ("a`b", "'a`b'")])
def test_stage_that_reads_such_a_name_is_refused(spark, make_config, data, tmp_path, name, shown):
    """The message names the stage, the column and the way out; Spark itself cannot apply the pipeline either."""
    classifier = LogisticRegression(maxIter=1).fit(assembled("n").transform(data))
    model = PipelineModel([assembled(name), classifier])
    model.save(str(tmp_path / "dotted"))
    with pytest.raises(ModelError) as caught:
        load(spark, make_config, tmp_path / "dotted", f"message.fields='`{name.replace('`', '``')}` DOUBLE'")

    assert f"the stage VectorAssembler reads the column {shown}, but" in str(caught.value)
    assert "SQLTransformer(statement='SELECT *, `a.b` AS a_b FROM __THIS__')" in str(caught.value)
    with pytest.raises(Exception, match=r"cannot be resolved|PARSE_SYNTAX_ERROR|Syntax error|syntax error"):
        model.transform(data.withColumn(name, F.lit(1.0))).collect()


def test_vector_with_a_dot_is_refused(spark, make_config, data, tmp_path):
    """A classifier cannot read its vector from such a column."""
    model = LogisticRegression(maxIter=1).fit(data.select("label", F.col("`v.v`").alias("features")))
    model.setFeaturesCol("v.v").save(str(tmp_path / "dotted"))
    listed = f"models=[{{name: lr, uri: '{tmp_path / 'dotted'}', trust: unsigned}}]"

    with pytest.raises(ModelError, match=r"LogisticRegressionModel reads the column 'v\.v', but"):
        models.load(spark, make_config(listed))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM __THIS__",
        "SELECT `a.b` AS ab FROM __THIS__",
        "SELECT *, `a.b` AS ab FROM other",
        "SELECT *, `a.b` AS ab FROM __THIS__ WHERE true",
        "SELECT *, `a.b` AS ab FROM __THIS__, other",
        "SELECT *, `a.b` AS ab FROM __THIS__; DROP TABLE x",
        "SELECT *, `a.b` AS ab, reflect('java.lang.System', 'exit', 1) AS x FROM __THIS__",
        "SELECT *, `a.b` + 1 AS ab FROM __THIS__",
        "SELECT *, a.b AS ab FROM __THIS__",
        "SELECT *, current_user AS u FROM __THIS__",
        "SELECT *, `a.b` AS `c.d` FROM __THIS__",
        "SELECT *, `a.b` AS ab, `c.d` AS AB FROM __THIS__",
        "SELECT *, `a.b``, reflect('x') AS ab FROM __THIS__",
        "SELECT *, `${env:HOME}` AS ab FROM __THIS__",
        "SELECT *, `a__THIS__` AS ab FROM __THIS__",
        "SELECT *, `a.b` AS ab /* x */ FROM __THIS__",
        "SELECT *, `a\n.b` AS ab FROM __THIS__",
        "SELECT *, `` AS ab FROM __THIS__",
        "",
    ],
)
def test_other_statements_are_no_renames(statement):
    """Whatever could be more than another name is not followed."""
    assert renamed(statement) is None


def test_statement_is_read_as_spark_reads_it(spark, data):
    """The columns are those of Spark's own stage, in any layout of the text."""
    made = SQLTransformer(statement=STATEMENT).transform(data)

    assert made.columns[len(data.columns) :] == [name for _, name in renamed(STATEMENT)]
    for read, name in renamed(STATEMENT):
        quoted = read.replace("`", "``")
        assert made.where(~F.col(f"`{quoted}`").eqNullSafe(F.col(name))).count() == 0
    assert renamed("SELECT*,`a.b`AS  ab FROM __THIS__") == (("a.b", "ab"),)
