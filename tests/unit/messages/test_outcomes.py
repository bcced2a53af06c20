"""The output contract, field by field."""

import json
from types import SimpleNamespace

import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)
from shapes import shape

from streamscore import __version__
from streamscore.messages import decoder
from streamscore.messages.decode import DECODER, JSON_TEXT, decode
from streamscore.schema import NOT_KEPT, OUTCOME_FIELDS, OUTCOME_PROPERTIES, REJECTED_PROPERTIES
from streamscore.scoring import evaluate
from streamscore.scoring.evaluate import with_correct
from streamscore.scoring.outcomes import outcomes
from streamscore.scoring.served import ServedModel
from streamscore.sinks import delta, elasticsearch, kafka

LR = ServedModel("lr", "3", None, 2)
SVM = ServedModel("svm", "12", None, 2)

DECLINED = StructType([StructField("reason", StringType()), StructField("name", StringType())])
JUDGED = StructType(
    [
        StructField("event_id", StringType()),
        StructField("event_time", LongType()),
        StructField("key", BinaryType()),
        StructField("label", DoubleType()),
        StructField("reason", StringType()),
        StructField("detail", StringType()),
        StructField("topic", StringType()),
        StructField("partition", IntegerType()),
        StructField("offset", LongType()),
        StructField("value", BinaryType()),
        StructField(
            "headers",
            ArrayType(StructType([StructField("key", StringType()), StructField("value", BinaryType())])),
        ),
        StructField("features", VectorUDT()),
        *(StructField(f"{kind}_{name}", DoubleType()) for name in ("lr", "svm") for kind in ("prediction", "score")),
        *(StructField(f"declined_{name}", DECLINED) for name in ("lr", "svm")),
    ]
)


def event(
    offset=7, key=b"k", label=1.0, reason=None, value=None, headers=None, predictions=(1.0, 0.8, 0.0, -0.4), **how
):
    """Return a scored row."""
    detail = "why" if reason else None
    place = ("ml", 0, offset)
    return (
        f"ml-0-{offset}",
        1000 + offset,
        key,
        label,
        reason,
        detail,
        *place,
        value,
        headers,
        Vectors.dense(1),
        *predictions,
        *how.get("declined", (None, None)),
    )


@pytest.fixture
def judged(spark):
    """Return a function that evaluates scored rows, in a session with the SQL functions of records."""
    decoder.register_text(spark, JSON_TEXT)
    return lambda *rows: with_correct(spark.createDataFrame(list(rows), JUDGED), [LR, SVM])


def all_records(frame):
    """Return the Kafka records of evaluated rows."""
    return kafka.records(frame, [LR, SVM], "predictions", "rejected", max_bytes=10_000)


def records(frame):
    """Return the Kafka records of outcomes as (key, parsed value)."""
    rows = all_records(frame).filter("topic = 'predictions'").collect()
    return [(bytes(row["key"]), json.loads(row["value"])) for row in rows]


def rejected_record(frame):
    """Return the one record of the rejected topic."""
    (row,) = all_records(frame).collect()
    assert row["topic"] == "rejected"
    return row


def test_one_record_per_model_with_the_fields_of_the_contract_in_order(judged):
    """A record has the contract's fields with their types and order."""
    (lr_key, lr), (_, svm) = records(judged(event()))

    assert lr_key == b"k"
    assert list(lr) == list(OUTCOME_FIELDS)
    assert lr == {
        "event_id": "ml-0-7",
        "key": "k",
        "model": "lr",
        "model_version": "3",
        "prediction": 1.0,
        "score": 0.8,
        "label": 1.0,
        "correct": 1,
        "declined": None,
        "declined_column": None,
        "event_time": 1007,
    }
    assert (svm["model"], svm["model_version"], svm["prediction"], svm["correct"]) == ("svm", "12", 0.0, 0)


def test_declined_outcome_has_a_reason_and_a_column_and_nothing_else(judged):
    """A declined event has an outcome in every sink; the other model's is as usual."""
    frame = judged(event(predictions=(None, None, 0.0, -0.4), declined=(("null_value", 'a "b"'), None)))
    (_, lr), (_, svm) = records(frame)
    row = delta.table_rows(outcomes(frame, [LR, SVM])).first()
    document = elasticsearch.documents(outcomes(frame, [LR, SVM]), "ml").first()

    assert {name: lr[name] for name in ("prediction", "score", "label", "correct", "declined", "declined_column")} == {
        "prediction": None,
        "score": None,
        "label": 1.0,
        "correct": None,
        "declined": "null_value",
        "declined_column": 'a "b"',
    }
    assert (svm["correct"], svm["declined"]) == (0, None)
    for found in (row, document):
        assert (found["prediction"], found["declined"], found["declined_column"]) == (None, "null_value", 'a "b"')


def test_without_a_label_correct_is_null_and_is_there(judged):
    """Without a label ``correct`` is present and null."""
    assert [(value["label"], value["correct"]) for _, value in records(judged(event(label=None)))] == [(None, None)] * 2


