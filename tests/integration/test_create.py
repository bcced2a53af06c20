from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore.clients import elasticsearch, kafka
from streamscore.errors import ServerError
from streamscore.schema import OUTCOME_FIELDS


@pytest.fixture
def created(own):
    """Return a function that runs `streamscore create` for this test's own topics and indices."""
    settings = own()
    keys = {
        "state_dir": settings.state_dir,
        "kafka.bootstrap_servers": settings.kafka.bootstrap_servers,
        "elasticsearch.url": settings.elasticsearch.url,
        **{f"kafka.topics.{name}": value for name, value in settings.kafka.topics.model_dump().items()},
        **{f"elasticsearch.{name}": getattr(settings.elasticsearch, name) for name in INDICES},
    }
    arguments = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    return settings, lambda *more, **how: CliRunner().invoke(cli.app, ["create", *arguments, *more], **how)


INDICES = ("index", "rejected_index", "status_index", "quality_index")


def test_create_makes_what_is_missing_once(created):
    """The first call creates three topics and four indices; the second creates nothing."""
    settings, run = created

    first, second = run(), run()

    assert first.exit_code == second.exit_code == 0
    assert [line.split()[:2] for line in first.output.splitlines()] == [["created", "topic"]] * 3 + [
        ["created", "index"]
    ] * 4
    assert second.output == "everything is there\n"
    topics = settings.kafka.topics
    assert {topics.input, topics.predictions, topics.rejected} <= set(kafka.names(settings.kafka))


def test_create_leaves_elasticsearch_alone_where_it_is_not_used(created):
    """Without Elasticsearch only the topics are created."""
    settings, run = created

    assert "index" not in run("--set", "elasticsearch.enabled=false").output
    with elasticsearch.client(settings.elasticsearch) as client:
        assert not client.indices.exists(index=settings.elasticsearch.index)


def test_topic_that_the_broker_refuses_is_told_with_the_settings_to_look_at(created):
    """The broker refuses three replicas without three brokers, and the message names the settings."""
    _, run = created
    with pytest.raises(
        ServerError, match=r"could not be created: .*\. See kafka.replication_factor and .partitions, or"
    ):
        run("--set", "kafka.replication_factor=3", catch_exceptions=False)


def test_a_logstash_that_is_kept_fills_the_same_index(created, root):
    """The strict index accepts a record after the three Logstash steps of docs/docker.md."""
    settings, run = created
    run()
    added = re.findall(r"^\+ +(.*)$", (root / "docs" / "docker.md").read_text(), re.MULTILINE)
    date, remove, identity = added
    record = {
        "event_id": "ml-0-123",
        "key": None,
        "model": "lr",
        "model_version": "3",
        "prediction": 1.0,
        "score": 0.83,
        "label": 1.0,
        "correct": 1,
        "declined": None,
        "declined_column": None,
        "event_time": 1_732_000_000_000,
    }
    assert list(record) == list(OUTCOME_FIELDS)
    document = {**record, "message": "{}", "event": {"original": "{}"}, "@version": "1"}

    time_field, form = re.search(r'match => \["(\w+)", "(\w+)"\]', date).groups()
    assert form == "UNIX_MS"
    document["@timestamp"] = document[time_field]
    for name in re.findall(r'"([^"]+)"', remove):
        del document[name]
    name = re.sub(r"%\{(\w+)\}", lambda match: str(record[match[1]]), re.search('"(.*)"', identity)[1])
    with elasticsearch.client(settings.elasticsearch) as client:
        answer = client.index(index=settings.elasticsearch.index, id=name, document=document)

    assert answer["result"] == "created"
    assert name == "ml-0-123-lr-3"
