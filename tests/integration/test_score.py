"""score_stream on the real broker and the real Elasticsearch."""

import json
import math

import oracle
import pytest
from pyspark.ml import PipelineModel

from streamscore import score_stream, seed_topic
from streamscore.clients import elasticsearch, kafka, kafka_settings
from streamscore.errors import ModelError, RefusedError, ServerError, StreamError
from streamscore.models import registry
from streamscore.sinks.elasticsearch import OutcomeDocuments
from streamscore.sinks.topics import write_topic


def seed(spark, config, source):
    """Send a data set and return the summary."""
    config = config.model_copy(update={"seed": config.seed.model_copy(update={"source": str(source)})})
    seed_topic.check(config)
    return seed_topic.run(spark, config)


def score(spark, config):
    """Score the topic and return the summary."""
    score_stream.check(config)
    return score_stream.run(spark, config)


@pytest.fixture(scope="session")
def article_model(spark, tmp_path_factory):
    """A PipelineModel on vectors of 110 features, in a plain folder."""
    import random

    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import Vectors

    generator = random.Random(1)
    rows = [
        (
            float(generator.random() < 0.5),
            Vectors.sparse(110, sorted((i, generator.random()) for i in generator.sample(range(110), 15))),
        )
        for _ in range(300)
    ]
    folder = tmp_path_factory.mktemp("article") / "lr"
    Pipeline(stages=[LogisticRegression(maxIter=5)]).fit(spark.createDataFrame(rows, ["label", "features"])).save(
        str(folder)
    )
    return folder


def test_every_prediction_in_both_sinks_is_transform_s_to_the_last_bit(spark, own, trained, outcomes, documents):
    """20,000 rows and two models: equal predictions and scores, right `correct`, no loss, no duplicate."""
    settings, figures = trained
    config = own("stream.available_now=true", "stream.max_events_per_batch=7000")
    seeded = seed(spark, config, figures["test_set"])
    summary = score(spark, config)

    rows = spark.read.parquet(figures["test_set"])
    expected = {}
    for model in settings.models:
        with registry.downloaded(settings, registry.resolve(settings, model.uri)) as folder:
            alone = PipelineModel.load(f"{folder}/sparkml").transform(rows)
        column = "probability" if "probability" in alone.columns else "rawPrediction"
        for number, row in enumerate(alone.select("label", "prediction", column).collect()):
            key = f"{seeded['digest']}-{number}"
            expected[key, model.name] = (
                row["prediction"],
                row[column][1],
                row["label"],
                int(row["prediction"] == row["label"]),
            )
    in_kafka = outcomes(config)
    in_index = documents(config).values()

    assert seeded["sent"] == summary["events"] == summary["scored"] == 20_000
    for found in (in_kafka, in_index):
        assert len(found) == 40_000
        got = {(o["key"], o["model"]): (o["prediction"], o["score"], o["label"], o["correct"]) for o in found}
        assert got == expected
    for name, model in summary["models"].items():
        assert model["correct"] == sum(correct for (_, of), (*_, correct) in expected.items() if of == name)


def test_replayed_batches_leave_no_double_document(spark, own, trained, documents):
    """After a lost checkpoint is accepted, all events are scored again under the same ids."""
    import shutil

    _, figures = trained
    config = own("stream.available_now=true", "seed.limit=500")
    seed(spark, config, figures["test_set"])
    score(spark, config)
    before = documents(config)
    shutil.rmtree(config.stream.checkpoint)
    accepted = config.stream.model_copy(update={"new_checkpoint": True})
    score(spark, config.model_copy(update={"stream": accepted}))

    assert len(before) == 1000
    assert documents(config) == before


@pytest.fixture
def proxy_of_the_jvm(spark):
    """A JVM proxy for the internet, as often in JAVA_TOOL_OPTIONS, at an address without a server."""
    java = spark._jvm.System
    properties = {"http.proxyHost": "127.0.0.1", "http.proxyPort": "1", "http.nonProxyHosts": "localhost|127.*"}
    for name, value in properties.items():
        java.setProperty(name, value)
    yield
    for name in properties:
        java.clearProperty(name)


def test_documents_take_no_way_round(spark, own, small_models, produce, proxy_of_the_jvm):
    """The connector ignores the JVM's proxy, which it would otherwise use even for this machine."""
    config = own("stream.available_now=true", "elasticsearch.retry_seconds=0", oracle.listed(small_models))
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, ["{}"])
    score_stream.check(config)

    assert score_stream.run(spark, config)["events"] == 1


def test_producer_can_be_tuned(spark, own, consume):
    """`kafka.options` override our own producer settings."""
    config = own("kafka.options={linger.ms: 5, batch.size: 16384}")
    kafka.ensure(config.kafka, config.kafka.topics.predictions)
    records = spark.createDataFrame([(config.kafka.topics.predictions, "v")], "topic string, value string")
    write_topic(records, config.kafka)

    assert consume(config.kafka, config.kafka.topics.predictions) == [(None, b"v", [])]


