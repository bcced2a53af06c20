"""Common forms of messages: the effect of each setting, and the detail when the setting is off."""

import base64
import gzip
import json

import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F
from shapes import shape

from streamscore.messages import decoder

DENSE = [0.5, -1.25, 2.0, 0, 0, 0, 0, 0, 0, 3.5]
PARTS = {"type": 0, "size": 10, "indices": [0, 1, 2, 9], "values": [0.5, -1.25, 2.0, 3.5]}
EVENT = {"label": 1.0, "features": PARTS}
VECTOR = Vectors.sparse(10, [0, 1, 2, 9], [0.5, -1.25, 2.0, 3.5])
PLAIN = json.dumps(EVENT)
FIELDS = "age INT, big BIGINT, x DOUBLE, yes BOOLEAN, word STRING"


@pytest.fixture
def decode(spark):
    """Return a function that decodes messages (objects or raw bytes) with given settings."""

    def run(messages, max_bytes=5000, **settings):
        decoder.register(spark, "decode_produced", shape(max_bytes=max_bytes, **settings), 10)
        values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages]
        rows = spark.createDataFrame(list(enumerate(values)), "i int, value binary")
        decoded = F.expr("decode_produced(value)").alias("d")
        return [row["d"] for row in rows.select("i", decoded).orderBy("i").collect()]

    return run


def good(row):
    """Return the label and the features of a message that must be good."""
    assert (row["reason"], row["detail"], row["features"]) == (None, None, VECTOR)
    return row["label"]


ENVELOPES = {
    "payload": {"schema": {"type": "struct", "fields": [{"type": "double", "field": "label"}]}, "payload": EVENT},
    "after": {"before": None, "after": EVENT, "source": {"connector": "postgresql", "after": 1}, "op": "c"},
    "data": {"data": EVENT},
    "payload.after": {"schema": {"payload": EVENT}, "payload": {"before": {"label": 0.0}, "after": EVENT}},
}


@pytest.mark.parametrize("root", ENVELOPES)
def test_envelope_is_opened_where_the_configuration_says(decode, root):
    """The configured envelope is opened, and its other fields are ignored."""
    (row,) = decode([ENVELOPES[root]], root=root)
    assert good(row) == 1.0
    assert tuple(decode([{root.split(".")[0]: {"age": 1}}], root=root.split(".")[0], fields=FIELDS)[0]["features"]) == (
        *(1, None, None, None, None),
    )


@pytest.mark.parametrize(
    ("root", "detail"),
    [
        ("payload", "no field 'features' (message.features_field); it has 'schema', 'payload'"),
        ("after", "no field 'features' (message.features_field); it has 'before', 'after', 'source', 'op'"),
        ("data", "no field 'features' (message.features_field); it has 'data'"),
    ],
)
def test_envelope_that_nobody_opens_is_told_by_its_fields(decode, root, detail):
    """The detail has the expected field and the existing ones."""
    (row,) = decode([ENVELOPES[root]])

    assert (row["reason"], row["detail"]) == ("bad_features", f"the message has {detail}")


def test_tombstone_inside_the_envelope_is_a_tombstone(decode):
    """A null at any level of the envelope is a tombstone."""
    rows = decode(
        [{"payload": None}, {"payload": {"after": None, "op": "d"}}, b'{"payload":null', b'{"payload":null}x'],
        root="payload.after",
    )

    assert [row["reason"] for row in rows] == ["tombstone", "tombstone", "not_json", "not_json"]
    assert rows[0]["detail"] == "the message has no value: payload.after is null"
    assert decode([{"payload": None}], root="payload", fields=FIELDS)[0]["reason"] == "tombstone"


def test_message_without_its_envelope_is_rejected(decode):
    """A message without its envelope is rejected, also by the fast path."""
    plain, other, text = decode(
        [EVENT, {"payload": {"label": 1, "x": 2}}, {"payload": "x", "features": PARTS}], root="payload"
    )

    assert plain["reason"] == other["reason"] == text["reason"] == "bad_features"
    assert plain["detail"].endswith("in message.root, payload; it has 'label', 'features'")
    assert other["detail"].endswith("in message.root, payload; it has 'label', 'x'")


def test_faults_inside_an_envelope_keep_their_reasons(decode):
    """Faults inside and around an envelope have the usual reasons."""
    wrong = {"payload": {**EVENT, "label": "x"}}, {"payload": {"features": {**PARTS, "size": 11}}}
    around = b'{"a":NaN,"payload":' + PLAIN.encode() + b"}", b'{"a":1,"a":2,"payload":' + PLAIN.encode() + b"}"

    assert [row["reason"] for row in decode([*wrong, *around], root="payload")] == [
        *("bad_label", "wrong_size", "not_json", "duplicate_name"),
    ]