def test_without_a_key_the_event_id_is_the_record_s_key(judged):
    """Without a key the event id is the key, so that an event's records share a partition."""
    assert [(key, value["key"]) for key, value in records(judged(event(key=None)))] == [(b"ml-0-7", None)] * 2


def test_key_in_the_table_is_text(judged):
    """The Delta table's key is valid UTF-8 text, as in a record's value."""
    rows = outcomes(judged(event(key=b"\xff\x00a")), [LR, SVM])

    assert delta.table_rows(rows).select(F.hex("key")).first()[0] == "\ufffd\0a".encode().hex().upper()


def test_key_of_any_bytes_passes_through(judged):
    """A key of arbitrary bytes is unchanged."""
    assert records(judged(event(key=b"\xff\x00")))[0][0] == b"\xff\x00"


KEYS = [
    b"",
    b"plain",
    b'a "quoted" word, a \\ and a /',
    bytes(range(0x20)),
    b"\x7f\xc2\x80\xe2\x80\xa8",
    "é Ω 中 😀".encode(),
    b"\xff stray, \xed\xa0\x80 surrogate, \xe2\x82 cut off",
]


@pytest.mark.parametrize("key", KEYS)
def test_key_is_written_as_to_json_writes_it(judged, spark, key):
    """The key's JSON equals that of to_json, for any bytes."""
    (row, _) = all_records(judged(event(key=key))).collect()
    frame = spark.createDataFrame([(bytearray(key),)], "key binary")
    expected = frame.selectExpr("to_json(struct('ml-0-7' AS event_id, string(key) AS key))").first()[0]

    assert bytes(row["value"]).split(b',"model":')[0] == expected.encode().removesuffix(b"}")


def test_records_are_made_in_one_compiled_step(judged):
    """Spark compiles the records' plan as one step, which saves 6 % of the job's CPU time."""
    plan = all_records(judged(event()).observe("seen", F.count("*")))._jdf.queryExecution().executedPlan().toString()
    above, _ = plan.split("CollectMetrics")
    steps = [line for line in above.splitlines() if line.strip(" +-:")]

    assert ["*(" in step for step in steps] == [True] * 3, plan


def test_rejected_rows_have_no_outcome(judged):
    """Rejected rows have no outcome."""
    assert records(judged(event(reason="not_json", value=b"x"))) == []


def test_score_survives_json_to_the_last_bit(judged):
    """Scores in JSON are exact to the last bit."""
    score = 0.1 + 0.2

    assert records(judged(event(predictions=(1.0, score, 0.0, -score))))[0][1]["score"] == score


def test_documents_have_the_fields_of_the_mapping_and_an_id(judged):
    """Documents have exactly the fields of the strict mapping, and an id."""
    frame = elasticsearch.documents(outcomes(judged(event()), [LR, SVM]), "it's")

    assert set(frame.columns) == {*OUTCOME_PROPERTIES, "document_id"}
    assert [row["document_id"] for row in frame.collect()] == ["ml-0-7-lr-3", "ml-0-7-svm-12"]
    assert {row["topic"] for row in frame.collect()} == {"it's"}


@pytest.mark.parametrize("version", ["it's", "a\\b", "\\'", "$name"])
def test_version_is_taken_literally(judged, version):
    """A version is text and never part of an SQL expression."""
    odd = ServedModel("lr", version, None, 2)
    (row,) = elasticsearch.documents(outcomes(judged(event()), [odd]), "ml").collect()

    assert row["model_version"] == version


def test_rejected_record_keeps_the_message_and_says_why(judged):
    """A rejected record has the original key, value and headers, followed by ours."""
    own = [("id", b"42"), ("id", None)]
    row = rejected_record(judged(event(reason="not_json", value=b"\xffoops", headers=own)))
    headers = [(header["key"], header["value"] and bytes(header["value"])) for header in row["headers"]]

    assert (bytes(row["key"]), bytes(row["value"])) == (b"k", b"\xffoops")
    assert headers[:2] == own
    assert dict(headers[2:]) == {
        "__connect.errors.topic": b"ml",
        "__connect.errors.partition": b"0",
        "__connect.errors.offset": b"7",
        "__connect.errors.stage": b"DECODE",
        "__connect.errors.exception.message": b"why",
        "reason": b"not_json",
        "event-id": b"ml-0-7",
        "app-version": __version__.encode(),
    }