def test_second_run_scores_only_what_is_new(spark, own, trained, outcomes):
    """The checkpoint keeps the offsets between runs."""
    _, figures = trained
    config = own("stream.available_now=true", "seed.limit=300")
    seed(spark, config, figures["test_set"])
    score(spark, config)
    seed(spark, config, figures["test_set"])

    assert score(spark, config)["events"] == 300
    assert len(outcomes(config)) == 1200


def test_stream_continues_into_a_new_index_which_another_topic_s_stream_may_share(
    spark, own, small_models, produce, documents
):
    """A stream can change its index on the same checkpoint, and two streams can share all outputs."""
    config = own("stream.available_now=true", oracle.listed(small_models))
    settings = config.elasticsearch.model_copy(update={"index": f"{config.elasticsearch.index}-next"})
    later = config.model_copy(update={"elasticsearch": settings})
    named = config.kafka.topics.model_copy(update={"input": f"{config.kafka.topics.input}.other"})
    beside = later.model_copy(
        update={
            "kafka": config.kafka.model_copy(update={"topics": named}),
            "stream": config.stream.model_copy(update={"checkpoint": f"{config.stream.checkpoint}-other"}),
        }
    )
    vector = {"type": 1, "values": [1.0] * oracle.SIZE}
    for each in (config, later, beside):
        kafka.ensure(each.kafka, each.kafka.topics.input)
        produce(each.kafka, each.kafka.topics.input, [json.dumps({"features": vector})] * 10)
        assert score(spark, each)["scored"] == 10

    assert len(documents(config)) == 20
    assert len(documents(later)) == 40


def test_margin_that_is_not_finite_stops_nothing(spark, own, small_models, produce, outcomes, documents):
    """A margin that overflows is text in Kafka's JSON, and omitted in the index."""
    config = own("stream.available_now=true", oracle.listed(small_models))
    weights = PipelineModel.load(small_models["svm"]).stages[-1].coefficients.toArray()
    values = [math.copysign(1.7e308, weight) for weight in weights]
    kafka.ensure(config.kafka, config.kafka.topics.input)
    for sign in (1, -1):
        vector = {"type": 1, "values": [sign * value for value in values]}
        produce(config.kafka, config.kafka.topics.input, [json.dumps({"label": 1.0, "features": vector})])

    assert score(spark, config)["scored"] == 2
    margins = {outcome["score"]: outcome["prediction"] for outcome in outcomes(config) if outcome["model"] == "svm"}
    assert margins == {"Infinity": 1.0, "-Infinity": 0.0}
    assert [one.get("score") for one in documents(config).values() if one["model"] == "svm"] == [None, None]


def test_the_original_message_form_needs_only_configuration(spark, own, article_model, produce, outcomes):
    """The original producer's {"label":0,"feature":[110,[…],[…]]} is scored."""
    config = own(
        "stream.available_now=true",
        "message.features_field=feature",
        "message.vector_form=triple",
        f"models=[{{name: lr, uri: {article_model}, trust: unsigned}}]",
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, ['{"label":0,"feature":[110,[8,9],[12.0,16.0]]}'])
    score(spark, config)
    (outcome,) = outcomes(config)

    assert (outcome["model"], outcome["label"]) == ("lr", 0.0)
    assert outcome["correct"] == int(outcome["prediction"] == 0.0)
    assert len(outcome["model_version"]) == 12


def test_bad_messages_go_to_the_rejected_topic_and_stop_nothing(
    spark, own, article_model, produce, consume, outcomes, documents
):
    """The records have the original bytes, key and headers with the reason; the good messages are scored."""
    config = own("stream.available_now=true", f"models=[{{name: lr, uri: {article_model}, trust: unsigned}}]")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    good = '{"features":{"type":0,"size":110,"indices":[1],"values":[1.0]}}'
    bad = {
        b"not json": "not_json",
        b'{"label":1}': "bad_features",
        b'{"features":{"type":0,"size":111,"indices":[1],"values":[1.0]}}': "wrong_size",
        b'{"features":{"type":0,"size":110,"indices":[1],"values":[NaN]}}': "not_finite",
        b"\xff": "not_utf8",
        None: "tombstone",
    }
    sent = [good, *((b"k", value, [("origin", b"x")]) for value in bad), good]
    produce(config.kafka, config.kafka.topics.input, sent)
    summary = score(spark, config)
    rejected = consume(config.kafka, config.kafka.topics.rejected)
    in_index = documents(config, config.elasticsearch.rejected_index)

    assert (summary["events"], summary["scored"], summary["rejected"]) == (8, 2, 6)
    assert {value: dict(headers)["reason"].decode() for _, value, headers in rejected} == bad
    assert all(key == b"k" and headers[0] == ("origin", b"x") for key, _, headers in rejected)
    assert sorted(document["reason"] for document in in_index.values()) == sorted(bad.values())
    assert len(outcomes(config)) == 2
    assert all(outcome["correct"] is None for outcome in outcomes(config))


