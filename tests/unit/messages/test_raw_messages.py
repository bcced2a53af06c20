"""Messages with raw columns: accepted and rejected messages, with the reasons."""

from datetime import date, datetime
from decimal import Decimal

import pytest
from pyspark.sql import functions as F
from shapes import shape

from streamscore.config.fields import ddl, parse, quoted
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
        ("a MAP", "is not a column: expected a name, in backticks if"),
        ("a VARCHAR(3)", "is not a column: .* and one of the types INT, BIGINT, SMALLINT"),
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


TYPED = parse(
    "`hours-per-week` FLOAT, `hours.week` SMALLINT, `âge` TINYINT, `a ``b` DECIMAL(5, 2), d DATE, t TIMESTAMP, "
    "v ARRAY<DOUBLE>"
)
TYPED_VALUES = {
    "all": (
        (
            '{"hours-per-week":0.5,"hours.week":-32768,"âge":127,"a `b":-123.4,"d":"2026-01-31",'
            '"t":"2026-01-31T12:00:00.5+01:00","v":[1,2.5,-1e300]}'
        ),
        (0.5, -32768, 127, Decimal("-123.40"), date(2026, 1, 31), "2026-01-31 11:00:00.5", [1.0, 2.5, -1e300]),
    ),
    "nulls": ('{"v":null,"d":null,"t":null,"a `b":null,"âge":null}', (None,) * 7),
    "no numbers in a vector": ('{"v":[]}', (*(None,) * 6, [])),
    "a short too large": ('{"hours.week":32768}', "the field hours.week is not of the type SMALLINT"),
    "a byte too large": ('{"âge":-129}', "the field âge is not of the type TINYINT"),
    "a float too large": ('{"hours-per-week":1e39}', "the field hours-per-week is not finite"),
    "too many digits": ('{"a `b":1000}', "the field a `b is not of the type DECIMAL(5,2)"),
    "too many decimals": ('{"a `b":0.001}', "the field a `b is not of the type DECIMAL(5,2)"),
    "an immense exponent": ('{"a `b":1e999999999}', "the field a `b is not of the type DECIMAL(5,2)"),
    "a decimal that is none": ('{"a `b":NaN}', "the field a `b is not finite"),
    "no date": ('{"d":"2026-02-30"}', "the field d is not of the type DATE"),
    "a date as a number": ('{"d":20000}', "the field d is not of the type DATE"),
    "a year of nine digits": ('{"d":"+999999999-01-01"}', "the field d is not of the type DATE"),
    "a time without an offset": ('{"t":"2026-01-31T12:00:00"}', "the field t is not of the type TIMESTAMP"),
    "a null in a vector": ('{"v":[1,null],"d":"2026-01-31"}', "the field v is not of the type ARRAY<DOUBLE>"),
    "a vector in a vector": ('{"v":[[1],{"a":[2]}],"d":"x"}', "the field v is not of the type ARRAY<DOUBLE>"),
    "a vector with a number too large": ('{"v":[1e999]}', "the field v is not finite"),
    "no vector": ('{"v":{"type":1}}', "the field v is not of the type ARRAY<DOUBLE>"),
}


def test_columns_of_every_type_and_name_are_read(spark):
    """A value of each type is read exactly; another value is rejected with the column's name."""
    decoder.register(spark, "decode_typed", shape(max_bytes=500, fields=ddl(TYPED)), 1)
    values = [(name, value.encode()) for name, (value, _) in TYPED_VALUES.items()]
    decoded = spark.createDataFrame(values, "name string, value binary").select(
        "name", F.expr("decode_typed(value) AS d")
    )
    rows = decoded.select("name", "d.detail", *(F.col(f"d.features.{quoted(field.name)}") for field in TYPED)).collect()

    for name, detail, *cells in rows:
        expected = TYPED_VALUES[name][1]
        if isinstance(expected, str):
            assert detail == expected, name
        else:
            time = expected[5] and datetime.fromisoformat(f"{expected[5]}00000+00:00").timestamp()
            assert detail is None, (name, detail)
            assert [*cells[:5], cells[5] and cells[5].timestamp(), cells[6]] == [*expected[:5], time, expected[6]], name


def test_numeric_text_is_read_for_every_type_of_number(spark):
    """With text_numbers the new types of numbers are read from text as well."""
    decoder.register(spark, "decode_text", shape(max_bytes=500, fields=ddl(TYPED), text_numbers=True), 1)
    value = b'{"hours-per-week":"0.5","hours.week":"7","\xc3\xa2ge":"-1","a `b":"1.5"}'
    found = (
        spark.createDataFrame([(bytearray(value),)], "value binary")
        .select(F.expr("decode_text(value).features"))
        .first()[0]
    )

    assert tuple(found)[:4] == (0.5, 7, -1, Decimal("1.50"))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a INT,b:string", [("a", "INT"), ("b", "STRING")]),
        (
            "`a,b` DECIMAL(4,1), `c``d` dec, e NUMERIC( 3 )",
            [("a,b", "DECIMAL(4,1)"), ("c`d", "DECIMAL(10,0)"), ("e", "DECIMAL(3,0)")],
        ),
        (
            "s SHORT, b byte, f real, v Array< double >",
            [("s", "SMALLINT"), ("b", "TINYINT"), ("f", "FLOAT"), ("v", "ARRAY<DOUBLE>")],
        ),
    ],
)
def test_columns_are_written_as_in_ddl(text, columns):
    """Names in backticks and types with parameters are read, and written in one form that is read again."""
    assert [tuple(field) for field in parse(text)] == columns
    assert parse(ddl(parse(text))) == parse(text)


NO_DDL = (
    *("hours-per-week INT", "âge INT", "`a INT", "`` INT", "a DECIMAL(39,1)", "a DECIMAL(2,3)", "a ARRAY<STRING>"),
    *("a INT(3)", "a INT b INT", "a DECIMAL(1,1", "`a`b INT", "`a\n` INT"),
)


@pytest.mark.parametrize("text", NO_DDL)
def test_text_that_is_no_ddl_is_refused(text):
    """A wrong column is named."""
    with pytest.raises(ValueError, match="is not a column: expected a name, in backticks if"):
        parse(text)
