"""Kafka topics without a broker."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamscore.clients import kafka
from streamscore.errors import RefusedError, ServerError


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError), (KafkaError.INVALID_REPLICATION_FACTOR, ServerError)],
)
def test_topic_that_cannot_be_made_is_told_and_a_refusal_told_apart(make_config, monkeypatch, fault, kind):
    """A missing permission is permanent, while too few brokers is transient."""
    future = Future()
    future.set_exception(KafkaException(KafkaError(fault)))
    monkeypatch.setattr(kafka, "names", lambda _: [])
    monkeypatch.setattr(kafka, "require_allowed", lambda *_: None)
    monkeypatch.setattr(kafka, "admin", lambda _: SimpleNamespace(create_topics=lambda _: {"t": future}))

    with pytest.raises(ServerError, match="the topic 't' could not be created") as refused:
        kafka.ensure(make_config().kafka, "t")
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("SASL authentication error: Authentication failed", RefusedError),
        ("SASL authentication error: SaslAuthenticateRequest failed: Local: Broker transport failure", ServerError),
        ("SaslHandshakeRequest failed: Local: Timed out", ServerError),
    ],
)
def test_connection_that_breaks_while_it_is_let_in_is_no_refusal(make_config, monkeypatch, words, kind):
    """A connection that breaks during authentication, as with a starting broker, is not a refusal."""

    class Client:
        def __init__(self, settings):
            self._tell = settings["error_cb"]

        def list_topics(self, timeout):
            assert timeout
            self._tell(KafkaError(KafkaError._AUTHENTICATION, words))
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

        def poll(self, timeout):
            """Report no further errors."""

    monkeypatch.setattr(kafka, "_made", lambda _, settings: Client(settings))

    with pytest.raises(ServerError) as caught:
        kafka.names(make_config().kafka)
    assert type(caught.value) is kind
