"""Indices that would change documents, or move under the job: found at the start, or before anything is committed."""

import logging
import time
from dataclasses import replace

import pytest

from streamscore.cli import doctor
from streamscore.clients import elasticsearch
from streamscore.errors import RefusedError
from streamscore.sinks.base import Batch
from streamscore.sinks.elasticsearch import OutcomeDocuments
from streamscore.sinks.quality import QualityStatistics

BATCH = Batch(0, lambda: "a-query", wait=time.sleep, aggregates={"documents": 10, "sums": b""})


@pytest.fixture
def config(own):
    """A configuration whose indices do not exist yet."""
    return own("elasticsearch.retry_seconds=120")


@pytest.fixture
def client(config):
    """A client of the server."""
    with elasticsearch.client(config.elasticsearch) as client:
        yield client


@pytest.fixture
def frame(spark):
    """A few documents."""
    return spark.range(10).selectExpr(
        "concat('e-', id) AS document_id",
        "1700000000000 AS `@timestamp`",
        "concat('e-', id) AS event_id",
        "'lr' AS model",
        "'1' AS model_version",
    )


@pytest.fixture
def template(client, config):
    """Return a function that makes an index template for the outcome index."""
    name = f"template-of-{config.elasticsearch.index}"

    def make(**body):
        client.indices.put_index_template(name=name, index_patterns=[config.elasticsearch.index], priority=500, **body)

    yield make
    client.options(ignore_status=404).indices.delete_index_template(name=name)


@pytest.fixture
def behind_alias(client, config):
    """Return a function that puts the outcome index behind an alias of its configured name."""

    def make(**alias):
        name = config.elasticsearch.index
        elasticsearch.ensure(config.elasticsearch)
        mapping = client.indices.get_mapping(index=name)[name]["mappings"]
        client.indices.delete(index=name)
        for number in (1, 2):
            client.indices.create(index=f"{name}-00000{number}", mappings=mapping)
        client.indices.put_alias(index=f"{name}-000001", name=name, **alias)

    return make


def test_rollover_alias_is_refused_at_the_start(config, behind_alias):
    """After a rollover, a replayed batch would write its documents to the next index."""
    behind_alias(is_write_index=True)

    with pytest.raises(RefusedError, match=f"{config.elasticsearch.index}' is a rollover alias"):
        elasticsearch.ensure(config.elasticsearch)


def test_alias_of_one_index_is_written_to(config, behind_alias, client, frame):
    """A plain alias of one index is as good as its name."""
    behind_alias()
    elasticsearch.ensure(config.elasticsearch)
    OutcomeDocuments(config).write(frame, BATCH, None)

    assert elasticsearch.count(config.elasticsearch) == 10
    assert client.count(index=f"{config.elasticsearch.index}-000001")["count"] == 10


def test_alias_that_moves_stops_the_next_batch(config, behind_alias, client, frame):
    """Nothing is written to the index that the alias stands for now."""
    behind_alias()
    name, sink = config.elasticsearch.index, OutcomeDocuments(config)
    sink.write(frame, BATCH, None)
    moves = [
        {"remove": {"index": f"{name}-000001", "alias": name}},
        {"add": {"index": f"{name}-000002", "alias": name}},
    ]
    client.indices.update_aliases(actions=moves)

    with pytest.raises(RefusedError, match=f"the alias stands for {name}-000002 now"):
        sink.write(frame, BATCH, None)
    assert client.count(index=f"{name}-000002")["count"] == 0


def test_alias_that_rolls_over_stops_the_next_batch(config, behind_alias, client, frame):
    """A rollover keeps the old index behind the alias, for searches."""
    behind_alias()
    name, sink = config.elasticsearch.index, OutcomeDocuments(config)
    sink.write(frame, BATCH, None)
    rolled = [
        {"add": {"index": f"{name}-000001", "alias": name, "is_write_index": False}},
        {"add": {"index": f"{name}-000002", "alias": name, "is_write_index": True}},
    ]
    client.indices.update_aliases(actions=rolled)

    with pytest.raises(RefusedError, match=f"stands for {name}-000001, {name}-000002 now, after a rollover"):
        sink.write(frame, BATCH, None)
    assert client.count(index=f"{name}-000002")["count"] == 0