def test_status_of_each_batch_is_in_the_index(spark, own, trained):
    """The status documents have rate, lag and versions for the live page."""
    _, figures = trained
    config = own(
        "stream.available_now=true", "seed.limit=1000", "stream.max_events_per_batch=400", "stream.synthetic=true"
    )
    seed(spark, config, figures["test_set"])
    score(spark, config)
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.refresh(index=config.elasticsearch.status_index)
        hits = client.search(index=config.elasticsearch.status_index, sort="batch", size=10)["hits"]["hits"]
    statuses = [hit["_source"] for hit in hits]

    assert sum(status["events"] for status in statuses) == 1000
    assert [status["lag"] for status in statuses][-1] == 0
    assert all(status["synthetic"] for status in statuses)
    assert {name.split(":")[0] for status in statuses for name in status["models"]} == {"lr", "svm"}


def test_elasticsearch_can_be_left_out(spark, own, article_model, produce, outcomes):
    """With Kafka as the only sink no request goes to Elasticsearch."""
    config = own(
        "stream.available_now=true",
        "elasticsearch.enabled=false",
        "elasticsearch.url=http://127.0.0.1:1",
        f"models=[{{name: lr, uri: {article_model}, trust: unsigned}}]",
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, ['{"features":{"type":1,"values":[' + ",".join("1" * 110) + "]}}"])
    score(spark, config)

    assert len(outcomes(config)) == 1


def test_only_what_a_transaction_has_committed_is_scored(spark, own, article_model, outcomes):
    """Aborted records and transaction markers are not scored."""
    from confluent_kafka import Producer

    config = own("stream.available_now=true", f"models=[{{name: lr, uri: {article_model}, trust: unsigned}}]")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    settings = kafka_settings.client_settings(config.kafka)
    producer = Producer({**settings, "transactional.id": config.kafka.topics.input, "acks": "all"})
    producer.init_transactions(30)
    for number, end in enumerate(
        (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)
    ):
        producer.begin_transaction()
        for _ in range(3):
            producer.produce(
                config.kafka.topics.input, '{"features":{"type":0,"size":110,"indices":[],"values":[]}}', str(number)
            )
        producer.flush(30)
        end(30)
    summary = score(spark, config)

    assert (summary["events"], summary["lag"]) == (6, 0)
    assert sorted(one["key"] for one in outcomes(config)) == ["0"] * 3 + ["2"] * 3


def test_missing_topic_lists_those_that_exist(own):
    """The error comes before any JVM starts."""
    config = own("kafka.topics.input=absent")

    with pytest.raises(
        ServerError, match="the topic 'absent' does not exist at .*ACL Describe.*; there are: .*streamscore seed"
    ):
        score_stream.check(config)


def test_index_with_another_mapping_is_refused(own):
    """The start is refused, because documents would be rejected for ever."""
    config = own()
    kafka.ensure(config.kafka, config.kafka.topics.input)
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.create(
            index=config.elasticsearch.index, mappings={"properties": {"prediction": {"type": "keyword"}}}
        )

    with pytest.raises(
        ServerError, match="prediction is keyword, expected double; .*correct is missing, expected byte"
    ):
        score_stream.check(config)


def test_model_of_another_size_is_refused_before_the_stream_starts(spark, own, article_model):
    """A model that does not fit message.size is refused."""
    config = own(f"models=[{{name: lr, uri: {article_model}, trust: unsigned}}]", "message.size=111")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    score_stream.check(config)

    with pytest.raises(ModelError, match="110 features, but message.size says 111"):
        score_stream.run(spark, config)


def test_failed_sink_fails_the_batch_and_names_the_sink(spark, own, article_model, produce, outcomes, monkeypatch):
    """While the index is closed nothing is committed; after the repair nothing is missing."""
    write = OutcomeDocuments.write
    config = own("stream.available_now=true", f"models=[{{name: lr, uri: {article_model}, trust: unsigned}}]")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(
        config.kafka, config.kafka.topics.input, ['{"features":{"type":0,"size":110,"indices":[],"values":[]}}'] * 10
    )
    score_stream.check(config)
    with elasticsearch.client(config.elasticsearch) as client, monkeypatch.context() as closing:

        def close_and_write(*given):
            client.indices.close(index=config.elasticsearch.index)
            write(*given)

        closing.setattr(OutcomeDocuments, "write", close_and_write)
        with pytest.raises(StreamError, match="(?s)stopped while writing to Elasticsearch at .*will be replayed"):
            score_stream.run(spark, config)
        with pytest.raises(RefusedError, match=f"the index '{config.elasticsearch.index}' at .* is closed: open it"):
            score_stream.run(spark, config)
        client.indices.open(index=config.elasticsearch.index)

    assert outcomes(config) == []
    assert score_stream.run(spark, config)["events"] == 10
    assert elasticsearch.count(config.elasticsearch) == len(outcomes(config)) == 10
