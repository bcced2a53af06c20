"""The permission to write to the output topics is checked before any write."""

from types import SimpleNamespace

import pytest
from confluent_kafka.admin import AclOperation

from streamscore.clients import kafka
from streamscore.errors import RefusedError
from streamscore.sinks.kafka import Records


def test_brokers_without_acls_let_everybody_write(own):
    """Brokers that report no permissions pass the check."""
    config = own()

    assert len(Records(config).check()) == 2
    assert Records(config).check() == []


def test_missing_write_is_refused_at_the_start(own, monkeypatch):
    """The start is refused; otherwise Elasticsearch would have documents before Kafka refused the records."""
    config = own()
    Records(config).check()
    answer = SimpleNamespace(
        result=lambda: SimpleNamespace(authorized_operations=[AclOperation.READ, AclOperation.DESCRIBE])
    )
    client = SimpleNamespace(describe_topics=lambda *_, **__: {config.kafka.topics.predictions: answer})
    monkeypatch.setattr(kafka, "ensure", lambda *_: [])
    monkeypatch.setattr(kafka, "admin", lambda _: client)

    with pytest.raises(RefusedError, match=r"not let this user write to the topic 't\w+.predictions': add the ACL"):
        Records(config).check()