def test_text_numbers_of_raw_columns_are_read(decode):
    """Numeric texts, as from csv.DictReader, have the values of the numbers without quotes."""
    rows = decode(
        [
            {"age": "23", "big": "5000000000", "x": "0.1", "yes": True, "word": "7", "label": "1"},
            {"age": "-0", "x": "-0", "label": "-0.0"},
            {"age": 23, "x": "1.5e-3", "word": None},
            {"big": "-9223372036854775808", "x": "0"},
        ],
        fields=FIELDS,
        text_numbers=True,
    )

    assert [row["reason"] for row in rows] == [None] * 4
    assert [row["label"] for row in rows] == [1.0, 0.0, None, None]
    assert [tuple(row["features"]) for row in rows] == [
        (23, 5_000_000_000, 0.1, True, "7"),
        (0, None, 0.0, None, None),
        (23, None, 0.0015, None, None),
        (None, -(1 << 63), 0.0, None, None),
    ]


def test_text_that_is_no_number_is_refused(decode):
    """Texts that are not numbers, such as blanks, are refused."""
    texts = ["", " 23", "23 ", "+23", "023", "0x17", "1_000", "1,5", ".5", "5.", "1e", "NaN", "-", "x", "9" * 1001]
    cases = [(field, text) for field in ("age", "big", "x", "label") for text in texts]
    rows = decode([{"yes": True, field: text} for field, text in cases], fields=FIELDS, text_numbers=True)

    for (field, text), row in zip(cases, rows, strict=True):
        assert row["reason"] == ("bad_label" if field == "label" else "bad_features"), (field, text)
        assert row["detail"].startswith(f"the field {field} is not of" if field != "label" else "the label is not a")
        assert "text_numbers" not in row["detail"]


def test_text_number_must_fit_its_type(decode):
    """A numeric text must fit its column's type."""
    values = {"age": "2147483648", "big": "9223372036854775808", "x": "1e999"}
    rows = decode([{name: text} for name, text in values.items()] + [{"age": "1.0"}], fields=FIELDS, text_numbers=True)

    assert [row["reason"] for row in rows] == ["bad_features", "bad_features", "not_finite", "bad_features"]


def test_text_numbers_of_a_vector_are_read_too(decode):
    """All numbers of a vector may be texts."""
    text = {"type": "0", "size": "10", "indices": ["0", "1", 2, "9"], "values": ["0.5", "-1.25", 2, "3.5"]}
    (row, short, index) = decode(
        [
            {"label": "1", "features": text},
            {"features": {**text, "size": "11"}},
            {"features": {**text, "indices": ["0", "1", 2, "9.0"]}},
        ],
        text_numbers=True,
    )

    assert good(row) == 1.0
    assert (short["reason"], index["reason"]) == ("wrong_size", "bad_features")


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ({"age": "23", "label": 1}, {"fields": FIELDS}),
        ({"x": "0.5"}, {"fields": FIELDS}),
        ({**EVENT, "label": "1"}, {}),
        ({"features": {**PARTS, "values": ["0.5", 1, 2, 3]}}, {}),
        ({"features": {**PARTS, "indices": ["0", 1, 2, 3]}}, {}),
        ({"features": {**PARTS, "size": "10"}}, {}),
        ({**EVENT, "label": "1"}, {"label_values": {">50K": 1}}),
    ],
)
def test_number_as_text_names_the_setting_that_reads_it(decode, message, settings):
    """Without the setting the detail names it."""
    (row,) = decode([message], **settings)

    assert row["reason"] == ("bad_label" if row["detail"].startswith("the label") else "bad_features")
    assert row["detail"].endswith("but a number as text: message.text_numbers: true reads it")


@pytest.mark.parametrize("text", ["x", "1x", "2026-01-01"])
def test_other_text_does_not(decode, text):
    """The detail about other texts does not name the setting."""
    assert "text_numbers" not in decode([{"age": text}], fields=FIELDS)[0]["detail"]
    assert "text_numbers" not in decode([{"word": 5}], fields=FIELDS)[0]["detail"]


def test_labels_by_name(decode):
    """Labels that are texts, true or false become classes; numbers and null are unchanged."""
    labels = ["<=50K", ">50K", True, False, 1, 0.0, None, "é"]
    values = {"<=50K": 0, ">50K": 1, "true": 1, "false": 0, "é": 7}
    rows = decode([{**EVENT, "label": label} for label in labels], label_values=values)

    assert [good(row) for row in rows] == [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, None, 7.0]


def test_label_by_name_wins_over_the_number_that_it_is(decode):
    """A label's name takes precedence over its number; an unnamed text may still be a number."""
    rows = decode(
        [{**EVENT, "label": label} for label in ("1", "2", "3")], label_values={"1": 0, "2": 1}, text_numbers=True
    )

    assert [good(row) for row in rows] == [0.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("label", "values", "detail"),
    [
        (True, {}, "the label is not a number, but true or false: message.label_values says which class that is"),
        (">50K", {}, "the label is not a number, but text: message.label_values says which class that is"),
        (" >50K", {">50K": 1}, "the label is not a number, nor one of the names in message.label_values"),
        (True, {"True": 1}, "the label is not a number, nor one of the names in message.label_values"),
        ([1], {}, "the label is not a number"),
    ],
)
def test_label_without_a_class_names_the_setting(decode, label, values, detail):
    """The detail names the setting and does not repeat the label."""
    (row,) = decode([{**EVENT, "label": label}], label_values=values)

    assert (row["reason"], row["detail"]) == ("bad_label", detail)