@pytest.mark.parametrize("part", ["key", "value", "headers"])
def test_of_a_message_that_the_topic_does_not_take_there_are_headers_of_ours(judged, part):
    """For a message above the topic's limit the record has only our headers, with the message's position."""
    rest = {"key": b"k", "value": b"v", "headers": [("id", b"x")]}
    big = {"key": b"k" * 6_000, "value": b"v" * 6_000, "headers": [("id", b"x" * 6_000)]}
    kept, left_out = (
        rejected_record(judged(event(reason="not_json", **{**rest, part: value}))) for value in (rest[part], big[part])
    )

    assert (bytes(kept["key"]), bytes(kept["value"]), len(kept["headers"])) == (b"k", b"v", 9)
    assert (left_out["key"], left_out["value"], len(left_out["headers"])) == (None, None, 8)
    headers = {header["key"]: bytes(header["value"]).decode() for header in left_out["headers"]}
    assert headers["__connect.errors.exception.message"].endswith(NOT_KEPT)
    assert headers["event-id"] == "ml-0-7"


def test_rejected_tombstone_stays_a_tombstone(judged):
    """Null values and null keys are kept."""
    row = rejected_record(judged(event(key=None, reason="tombstone")))

    assert (row["key"], row["value"]) == (None, None)


def test_replay_writes_what_is_not_there(judged):
    """A replay omits exactly the records that the topics already hold."""
    rows = [event(1), event(2, reason="not_json", value=b"x"), event(3), event(4, reason="not_json", value=b"y")]
    found = all_records(judged(*rows))
    names = "concat(topic, ' ', string(value))"
    there = found.filter(f"{names} = 'rejected x' OR {names} LIKE '%ml-0-1%lr%'")
    left = kafka.records_without(found, there, "rejected").selectExpr(f"{names} AS name").collect()

    assert sorted((row["name"].split('"label"')[0]) for row in left) == [
        'predictions {"event_id":"ml-0-1","key":"k","model":"svm","model_version":"12","prediction":0.0,"score":-0.4,',
        'predictions {"event_id":"ml-0-3","key":"k","model":"lr","model_version":"3","prediction":1.0,"score":0.8,',
        'predictions {"event_id":"ml-0-3","key":"k","model":"svm","model_version":"12","prediction":0.0,"score":-0.4,',
        "rejected y",
    ]


def test_rejected_documents_have_the_fields_of_the_mapping(judged):
    """Rejected documents have id and reason, not the content."""
    frame = elasticsearch.rejected_documents(judged(event(reason="not_json", value=b"secret")))

    assert set(frame.columns) == {*REJECTED_PROPERTIES, "document_id"}
    assert "secret" not in str(frame.collect())


def test_events_and_rejected_messages_are_counted(judged):
    """All events and the rejected ones are counted."""
    frame = judged(event(1, label=1.0), event(4, label=None), event(5, label=None, reason="not_json"))

    assert frame.agg(*evaluate.counts()).first().asDict() == {"events": 3, "rejected": 1}


@pytest.mark.parametrize(("share", "expected"), [(1.0, 4_000), (0.1, 400), (0.0, 0)])
def test_share_of_events_is_chosen_by_their_ids(spark, share, expected):
    """The sampled events depend on their ids alone, so that a replay chooses the same."""
    rows = spark.range(4_000).selectExpr("concat('ml-0-', id) AS event_id", "id")
    kept = {row["event_id"] for row in rows.filter(elasticsearch.is_sampled(share)).collect()}
    again = rows.filter("id % 2 = 0").orderBy(F.desc("id")).filter(elasticsearch.is_sampled(share)).collect()

    assert len(kept) == pytest.approx(expected, rel=0.2)
    assert {row["event_id"] for row in again} == {one for one in kept if int(one.rpartition("-")[2]) % 2 == 0}


def test_decode_keeps_the_message_of_a_bad_event_only(spark):
    """Only bad messages keep their bytes."""
    decoder.register(spark, DECODER, shape("dense", max_bytes=99), 2)
    schema = StructType(
        [
            *JUDGED.fields[6:9],
            StructField("timestamp", TimestampType()),
            *(field for field in JUDGED.fields if field.name in {"key", "value", "headers"}),
        ]
    )
    from datetime import datetime, timezone

    when = datetime(2026, 11, 24, tzinfo=timezone.utc)
    rows = [
        ("ml", 0, 1, when, b"k", b'{"label":1,"features":[1,2]}', []),
        ("ml", 0, 2, when, b"k", b"bad", [("id", b"x")]),
        ("ml", 0, 3, when, b"k" * 65_537, b'{"label":1,"features":[1,2]}', []),
    ]
    good, bad, long_key = decode(spark.createDataFrame(rows, schema)).orderBy("event_id").collect()

    assert (good["event_id"], good["label"], good["reason"], good["value"], good["headers"]) == (
        "ml-0-1", 1.0, None, None, None,
    )  # fmt: skip
    assert good["event_time"] == when.timestamp() * 1000
    assert (bad["reason"], bytes(bad["value"]), bad["headers"][0]["key"]) == ("not_json", b"bad", "id")
    assert SimpleNamespace(**good.asDict()).features == Vectors.dense([1, 2])
    assert (long_key["label"], long_key["reason"]) == (None, "too_large")
    assert long_key["detail"] == "the key has 65537 bytes, more than 65536"
    assert (len(long_key["key"]), bytes(long_key["value"])) == (65_537, rows[2][5])
