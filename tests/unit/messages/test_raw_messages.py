"""Messages with raw columns: accepted and rejected messages, with the reasons."""

import pytest
from pyspark.sql import functions as F
from shapes import shape

from streamscore.config.fields import ddl, parse
from streamscore.messages import decoder
from streamscore.schema import REASONS

FIELDS = parse("n INT, big BIGINT, x DOUBLE, yes BOOLEAN, word STRING")

# Value, label, and the columns in order.
ACCEPTED = {
    "every field": (
        '{"label":1,"n":-5,"big":5000000000,"x":0.5,"yes":true,"word":"a"}',
        1.0,
        (-5, 5_000_000_000, 0.5, True, "a"),
    ),
    "fields in any order, label last": ('{"word":"b","n":1,"label":0}', 0.0, (1, None, None, None, "b")),
    "null fields": ('{"n":null,"big":null,"x":null,"yes":null,"word":null}', None, (None,) * 5),
    "one field is enough": ('{"x":1e3}', None, (None, None, 1000.0, None, None)),
    "unknown fields, among them a vector": (
        '{"features":{"type":0},"N":7,"z":[1,{"n":"x"}],"n":2}',
        None,
        (2, None, None, None, None),
    ),
    "the ends of the types": (
        '{"n":-2147483648,"big":9223372036854775807,"x":1.7976931348623157e308,"yes":false,"word":""}',
        None,
        (-(1 << 31), (1 << 63) - 1, 1.7976931348623157e308, False, ""),
    ),
    "whole number as a double": ('{"x":3,"big":1}', None, (None, 1, 3.0, None, None)),
    "text of every plane": ('{"word":"é€😀\\ud83d\\ude00\\n"}', None, (None, None, None, None, "é€😀😀\n")),
}

REJECTED = {
    "no field that is a column": ('{"label":1}', "bad_features", "none of the fields"),
    "an empty object": ("{}", "bad_features", "none of the fields"),
    "a fraction as a whole number": ('{"n":1.0}', "bad_features", "the field n is not of the type INT"),
    "a whole number too large": ('{"n":2147483648}', "bad_features", "the field n is not of the type INT"),
    "a long too large": ('{"big":9223372036854775808}', "bad_features", "the field big is not of the type BIGINT"),
    "text as a number": ('{"x":"1.5"}', "bad_features", "the field x is not of the type DOUBLE"),
    "a number as text": ('{"word":5}', "bad_features", "the field word is not of the type STRING"),
    "a number as a truth value": ('{"yes":1}', "bad_features", "the field yes is not of the type BOOLEAN"),
    "an array": ('{"n":[1]}', "bad_features", "the field n is not of the type INT"),
    "an object": ('{"word":{"a":1}}', "bad_features", "the field word is not of the type STRING"),
    "half of a surrogate pair": ('{"word":"a\\ud83d"}', "bad_features", "the field word is not of the type STRING"),
    "halves in the wrong order": ('{"word":"\\ude00\\ud83d"}', "bad_features", "the field word is not of the type"),
    "a double too large": ('{"x":1e999}', "not_finite", "the field x is not finite"),
    "NaN": ('{"x":NaN}', "not_finite", "the field x is not finite"),
    "NaN as a whole number": ('{"n":NaN}', "not_json", "a number that JSON does not know"),
    "a field twice": ('{"n":1,"n":1}', "duplicate_name", "a name stands twice"),
    "a bad label": ('{"label":"1","n":1}', "bad_label", "the label is not a number"),
    "two documents": ('{"n":1}{"n":1}', "not_json", "something follows"),
    "cut off": ('{"n":1', "not_json", "not complete"),
    "too long": ('{"word":"' + "a" * 1000 + '"}', "too_large", "at most 500"),
    "no value": (None, "tombstone", "no value"),
}


@pytest.fixture(scope="module")
def decoded(spark):
    """All cases, decoded in one job, by name."""
    decoder.register(spark, "decode_raw", shape(max_bytes=500, fields=ddl(FIELDS)), 1)
    values = {name: value and value.encode() for name, (value, *_) in {**ACCEPTED, **REJECTED}.items()}
    rows = spark.createDataFrame(list(values.items()), "name string, value binary")
    return {row["name"]: row["d"] for row in rows.select("name", F.expr("decode_raw(value)").alias("d")).collect()}


@pytest.mark.parametrize("name", ACCEPTED)
def test_good_message_keeps_its_label_and_columns(decoded, name):
    """A good message keeps its label and columns; missing columns are null."""
    _, label, columns = ACCEPTED[name]
    row = decoded[name]

    assert (row["reason"], row["detail"], row["label"]) == (None, None, label)
    assert tuple(row["features"]) == columns


@pytest.mark.parametrize("name", REJECTED)
def test_bad_message_has_a_reason_of_the_list_and_no_values(decoded, name):
    """A bad message has a reason, null columns, and a detail with the field's name but not its content."""
    _, reason, detail = REJECTED[name]
    row = decoded[name]

    assert row["reason"] == reason
    assert row["reason"] in REASONS
    assert detail in row["detail"]
    assert (row["label"], tuple(row["features"])) == (None, (None,) * 5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not a column"),
        ("a INT,", "'' is not a column"),
        ("a", "'a' is not a column"),
        ("a DECIMAL(3)", "is not a column: expected a name and one of the types INT, BIGINT"),
        ("a FLOAT", "'a FLOAT' is not a column"),
        ("a-b INT", "'a-b INT' is not a column"),
        ("a INT NOT NULL", "is not a column"),
        ("a INT, A STRING", "the column 'A' occurs twice"),
    ],
)
def test_columns_that_no_message_can_have_are_refused(text, problem):
    """Invalid columns are refused with the list of types."""
    with pytest.raises(ValueError, match=problem.replace("(", r"\(")):
        parse(text)


def test_columns_are_written_as_spark_writes_them():
    """All of Spark's names of a type are accepted, in any case."""
    assert ddl(parse("a int, `b`: Long,c  STRING , d integer")) == "a INT,b BIGINT,c STRING,d INT"
