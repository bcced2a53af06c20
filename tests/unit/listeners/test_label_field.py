"""The warning about a missing label field."""

import json
from types import SimpleNamespace

import pytest

from streamscore.errors import ServerError
from streamscore.listeners import label_field
from streamscore.listeners.label_field import LabelField


@pytest.fixture
def topic(monkeypatch):
    """The values that the topic holds, each at its offset of partition 0."""
    values = []

    def fetch(_kafka, _topic, places):
        for partition, offset in places:
            assert partition == 0
            yield SimpleNamespace(value=lambda offset=offset: values[offset])

    monkeypatch.setattr(label_field.topic_records, "fetch", fetch)
    return values


@pytest.fixture
def listener(make_config):
    """Return a function that makes the listener."""

    def make(*overrides):
        config = make_config(*overrides)
        return LabelField(config.message, config.kafka, SimpleNamespace(scored=0, labelled=0))

    return make


def commit(looking, events, rejected=0, labelled=0):
    """Count a batch, as the totals do, and tell the listener that it is committed."""
    looking.totals.scored += events - rejected
    looking.totals.labelled += labelled
    looking.committed(SimpleNamespace(ends={("ml", 0): events}))


def test_wrong_name_is_told_once_with_the_names_that_are_there(listener, topic, caplog):
    """The warning appears once, after a thousand scored messages, with the existing field names."""
    topic += [json.dumps({"Label": 1, "features": {}}).encode()] * 999 + [b"{", None, b'{"x":1}', b"[]"]
    looking = listener()
    commit(looking, 1002, rejected=3)
    assert not caplog.records
    commit(looking, 1003, rejected=3)
    commit(looking, 1003, rejected=3)
    (record,) = caplog.records

    assert record.levelname == "WARNING"
    assert "no message has the field 'label' (message.label_field), of 996 scored ones" in record.getMessage()
    assert "they have 'Label', 'features'." in record.getMessage()


def test_name_is_looked_for_inside_the_envelope(listener, topic, caplog):
    """The field is searched inside the envelope, also beside raw columns."""
    topic += [json.dumps({"label": 0, "after": {"y": 1, "n": 2, **{f"c{i}": 0 for i in range(9)}}}).encode()] * 1000
    topic += [json.dumps({"after": None}).encode()]
    commit(listener("message.root=after", "message.fields='n INT'"), 1001, rejected=1)

    assert "they have 'y', 'n', 'c0', 'c1', 'c2', 'c3', 'c4', 'c5' and 3 more." in caplog.text


def test_labels_and_null_labels_need_no_warning(listener, topic, caplog):
    """Labels, and null labels, under the right name give no warning."""
    topic += [b'{"features":1}'] * 1999 + [b'{"label":null,"features":1}']
    commit(listener(), 2000)
    labelled = listener()
    commit(labelled, 2, labelled=1)
    commit(labelled, 1999)

    assert not caplog.records


def test_broker_that_does_not_answer_stops_nothing(listener, monkeypatch, caplog):
    """An unreachable broker during the check does not stop the stream."""

    def fetch(*_):
        raise ServerError("no Kafka broker answers")

    monkeypatch.setattr(label_field.topic_records, "fetch", fetch)
    commit(listener(), 1000)

    assert "their fields cannot be looked at: no Kafka broker answers" in caplog.text
