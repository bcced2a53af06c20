"""Models on raw columns, with feature stages inside: loading, refusal and application."""

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import FeatureHasher, Imputer, StringIndexer, VectorAssembler
from pyspark.sql import functions as F

from streamscore import models
from streamscore.config.fields import parse
from streamscore.errors import ModelError
from streamscore.models import checks
from streamscore.scoring.apply import apply_models
from streamscore.scoring.served import ServedModel

FIELDS = parse("n INT, x DOUBLE, word STRING, spare STRING")
ROWS = [(float(i % 2), i % 7, i / 9, "abc"[i % 3], None) for i in range(90)]


@pytest.fixture(scope="module")
def data(spark):
    """Ninety labelled rows."""
    return spark.createDataFrame(ROWS, "label double, n int, x double, word string, spare string").coalesce(1).persist()


def stages():
    """Return stages that accept nulls and unknown texts."""
    return [
        Imputer(inputCols=["n", "x"], outputCols=["n_filled", "x_filled"]),
        StringIndexer(inputCol="word", outputCol="token", handleInvalid="keep"),
        FeatureHasher(inputCols=["n_filled", "x_filled", "token"], outputCol="hashed", numFeatures=16),
        LogisticRegression(maxIter=5, featuresCol="hashed"),
    ]


def save(data, folder, stages):
    """Train and save a pipeline of two pipelines; return its folder."""
    features = Pipeline(stages=stages[:-1]).fit(data)
    PipelineModel([features, Pipeline(stages=stages[-1:]).fit(features.transform(data))]).save(str(folder))
    return folder


@pytest.fixture
def folder(spark, data, tmp_path):
    """A signed model on raw columns."""
    folder = save(data, tmp_path / "raw", stages())
    rows = [{"n": 3, "x": 0.5, "word": "a"}, {"n": None, "x": 2.0, "word": "unseen"}, {"word": "b"}]
    models.sign(spark, folder, rows, {"auc": 0.5}, {}, FIELDS)
    return folder


def load(spark, make_config, folder, *extra, fields="n INT, x DOUBLE, word STRING, spare STRING", trust="manifest"):
    """Load one model for messages with raw columns."""
    listed = f"models=[{{name: lr, uri: {folder}, trust: {trust}}}]"
    return models.load(spark, make_config(listed, *([f"message.fields='{fields}'"] if fields else []), *extra))


def test_each_outcome_is_the_pipeline_s_own_to_the_last_bit(spark, make_config, data, folder):
    """Outcomes are equal to the last bit, also with nulls, unknown words and unused columns."""
    (served,) = load(spark, make_config, folder)
    odd = spark.createDataFrame(
        [(None, None, None, "d", "s"), (1.0, None, 0.1, None, None), (0.0, 5, -0.0, "a", "t")], data.schema
    )
    rows = data.union(odd).withColumn("id", F.monotonically_increasing_id())
    names = [field.name for field in FIELDS]
    found = apply_models(rows.select("id", "label", F.struct(*names).alias("features")), [served]).orderBy("id")
    alone = PipelineModel.load(str(folder)).transform(rows).orderBy("id").collect()

    assert [(row["prediction_lr"], row["score_lr"]) for row in found.collect()] == [
        (row["prediction"], row["probability"][1]) for row in alone
    ]
    assert (served.size, [field.name for field in served.fields]) == (3, ["n", "x", "word"])
    assert len(alone) == 93


def test_golden_rows_of_raw_columns_are_compared(spark, make_config, folder):
    """A manifest with other golden rows is refused."""
    text = (folder / "streamscore.json").read_text()
    assert '"fields": "n INT,x DOUBLE,word STRING"' in text
    assert '"word": "unseen"' in text
    (folder / "streamscore.json").write_text(text.replace('"unseen"', '"a"'))

    with pytest.raises(ModelError, match="golden row 1 does not reproduce"):
        load(spark, make_config, folder)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            "n INT, word STRING",
            "reads the columns n, x, word, but message.fields has no x; it has n, word; if one .* is the label",
        ),
        ("n BIGINT, x DOUBLE, word STRING", "trained with the columns n INT,.* but message.fields says n BIGINT"),
        ("", "reads the columns n, x, word, but a message has one vector.*set message.fields"),
    ],
)
def test_messages_that_do_not_suit_a_model_are_named(spark, make_config, folder, fields, reason):
    """The error comes before the first batch and names both columns and messages."""
    with pytest.raises(ModelError, match=reason):
        load(spark, make_config, folder, fields=fields)


def test_model_on_a_vector_does_not_suit_raw_columns(spark, make_config, data, tmp_path):
    """A vector model refuses raw columns, and a raw-column model refuses vectors."""
    assembled = VectorAssembler(inputCols=["n", "x"], outputCol="features").transform(data).select("label", "features")
    Pipeline(stages=[LogisticRegression(maxIter=2)]).fit(assembled).save(str(tmp_path / "lr"))

    with pytest.raises(ModelError, match="reads the columns features, but message.fields has no features"):
        load(spark, make_config, tmp_path / "lr", trust="unsigned")


FRAGILE = {
    "NaN for a null": (
        lambda: [
            VectorAssembler(inputCols=["n", "x"], outputCol="v", handleInvalid="keep"),
            LogisticRegression(maxIter=2, featuresCol="v"),
        ],
        r"of a message with no values it makes .*nan.*, which is no outcome",
    ),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_pipeline_that_a_message_could_stop_is_refused(spark, make_config, data, tmp_path, name):
    """A failure on a missing or extreme value is found before the first batch."""
    pipeline, reason = FRAGILE[name]
    folder = save(data, tmp_path / "fragile", pipeline())
    with pytest.raises(ModelError, match=reason):
        load(spark, make_config, folder, trust="unsigned")


def test_model_that_drops_rows_is_noticed(spark, data, monkeypatch):
    """Dropped rows are detected even if the metadata do not show them."""
    monkeypatch.setattr(checks, "apply_models", lambda data, served: apply_models(data, served).filter("number > 0"))
    model = ServedModel("lr", "1", Pipeline(stages=stages()).fit(data), 3, fields=FIELDS[:3])
    with pytest.raises(ModelError, match="of 2 rows it drops 1"):
        checks.outcomes(spark, model, [{}, {"n": 1}])
