"""The requests to Elasticsearch, and the parsing of its answers."""

import json

import pytest

from streamscore import config
from streamscore.dashboard import queries
from streamscore.dashboard.batches import BatchReport, StreamReport, Throughput, Version
from streamscore.dashboard.queries import WRITTEN, Mark
from streamscore.quality.windows import Period, Window
from streamscore.schema import QUALITY_PROPERTIES, REJECTED_PROPERTIES, STATUS_PROPERTIES

SETTINGS = config.load().elasticsearch
WINDOW = Window(60_000, 30_000, whole=False, seconds=10)
EVERYTHING = Window(60_000, 30_000, whole=True, seconds=10)
SEARCHES = [
    queries.rejected_period(SETTINGS),
    queries.stream(SETTINGS),
    queries.marks(SETTINGS, WINDOW),
    queries.rejected(SETTINGS, WINDOW),
    queries.batches(SETTINGS, WINDOW),
]


def fields(node):
    """Return the fields in a request."""
    if isinstance(node, dict):
        own = [node["field"]] if isinstance(node.get("field"), str) else []
        # A range is a filter with the field as its key, or an aggregation with a "field".
        filters = [node.get("term", {}), *([node["range"]] if "field" not in node.get("range", ["field"]) else [])]
        named = [name for one in filters for name in one]
        return {*own, *named, *(field for value in node.values() for field in fields(value))}
    if isinstance(node, list):
        return {field for value in node for field in fields(value)}
    return set()


@pytest.mark.parametrize("search", SEARCHES)
def test_no_request_fetches_documents(search):
    """Requests fetch no documents except the last batches' status."""
    hits = json.dumps(search.body).count("top_hits")

    assert search.body["size"] == 0
    assert hits == (search == queries.stream(SETTINGS))


@pytest.mark.parametrize("search", SEARCHES)
def test_every_field_is_in_the_mapping_of_its_index(search):
    """Every field of a request exists in its index, because a wrong name would silently count nothing."""
    mappings = {
        SETTINGS.quality_index: {**QUALITY_PROPERTIES, WRITTEN: {}},
        SETTINGS.rejected_index: REJECTED_PROPERTIES,
        SETTINGS.status_index: STATUS_PROPERTIES,
    }
    for name in search.indices.split(","):
        assert fields(search.body) <= set(mappings[name])


def test_buckets_are_of_the_windows_of_one_length():
    """The buckets are restricted to windows of one length, and to the start of a time range."""
    of_length = {"term": {"seconds": 10}}

    assert queries.marks(SETTINGS, EVERYTHING).body["query"] == {"bool": {"filter": [of_length]}}
    assert queries.marks(SETTINGS, WINDOW).body["query"] == {
        "bool": {"filter": [of_length, {"range": {"@timestamp": {"gte": 60_000}}}]}
    }
    assert "query" not in queries.rejected(SETTINGS, EVERYTHING).body


def test_buckets_that_follow_each_other_are_one_stretch():
    """Consecutive buckets are joined to one run."""
    assert queries.runs([64_000, 61_000, 62_000], 1_000) == [(61_000, 63_000), (64_000, 65_000)]


def test_mark_is_read_from_a_bucket():
    """A mark has whole numbers, although Elasticsearch returns doubles."""
    bucket = {"key": 60_000.0, "doc_count": 6, "last": {"value": 41.0}, "scored": {"value": 900.0}}

    assert queries.read_marks({"aggregations": {"buckets": {"buckets": [bucket]}}}) == {60_000: Mark(6, 41, 900)}


@pytest.mark.parametrize("answer", [{}, {"aggregations": {}}])
def test_index_that_does_not_exist_has_nothing_to_say(answer):
    """A missing index gives empty results."""
    assert queries.read_period(answer) is None
    assert queries.read_stream(answer) == StreamReport((), synthetic=False)
    assert queries.read_marks(answer) == queries.read_rejected(answer) == {}
    assert queries.read_versions(answer) == queries.read_throughput(answer) == ()


def test_empty_index_has_no_extent():
    """An empty index has no period."""
    assert queries.read_period({"aggregations": {"first": {"value": None}, "last": {"value": None}}}) is None
    assert queries.read_period({"aggregations": {"first": {"value": 5.0}, "last": {"value": 9.0}}}) == Period(5, 9)


def test_stream_is_read_from_its_last_statuses():
    """The status documents arrive latest first; one synthetic batch marks the stream as synthetic."""
    latest = {"batch_ms": 400, "events": 30, "lag": 12, "refused": ["lr:4: damaged"]}
    earlier = {"batch_ms": 300, "events": 20, "lag": 40}
    old = {"key": "", "latest": {"hits": {"hits": [{"_source": earlier, "sort": [8_500]}]}}}
    hits = [{"_source": latest, "sort": [9_000]}, {"_source": earlier, "sort": [8_000]}]
    answer = {
        "aggregations": {
            "synthetic": {"doc_count": 1},
            "topics": {"buckets": [{"key": "ml", "latest": {"hits": {"hits": hits}}}, old]},
        }
    }

    assert queries.read_stream(answer) == StreamReport(
        (
            BatchReport(8_000, 300, 20, 40, "ml"),
            BatchReport(8_500, 300, 20, 40),
            BatchReport(9_000, 400, 30, 12, "ml", ("lr:4: damaged",)),
        ),
        synthetic=True,
    )


def served(key, first, last):
    """Return Elasticsearch's bucket of a version in a time interval."""
    return {"key": key, "first": {"value": float(first)}, "last": {"value": float(last)}}


def test_versions_are_in_order_of_their_first_batch():
    """Versions are ordered by first batch, a restored one occurs twice, and a version may contain colons."""
    over_time = [
        [served("lr:3", 10, 19), served("gbt:sha256:ab", 10, 19)],
        [served("lr:4", 25, 29), served("lr:3", 20, 24), served("gbt:sha256:ab", 20, 29)],
        [served("lr:4", 30, 32), served("lr:3", 33, 39), served("gbt:sha256:ab", 30, 39)],
    ]
    batches = {"buckets": [{"versions": {"buckets": buckets}} for buckets in over_time]}

    assert queries.read_versions({"aggregations": {"batches": batches}}) == (
        Version("gbt", "sha256:ab", 10, 39),
        Version("lr", "3", 10, 24),
        Version("lr", "4", 25, 32),
        Version("lr", "3", 33, 39),
    )


def test_throughput_is_that_of_the_batches_that_started():
    """The throughput has the events and the total duration of the batches that started in a bucket."""
    topic = {"key": "ml", "first": {"value": 60_300.0}, "events": {"value": 30.0}, "busy": {"value": 900.0}}
    bucket = {"key": 60_000.0, "topics": {"buckets": [topic]}}

    assert queries.read_throughput({"aggregations": {"batches": {"buckets": [bucket]}}}) == (
        Throughput(60_300, 30, 900),
    )
