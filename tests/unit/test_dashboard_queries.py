"""What is asked of Elasticsearch, and what its answers mean."""

import json

import pytest

from streamscore import config
from streamscore.dashboard import queries, scores
from streamscore.dashboard.figures import Answer, Batch, Bucket, Stream, Tally, Version
from streamscore.dashboard.queries import Rate
from streamscore.dashboard.windows import Extent, Window
from streamscore.schema import OUTCOME_PROPERTIES, REJECTED_PROPERTIES, STATUS_PROPERTIES

SETTINGS = config.load().elasticsearch
WINDOW = Window(60_000, 1_000, whole=False)
EVERYTHING = Window(60_000, 1_000, whole=True)
SEARCHES = [
    queries.extent(SETTINGS),
    queries.stream(SETTINGS),
    queries.counts(SETTINGS, WINDOW),
    queries.tallies(SETTINGS, WINDOW, [61_000]),
    queries.rejected(SETTINGS, WINDOW),
    queries.batches(SETTINGS, WINDOW),
    queries.recent(SETTINGS, Rate(30_000, 60_000)),
    scores.spans(SETTINGS, WINDOW),
    scores.bins(SETTINGS, WINDOW, scores.Span("lr", 0.0, 1.0)),
]


def fields(node):
    """Return the fields that a request names."""
    if isinstance(node, dict):
        own = [node["field"]] if isinstance(node.get("field"), str) else []
        # A range is a filter on the field that it names, or an aggregation, which has a "field" of its own.
        filters = [node.get("term", {}), *([node["range"]] if "field" not in node.get("range", ["field"]) else [])]
        named = [name for one in filters for name in one]
        return {*own, *named, *(field for value in node.values() for field in fields(value))}
    if isinstance(node, list):
        return {field for value in node for field in fields(value)}
    return set()


@pytest.mark.parametrize("search", SEARCHES)
def test_no_request_fetches_documents(search):
    """The server counts; the only document that comes back is the last batch's status."""
    hits = json.dumps(search.body).count("top_hits")

    assert search.body["size"] == 0
    assert hits == (search == queries.stream(SETTINGS))


@pytest.mark.parametrize("search", SEARCHES)
def test_every_field_is_in_the_mapping_of_its_index(search):
    """A field with another name would quietly count nothing."""
    mappings = {
        SETTINGS.index: OUTCOME_PROPERTIES,
        SETTINGS.rejected_index: REJECTED_PROPERTIES,
        SETTINGS.status_index: STATUS_PROPERTIES,
    }
    for name in search.indices.split(","):
        assert fields(search.body) <= set(mappings[name])


def test_everything_is_asked_for_without_a_filter():
    """So that the server can answer from its index; a shorter time range has one."""
    assert "query" not in queries.counts(SETTINGS, EVERYTHING).body
    assert queries.counts(SETTINGS, WINDOW).body["query"] == {"range": {"@timestamp": {"gte": 60_000}}}


def test_buckets_that_follow_each_other_are_one_range():
    """The first, the last, and those between them."""
    query = queries.tallies(SETTINGS, WINDOW, [64_000, 61_000, 62_000]).body["query"]
    ranges = [entry["range"]["@timestamp"] for entry in query["bool"]["filter"][0]["bool"]["should"]]

    assert ranges == [{"gte": 61_000, "lt": 63_000}, {"gte": 64_000, "lt": 65_000}]


def test_tallies_are_read_from_the_nested_buckets():
    """What has no label has no answer, but counts as an event."""
    answer = {
        "aggregations": {
            "buckets": {
                "buckets": [
                    {
                        "key": 61_000.0,
                        "doc_count": 10,
                        "models": {
                            "buckets": [
                                {
                                    "key": "lr",
                                    "versions": {
                                        "buckets": [
                                            {
                                                "key": "3",
                                                "doc_count": 10,
                                                "labels": {
                                                    "buckets": [
                                                        {
                                                            "key": 1.0,
                                                            "predictions": {"buckets": [{"key": 0.0, "doc_count": 8}]},
                                                        }
                                                    ]
                                                },
                                            }
                                        ]
                                    },
                                }
                            ]
                        },
                    }
                ]
            }
        }
    }

    assert queries.read_tallies(answer) == {61_000: Bucket(61_000, 10, (Tally("lr", "3", 10, (Answer(1.0, 0.0, 8),)),))}


@pytest.mark.parametrize("answer", [{}, {"aggregations": {}}])
def test_index_that_does_not_exist_has_nothing_to_say(answer):
    """The page says what to do, instead of failing."""
    assert queries.read_extent(answer) is None
    assert queries.read_stream(answer) == Stream(None, None, synthetic=False)
    assert queries.read_counts(answer) == queries.read_tallies(answer) == queries.read_rejected(answer) == {}
    assert queries.read_versions(answer) == queries.read_throughput(answer) == ()
    assert scores.read_spans(answer) == scores.read_bins(answer) == []


def test_empty_index_has_no_extent():
    """The smallest of no numbers is null."""
    assert queries.read_extent({"aggregations": {"first": {"value": None}, "last": {"value": None}}}) is None
    assert queries.read_extent({"aggregations": {"first": {"value": 5.0}, "last": {"value": 9.0}}}) == Extent(5, 9)


def test_stream_is_read_from_its_last_status():
    """Lag and duration are those of the last batch; one synthetic batch makes all of it synthetic."""
    source = {"batch_ms": 400, "lag": 12, "refused": ["lr:4: damaged"]}
    answer = {
        "aggregations": {
            "started": {"value": 1_000.0},
            "synthetic": {"doc_count": 1},
            "latest": {"hits": {"hits": [{"_source": source, "sort": [9_000]}]}},
        }
    }

    assert queries.read_stream(answer) == Stream(
        Batch(9_000, 400, 12), 1_000, synthetic=True, refused=("lr:4: damaged",)
    )


def test_versions_are_in_order_of_their_first_batch():
    """Whatever comes after the first colon is the version."""
    buckets = [
        {"key": "lr:4", "first": {"value": 50.0}, "last": {"value": 90.0}},
        {"key": "lr:3", "first": {"value": 10.0}, "last": {"value": 40.0}},
        {"key": "gbt:sha256:ab", "first": {"value": 10.0}, "last": {"value": 90.0}},
    ]

    assert queries.read_versions({"aggregations": {"versions": {"buckets": buckets}}}) == (
        Version("gbt", "sha256:ab", 10, 90),
        Version("lr", "3", 10, 40),
        Version("lr", "4", 50, 90),
    )


@pytest.mark.parametrize(
    ("started", "batch_ms", "since"),
    [
        (0, 400, 70_000),  # a long run: the last thirty seconds
        (90_000, 400, 90_000),  # ten seconds old: since its start
        (99_900, 400, 99_000),  # just started: a second, lest the rate be absurd
        (0, 20_000, 40_000),  # long batches: three of them
    ],
)
def test_rate_is_averaged_over_the_last_batches(started, batch_ms, since):
    """Up to this moment, so that it falls to nothing when the stream stops."""
    rate = queries.rate_span(Stream(Batch(99_950, batch_ms, 0), started, synthetic=False), 100_000)

    assert rate == Rate(since, 100_000)
    assert queries.read_rate({"aggregations": {"events": {"value": 300.0}}}, rate) == 300_000 / (100_000 - since)


def test_no_batch_no_rate():
    """Unknown, not zero."""
    assert queries.rate_span(Stream(None, None, synthetic=False), 100_000) is None
