"""Labels in messages of their own: what is one, and why another is not."""

import json

import pytest

from streamscore.messages.labels import MAX_BYTES, BadLabel, Fields, Label, Message, decode
from streamscore.schema import LABEL_REASONS, REASONS

AT = 1_760_000_000_000


def decoded(value, key=None, fields=None):
    """Decode a value (text, bytes or None) of a record at partition 3, offset 7."""
    raw = value.encode() if isinstance(value, str) else value
    return decode(Message(3, 7, AT, key, raw, max(len(raw or b""), len(key or b""))), fields or Fields())


@pytest.mark.parametrize(
    ("value", "key", "label"),
    [
        ('{"id":"a","label":1.0,"time":1750000000000}', None, ("a", 1.0, 1_750_000_000_000)),
        ('{"id":17,"label":0}', b"other", ("17", 0.0, AT)),
        ('{"id":1.50,"label":1,"time":null}', None, ("1.50", 1.0, AT)),
        ('{"label":1,"time":1.75e12,"more":{"x":[1]}}', "ä".encode(), ("ä", 1.0, 1_750_000_000_000)),
        ('{"id":null,"label":1}', b"k", ("k", 1.0, AT)),
    ],
)
def test_label_is_read(value, key, label):
    """The id is a text or a number, or the record's key; the time the record's, unless the message has one."""
    assert decoded(value, key) == Label(*label, 3, 7)


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (None, "tombstone", "no value"),
        (b"\xff", "not_utf8", "not UTF-8"),
        ("{", "not_json", "not JSON"),
        ("[" * 10_000, "not_json", "not JSON"),
        ("[1]", "not_json", "not a JSON object"),
        ('{"id":"a","label":NaN}', "not_json", "not JSON"),
        ('{"id":"a","id":"b","label":1}', "duplicate_name", "'id' occurs twice"),
        ('{"label":1}', "bad_id", "neither the field 'id' nor a key"),
        ('{"id":"","label":1}', "bad_id", "is empty"),
        ('{"id":true,"label":1}', "bad_id", "the value true, not a text or a number"),
        ('{"id":["a"],"label":1}', "bad_id", "an array"),
        ('{"id":{},"label":1}', "bad_id", "an object"),
        ('{"id":"a"}', "bad_label", "lacks the field 'label'"),
        ('{"id":"a","label":"1"}', "bad_label", "the text '1', not a number"),
        ('{"id":"a","label":null}', "bad_label", "null"),
        ('{"id":"a","label":true}', "bad_label", "the value true"),
        ('{"id":"a","label":1e999}', "bad_label", "beyond the range"),
        ('{"id":"a","label":1e9999999999999999999}', "not_json", "not JSON"),
        ('{"id":"a","label":1,"time":1e999999999}', "bad_time", "looks like microseconds"),
        ('{"id":"a","label":1,"time":-1e999999999}', "bad_time", "looks like seconds"),
        ('{"id":"a","label":1,"time":1750000000}', "bad_time", "looks like seconds"),
        ('{"id":"a","label":1,"time":1750000000000000}', "bad_time", "looks like microseconds"),
        ('{"id":"a","label":1,"time":-1}', "bad_time", "looks like seconds"),
        ('{"id":"a","label":1,"time":"2026-01-01"}', "bad_time", "the text '2026-01-01'"),
        ('{"id":"a","label":1,"time":1750000000000.5}', "bad_time", "not a whole number"),
        (json.dumps({"id": "a" * MAX_BYTES, "label": 1}), "too_large", f"more than {MAX_BYTES}"),
    ],
)
def test_message_without_a_label_is_rejected_with_its_reason(value, reason, words):
    """The detail says in words what is wrong."""
    bad = decoded(value)

    assert isinstance(bad, BadLabel)
    assert bad.reason == reason
    assert words in bad.detail
    assert bad.reason in {*REASONS, *LABEL_REASONS}


def test_fields_have_the_configured_names_and_texts_their_classes():
    """A producer's own names are read, and the texts of message.label_values."""
    fields = Fields("event", "clicked", "at", {"yes": 1.0, "false": 0.0})

    assert decoded('{"event":"a","clicked":"yes","at":1750000000000}', fields=fields)[:3] == ("a", 1.0, 1750000000000)
    assert decoded('{"event":"a","clicked":false}', fields=fields)[:2] == ("a", 0.0)
    assert "nor one of 'yes', 'false'" in decoded('{"event":"a","clicked":"no"}', fields=fields).detail