OTHERS = {
    "good": (PLAIN.encode(), None, None),
    "newline": (json.dumps(EVENT, indent=1).encode() + b"\n", None, None),
    "crlf": (PLAIN.encode() + b"\r\n", None, None),
    "exponent": (PLAIN.replace("1.0", "1e0").encode(), None, None),
    "no label": (json.dumps({"features": PARTS}).encode(), None, None),
    "label of another case": (json.dumps({"Label": 1, "features": PARTS}).encode(), None, None),
    "label -1": (PLAIN.replace("1.0", "-1").encode(), None, None),
    "dense with nulls": (
        json.dumps({"features": {"type": 1, "size": None, "indices": None, "values": DENSE}}).encode(), None, None,
    ),
    "unicode": (json.dumps({**EVENT, "ville": "Besançon 🚀"}, ensure_ascii=False).encode(), None, None),
    "bom": (b"\xef\xbb\xbf" + PLAIN.encode(), "not_json", "byte-order mark"),
    "gzip": (gzip.compress(PLAIN.encode(), mtime=0), "not_utf8", "not UTF-8 at byte 1"),
    "base64": (base64.b64encode(PLAIN.encode()), "not_json", "near byte 0"),
    "double encoded": (json.dumps(PLAIN).encode(), "not_json", "not a JSON object"),
    "python": (str(EVENT).encode(), "not_json", "near byte 0"),
    "array": (f"[{PLAIN}]".encode(), "not_json", "not a JSON object"),
    "two documents": (f"{PLAIN}\n{PLAIN}".encode(), "not_json", "something follows"),
    "comment": (f"/* v1 */ {PLAIN}".encode(), "not_json", "near byte 0"),
    "comment at the end": (f"{PLAIN} // v1".encode(), "not_json", f"near byte {len(PLAIN) - 1}"),
    "trailing comma": (PLAIN[:-1].encode() + b",}", "not_json", "near byte"),
    "latin-1": ('{"ville":"Besançon"}'.encode("latin-1"), "not_utf8", "not UTF-8 at byte 15"),
    "empty": (b"", "not_json", "the message is empty"),
    "frame of JSON": (b"\0\0\0\0\x0c" + PLAIN.encode(), "not_json", "looks like a Schema Registry frame"),
    "frame of Avro": (
        b"\0\0\0\0\x01\x02\0\0\0\0\0\0\xf0?", "not_utf8", "not UTF-8 at byte 12; looks like a Schema Registry frame",
    ),
    "a zero byte": (PLAIN.encode() + b"\0", "not_json", "contains a NUL byte"),
}  # fmt: skip


def test_other_messages_as_producers_send_them(decode):
    """Other common messages are scored, or rejected with position and cause."""
    rows = decode([value for value, *_ in OTHERS.values()])

    for (name, (_, reason, detail)), row in zip(OTHERS.items(), rows, strict=True):
        assert row["reason"] == reason, name
        assert row["detail"] is detail or detail in row["detail"], name


FORMS = {
    "spark": [
        (DENSE, "dense"), ([10, [0], [1.5]], "triple"), ("(10,[0],[1.5])", None), ({"0": 0.5}, None), (None, None),
        ([], None),
    ],
    "triple": [(PARTS, "spark"), (DENSE, "dense"), ([10, [0]], None)],
    "dense": [([10, [0], [1.5]], "triple"), (PARTS, "spark"), ([0.5, "x"], None)],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_vector_of_another_form_names_the_form_that_fits(decode, form):
    """The detail names the format that fits, if any, also inside an envelope."""
    bare = decode([{"features": features} for features, _ in FORMS[form]], form=form)
    inside = decode([{"features": 1, "p": {"features": features}} for features, _ in FORMS[form]], form=form, root="p")

    for rows in (bare, inside):
        for (_, fitting), row in zip(FORMS[form], rows, strict=True):
            _, _, hint = row["detail"].partition("; message.vector_form: ")
            assert (row["reason"], hint) == ("bad_features", f"{fitting} fits" if fitting else "")


def test_fields_that_are_there_are_told_in_bounds(decode):
    """The detail limits the number and the length of field names, and escapes control characters."""
    (many, odd, none) = decode(
        [dict.fromkeys(map(str, range(20))), {"a" * 100 + "b": 1, "x\ny": 2}, {}], max_bytes=5000
    )

    assert many["detail"].endswith("it has '0', '1', '2', '3', '4', '5', '6', '7' and 12 more")
    assert odd["detail"].endswith(f"it has '{'a' * 40}...', 'x?y'")
    assert none["detail"].endswith("it has no field")
    (raw,) = decode([{"Age": 1}], fields=FIELDS)
    assert raw["detail"] == "the message has none of the fields of message.fields; it has 'Age'"
