"""Columns to messages: the output contract, field by field."""

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
    ]
)


def event(offset=7, key=b"k", label=1.0, reason=None, value=None, headers=None, predictions=(1.0, 0.8, 0.0, -0.4)):
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
    )


@pytest.fixture
def judged(spark):
    """Return a function that judges scored rows, in a session that can make records of them."""
    decoder.register_text(spark, JSON_TEXT)
    return lambda *rows: with_correct(spark.createDataFrame(list(rows), JUDGED), [LR, SVM])


def all_records(frame):
    """Return the Kafka records of judged rows."""
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
    """Names, types and order are what consumers rely on."""
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
        "event_time": 1007,
    }
    assert (svm["model"], svm["model_version"], svm["prediction"], svm["correct"]) == ("svm", "12", 0.0, 0)


def test_without_a_label_correct_is_null_and_is_there(judged):
    """A consumer finds the field, empty."""
    assert [(value["label"], value["correct"]) for _, value in records(judged(event(label=None)))] == [(None, None)] * 2


def test_without_a_key_the_event_id_is_the_record_s_key(judged):
    """So that the two records of an event stay in one partition."""
    assert [(key, value["key"]) for key, value in records(judged(event(key=None)))] == [(b"ml-0-7", None)] * 2


def test_key_in_the_table_is_text(judged):
    """As in a record's value: readers of a table other than Spark fail on what is not UTF-8."""
    rows = outcomes(judged(event(key=b"\xff\x00a")), [LR, SVM])

    assert delta.table_rows(rows).select(F.hex("key")).first()[0] == "\ufffd\0a".encode().hex().upper()


def test_key_of_any_bytes_passes_through(judged):
    """A key need not be text."""
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
    """Whatever the bytes are, to the byte."""
    (row, _) = all_records(judged(event(key=key))).collect()
    frame = spark.createDataFrame([(bytearray(key),)], "key binary")
    expected = frame.selectExpr("to_json(struct('ml-0-7' AS event_id, string(key) AS key))").first()[0]

    assert bytes(row["value"]).split(b',"model":')[0] == expected.encode().removesuffix(b"}")


def test_records_are_made_in_one_compiled_step(judged):
    """A step with a function that Spark cannot compile stands alone, which costs 6 % of the job's CPU time."""
    plan = all_records(judged(event()).observe("seen", F.count("*")))._jdf.queryExecution().executedPlan().toString()
    above, _ = plan.split("CollectMetrics")
    steps = [line for line in above.splitlines() if line.strip(" +-:")]

    assert ["*(" in step for step in steps] == [True] * 3, plan


def test_rejected_rows_have_no_outcome(judged):
    """The zero vector's prediction goes nowhere."""
    assert records(judged(event(reason="not_json", value=b"x"))) == []


def test_score_survives_json_to_the_last_bit(judged):
    """What is in Kafka is what the model said."""
    score = 0.1 + 0.2

    assert records(judged(event(predictions=(1.0, score, 0.0, -score))))[0][1]["score"] == score


def test_documents_have_the_fields_of_the_mapping_and_an_id(judged):
    """The strict mapping refuses any other field."""
    frame = elasticsearch.documents(outcomes(judged(event()), [LR, SVM]), "it's")

    assert set(frame.columns) == {*OUTCOME_PROPERTIES, "document_id"}
    assert [row["document_id"] for row in frame.collect()] == ["ml-0-7-lr-3", "ml-0-7-svm-12"]
    assert {row["topic"] for row in frame.collect()} == {"it's"}


@pytest.mark.parametrize("version", ["it's", "a\\b", "\\'", "$name"])
def test_version_is_taken_literally(judged, version):
    """Whatever a registry calls it, it is text and no part of an expression."""
    odd = ServedModel("lr", version, None, 2)
    (row,) = elasticsearch.documents(outcomes(judged(event()), [odd]), "ml").collect()

    assert row["model_version"] == version


def test_rejected_record_keeps_the_message_and_says_why(judged):
    """Key, value and headers stay as they were; ours are added behind."""
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
    """Which it is and where, so that it can be had there."""
    rest = {"key": b"k", "value": b"v", "headers": [("id", b"x")]}
    big = {"key": b"k" * 6_000, "value": b"v" * 6_000, "headers": [("id", b"x" * 6_000)]}
    kept, left_out = (
        rejected_record(judged(event(reason="not_json", **{**rest, part: value}))) for value in (rest[part], big[part])
    )

    assert (bytes(kept["key"]), bytes(kept["value"]), len(kept["headers"])) == (b"k", b"v", 9)
    assert (left_out["key"], left_out["value"], len(left_out["headers"])) == (None, None, 8)
    told = {header["key"]: bytes(header["value"]).decode() for header in left_out["headers"]}
    assert told["__connect.errors.exception.message"].endswith(NOT_KEPT)
    assert told["event-id"] == "ml-0-7"


def test_rejected_tombstone_stays_a_tombstone(judged):
    """A null value is kept as null, and a null key too."""
    row = rejected_record(judged(event(key=None, reason="tombstone")))

    assert (row["key"], row["value"]) == (None, None)


def test_replay_writes_what_is_not_there(judged):
    """Of each topic, what was read back is left out: the very record, not its neighbour of another model."""
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
    """Which and why, not the content."""
    frame = elasticsearch.rejected_documents(judged(event(reason="not_json", value=b"secret")))

    assert set(frame.columns) == {*REJECTED_PROPERTIES, "document_id"}
    assert "secret" not in str(frame.collect())


def test_events_and_rejected_messages_are_counted(judged):
    """Good and bad, with and without a label."""
    frame = judged(event(1, label=1.0), event(4, label=None), event(5, label=None, reason="not_json"))

    assert frame.agg(*evaluate.counts()).first().asDict() == {"events": 3, "rejected": 1}


@pytest.mark.parametrize(("share", "expected"), [(1.0, 4_000), (0.1, 400), (0.0, 0)])
def test_share_of_events_is_chosen_by_their_ids(spark, share, expected):
    """The same ones at a replay, in whatever order and with whatever else."""
    rows = spark.range(4_000).selectExpr("concat('ml-0-', id) AS event_id", "id")
    kept = {row["event_id"] for row in elasticsearch.with_share(rows, share).collect()}
    again = elasticsearch.with_share(rows.filter("id % 2 = 0").orderBy(F.desc("id")), share).collect()

    assert len(kept) == pytest.approx(expected, rel=0.2)
    assert {row["event_id"] for row in again} == {one for one in kept if int(one.rpartition("-")[2]) % 2 == 0}


def test_decode_keeps_the_message_of_a_bad_event_only(spark):
    """A good message's bytes do not travel to the sinks."""
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
