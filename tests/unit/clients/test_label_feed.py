"""Labels that follow their events after a random time."""

import json

import pytest

from streamscore import config as configuration
from streamscore.clients import label_feed
from streamscore.clients.label_feed import LONGEST, LabelFeed
from streamscore.errors import ConfigError


@pytest.fixture
def sent(monkeypatch):
    """The records that were given to the producer, in order."""
    records = []

    class Outbox:
        """A producer that keeps what it is given."""

        def __init__(self, _kafka, topic):
            self.topic = topic

        def send(self, _name, key, value, _headers):
            """Keep a record."""
            records.append((self.topic, key, json.loads(value)))

        def poll(self):
            """Do nothing."""

        flush = poll

    monkeypatch.setattr(label_feed, "Outbox", Outbox)
    return records


def feed(clock, share=1.0, **fields):
    """Return a feed with a mean delay of ten seconds."""
    names = [f"labels.{name}={value}" for name, value in fields.items()]
    settings = ["seed.rate=5", "seed.label_delay=10", f"seed.label_share={share}", *names]
    return LabelFeed(configuration.load("local", settings), clock)


def test_labels_come_when_they_are_due(sent):
    """None before its time, all within five times the mean; each once, with the time at which it was due."""
    now = [1_000.0]
    labels = feed(lambda: now[0], id_field="event")
    for number in range(2_000):
        labels.add(b"k%d" % number, float(number % 2))
    labels.send_due()
    assert sent == []
    now[0] += 10.0
    labels.send_due()
    share = len(sent) / 2_000
    now[0] += (LONGEST - 1) * 10.0
    labels.send_due()

    assert share == pytest.approx(1 - 2.718**-1, abs=0.04)
    assert {key for _, key, _ in sent} == {b"k%d" % number for number in range(2_000)}
    topic, key, message = sent[0]
    assert topic == "labels"
    assert message == {"event": key.decode(), "label": int(key[1:]) % 2, "time": message["time"]}
    assert all(1_000_000 <= each["time"] <= 1_050_000 for *_, each in sent)
    assert labels.sent == 2_000


def test_some_labels_never_come(sent):
    """A share of them, and those of events that have none."""
    now = [0.0]
    labels = feed(lambda: now[0], share=0.9)
    for number in range(2_000):
        labels.add(b"%d" % number, 1.0)
    labels.add(b"none", None)
    labels.add(b"nan", float("nan"))
    now[0] = 1e9
    labels.finish(lambda _: None)

    assert len(sent) / 2_000 == pytest.approx(0.9, abs=0.03)
    assert {b"none", b"nan"} & {key for _, key, _ in sent} == set()


def test_late_labels_need_a_rate():
    """At full speed there is no time between an event and its label."""
    with pytest.raises(ConfigError, match="label_delay needs rate"):
        configuration.load("local", ["seed.label_delay=10"])
