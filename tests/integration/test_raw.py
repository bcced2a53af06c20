"""Messages with Criteo's raw columns on the real servers get the outcomes of the pipelines alone."""

import json

import pytest
from pyspark.ml import PipelineModel

from streamscore import models, score_stream, seed_topic, train_models
from streamscore.clients import kafka
from streamscore.config.fields import ddl
from streamscore.data import criteo
from streamscore.models import registry

RAW = f"message.fields='{ddl(criteo.FIELDS)}'"
MODELS = "models=[{name: lr, uri: 'models:/raw-lr_raw@champion'}, {name: svm, uri: 'models:/raw-svm_raw@champion'}]"


@pytest.fixture(scope="module")
def trained_raw(spark, make_own, tmp_path_factory):
    """The configuration and the figures of a small training that also registers the joined pipelines."""
    folder = tmp_path_factory.mktemp("raw")
    config = make_own(
        "raw",
        folder,
        *("train.rows=9000", "train.test_rows=2000", "train.raw_models=true", "train.hash_size=1024"),
        *("train.lr.max_iter=5", "train.svm.max_iter=5"),
        *("mlflow.registered_names.lr=raw-lr", "mlflow.registered_names.svm=raw-svm"),
    )
    return config, train_models.run(spark, config)


def expected(spark, config, rows):
    """Return the outcomes of each pipeline alone: (key, model) -> prediction and score."""
    found = {}
    for name in ("lr", "svm"):
        with registry.downloaded(config, registry.resolve(config, f"models:/raw-{name}_raw@champion")) as folder:
            alone = PipelineModel.load(f"{folder}/sparkml").transform(rows)
            column = "probability" if "probability" in alone.columns else "rawPrediction"
            for row in alone.select("key", "prediction", column).collect():
                found[row["key"], name] = (row["prediction"], row[column][1])
    return found


def test_raw_test_set_is_scored_as_the_pipelines_alone_would(spark, own, trained_raw, outcomes, documents):
    """Both sinks have the pipelines' outcomes to the last bit, which are also those of the vectors."""
    settings, figures = trained_raw
    config = own(RAW, MODELS, "stream.available_now=true", f"seed.source={figures['raw_test_set']}")
    seed_topic.check(config)
    sent = seed_topic.run(spark, config)
    score_stream.check(config)
    summary = score_stream.run(spark, config)
    rows = spark.read.parquet(figures["raw_test_set"]).coalesce(1)
    keyed = spark.createDataFrame(
        [(*row, f"{sent['digest']}-{number}") for number, row in enumerate(rows.collect())],
        f"label double, {ddl(criteo.FIELDS)}, key string",
    )
    wanted = expected(spark, settings, keyed)

    assert (summary["events"], summary["scored"], summary["rejected"]) == (2000, 2000, 0)
    for found in (outcomes(config), documents(config).values()):
        assert {(o["key"], o["model"]): (o["prediction"], o["score"]) for o in found} == wanted
        assert len(found) == 4000
    with registry.downloaded(settings, registry.resolve(settings, "models:/raw-lr@champion")) as folder:
        vectors = PipelineModel.load(f"{folder}/sparkml").transform(spark.read.parquet(figures["test_set"])).collect()
    assert [wanted[f"{sent['digest']}-{n}", "lr"] for n in range(2000)] == [
        (row["prediction"], row["probability"][1]) for row in vectors
    ]


def test_unknown_categories_and_nulls_are_scored_and_the_rest_is_rejected(
    spark, own, trained_raw, produce, consume, outcomes
):
    """No stage drops a row with an unknown value: the input equals the scored plus the rejected messages."""
    settings, _ = trained_raw
    config = own(RAW, MODELS, "stream.available_now=true", "stream.max_rejected_share=null")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    full = {field.name: 3 if field.type == "INT" else "68fd1e64" for field in criteo.FIELDS}
    good = [
        full,
        {**full, "C1": "never seen", "C26": ""},
        {**full, **dict.fromkeys(criteo.CATEGORIES, "never seen")},
        {**full, **dict.fromkeys(criteo.INTEGERS)},
        dict.fromkeys(full),
        *({**full, name: None} for name in full),
        {"I1": 1},
        {"C1": None},
        {**full, "I1": -(1 << 31), "I2": (1 << 31) - 1, "C2": "é😀", "unknown": [1]},
    ]
    bad = {
        '{"label":1}': "bad_features",
        json.dumps({**full, "I1": 1.5}): "bad_features",
        json.dumps({**full, "C1": 7}): "bad_features",
        json.dumps({**full, "label": "1"}): "bad_label",
        json.dumps({"features": {"type": 1, "values": [1.0]}}): "bad_features",
        '{"I1":1,"I1":2}': "duplicate_name",
        "": "not_json",
    }
    sent = [(f"g{n}".encode(), json.dumps({"label": n % 2, **row}), []) for n, row in enumerate(good)]
    sent += [(b"b", value, []) for value in bad]
    produce(config.kafka, config.kafka.topics.input, sent)
    score_stream.check(config)
    summary = score_stream.run(spark, config)
    rows = spark.createDataFrame(
        [(*(row.get(field.name) for field in criteo.FIELDS), f"g{number}") for number, row in enumerate(good)],
        f"{ddl(criteo.FIELDS)}, key string",
    )
    rejected = {
        value.decode(): dict(headers) for _, value, headers in consume(config.kafka, config.kafka.topics.rejected)
    }
    found = outcomes(config)

    assert (summary["events"], summary["scored"], summary["rejected"]) == (len(sent), len(good), len(bad))
    assert {(o["key"], o["model"]): (o["prediction"], o["score"]) for o in found} == expected(spark, settings, rows)
    assert len(found) == 2 * len(good)
    assert {value: headers["reason"].decode() for value, headers in rejected.items()} == bad


def test_models_of_the_other_shape_are_refused_before_the_first_batch(spark, make_config, trained_raw):
    """The joined pipelines refuse a vector, the plain classifiers raw columns."""
    from streamscore.errors import ModelError

    with pytest.raises(ModelError, match="but a message has one vector.*set message.fields"):
        models.load(spark, make_config(MODELS))
    with pytest.raises(ModelError, match="reads the columns features, but message.fields has no features"):
        models.load(spark, make_config(MODELS.replace("_raw@", "@"), RAW))