def test_index_that_was_created_by_a_write_between_two_batches_stops_the_next_one(config, client, frame):
    """Another program's write recreates a deleted index with a guessed mapping; the job does not write on to it."""
    elasticsearch.ensure(config.elasticsearch)
    sink, name = OutcomeDocuments(config), config.elasticsearch.index
    sink.write(frame, BATCH, None)
    client.indices.delete(index=name)
    client.index(index=name, document={"event_id": "somebody's"})

    with pytest.raises(RefusedError, match=f"the index '{name}' at .* was deleted and created again while the job"):
        sink.with_models([]).write(frame, BATCH, None)
    client.indices.refresh(index=name)
    assert client.count(index=name)["count"] == 1


def test_statistics_are_not_added_to_an_index_that_was_created_again(config, client, spark, frame):
    """A new index would count from zero, without a word."""
    elasticsearch.ensure(config.elasticsearch)
    sink = QualityStatistics(config)
    sink.prepare(spark)
    client.indices.delete(index=config.elasticsearch.quality_index)
    elasticsearch.ensure(config.elasticsearch)

    with pytest.raises(
        RefusedError, match=f"{config.elasticsearch.quality_index}' at .* was deleted and created again"
    ):
        sink.write(frame, BATCH, None)


UNFIT = {
    "routing": ({"template": {"mappings": {"_routing": {"required": True}}}}, "requires a routing value"),
    "default pipeline": ({"template": {"settings": {"default_pipeline": "enrich"}}}, "default_pipeline 'enrich'"),
    "final pipeline": ({"template": {"settings": {"final_pipeline": "enrich"}}}, "final_pipeline 'enrich'"),
    "no source": ({"template": {"mappings": {"_source": {"enabled": False}}}}, "_source"),
    "data stream": ({"data_stream": {}}, "data streams only"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_template_that_makes_an_index_unfit_is_found_at_the_start(config, client, template, name):
    """The index is not kept, and the doctor, who creates nothing, tells the same."""
    body, reason = UNFIT[name]
    template(**body)

    with pytest.raises(RefusedError, match=f"{reason}.*index_patterns"):
        elasticsearch.ensure(config.elasticsearch)
    assert not client.indices.exists(index=config.elasticsearch.index)
    (fault,) = [finding.text for finding in doctor.examine(config) if finding[:2] == ("elasticsearch", "fault")]
    assert f"the template 'template-of-{config.elasticsearch.index}'" in fault
    assert reason in fault


def test_pipeline_of_an_index_that_exists_is_found_at_the_start(config, client):
    """The pipeline may have been set since the last start."""
    elasticsearch.ensure(config.elasticsearch)
    client.indices.put_settings(index=config.elasticsearch.rejected_index, settings={"index.final_pipeline": "enrich"})

    with pytest.raises(RefusedError, match=r"-rejected' at .* cannot be written to: its final_pipeline 'enrich'"):
        elasticsearch.ensure(config.elasticsearch)


def test_write_block_is_refused_at_the_start_and_seen_by_the_doctor(config, client):
    """The message has Elasticsearch's reason and the way out."""
    elasticsearch.ensure(config.elasticsearch)
    name = config.elasticsearch.quality_index
    client.indices.put_settings(index=name, settings={"index.blocks.write": True})
    reason = rf"the index '{name}' is blocked: index write \(api\); take it away \(index\.blocks"

    with pytest.raises(RefusedError, match=reason):
        elasticsearch.ensure(config.elasticsearch)
    faults = [finding.text for finding in doctor.examine(config) if finding[:2] == ("elasticsearch", "fault")]
    assert [reason.replace("\\", "") in fault for fault in faults] == [True]


def test_wait_for_a_full_disk_tells_elasticsearch_s_reason(config, client, frame, caplog, monkeypatch):
    """Elasticsearch takes the block away when there is room again, and the batch goes on."""
    elasticsearch.ensure(config.elasticsearch)
    name = config.elasticsearch.index
    block = {"index.blocks.read_only_allow_delete": True}
    client.indices.put_settings(index=name, settings=block)
    elasticsearch.ensure(config.elasticsearch)  # a start is not refused for it
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(logging.getLogger("streamscore"), "propagate", True)
    free = dict.fromkeys(block)
    make_room = replace(BATCH, wait=lambda _: client.indices.put_settings(index=name, settings=free))
    OutcomeDocuments(config, is_owned=True).write(frame, make_room, None)

    waits = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert len(waits) == 1
    assert f"index [{name}] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark" in waits[0]
    assert elasticsearch.count(config.elasticsearch) == 10
