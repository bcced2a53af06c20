"""Which buckets are counted when, and what a page shows while Elasticsearch is away."""

from types import SimpleNamespace

import pytest

from streamscore import config
from streamscore.clients import elasticsearch
from streamscore.dashboard import reader
from streamscore.dashboard.figures import Bucket
from streamscore.dashboard.reader import Fault, Reader, plan
from streamscore.errors import ServerError

SETTINGS = config.load().elasticsearch


def known(**documents):
    """Return buckets as they were counted: s1=5 is the one that starts at 1 and holds 5 documents."""
    return {int(name[1:]): Bucket(int(name[1:]), count, ()) for name, count in documents.items()}


@pytest.mark.parametrize(
    ("counted", "counts", "budget", "due"),
    [
        (known(), {1: 5, 2: 5}, None, [2, 1]),  # nothing is known: everything, the newest first
        (known(s1=5, s2=5), {1: 5, 2: 5}, None, [1]),  # nothing changed: the one that was counted longest ago
        (known(s2=5, s1=5), {1: 5, 2: 5}, None, [2]),
        (known(s1=5, s2=5), {1: 5, 2: 6, 3: 1}, None, [3, 2, 1]),
        (known(), {1: 5, 2: 5, 3: 5}, 10, [3, 2]),  # the rest comes next time
        (known(), {1: 50, 2: 50, 3: 50}, 10, [3, 2]),  # two at least
        (known(s1=50, s3=50), {1: 51, 2: 50, 3: 51}, 10, [3, 2]),  # of which one may never have been counted
        (known(s1=50, s2=50), {1: 50, 2: 51}, 10, [2]),  # checks have to wait
        (known(), {}, 10, []),
    ],
)
def test_plan(counted, counts, budget, due):
    """The newest that changed, those that were never counted, the others, within the budget; then one to check."""
    assert plan(counted, counts, budget) == due


class Server:
    """Answers as Elasticsearch does, from a number of documents per bucket; remembers what it was asked to count."""

    def __init__(self, monkeypatch):
        self.counts = {}
        self.asked = []
        self.fault = None
        monkeypatch.setattr(elasticsearch, "search", self.search)

    def search(self, _client, _settings, searches):
        """Answer some searches."""
        if self.fault:
            raise ServerError(self.fault)
        return [self.answer(search.body) for search in searches], 1

    def answer(self, body):
        """Answer one search."""
        aggregations = body["aggs"]
        if "first" in aggregations and self.counts:
            ends = {"first": {"value": min(self.counts)}, "last": {"value": max(self.counts)}}
            return {"aggregations": ends}
        if "buckets" not in aggregations:
            return {}
        starts = list(self.counts)
        if "aggs" in aggregations["buckets"]:
            ranges = [entry["range"]["@timestamp"] for entry in body["query"]["bool"]["filter"][0]["bool"]["should"]]
            starts = [start for start in starts if any(one["gte"] <= start < one["lt"] for one in ranges)]
            self.asked.append(starts)
        return {
            "aggregations": {"buckets": {"buckets": [{"key": s, "doc_count": self.counts[s]} for s in starts]}},
        }


@pytest.fixture
def server(monkeypatch):
    """A stand-in for Elasticsearch."""
    return Server(monkeypatch)


@pytest.fixture
def subject():
    """The reader under test."""
    with_budget = Reader(SETTINGS, budget=100)
    yield with_budget
    with_budget.close()


def test_only_what_changed_is_counted_again(server, subject):
    """And the bucket that was counted longest ago, in turn."""
    server.counts = {0: 10, 1_000: 10, 2_000: 10}
    subject.read("all", 10_000)
    server.counts[2_000] = 11
    subject.read("all", 10_000)
    subject.read("all", 10_000)

    assert server.asked == [[0, 1_000, 2_000], [0, 2_000], [1_000]]


def test_many_documents_are_counted_in_parts(server, subject):
    """The newest first; what is left is said, and known after some refreshes."""
    server.counts = {0: 60, 1_000: 60, 2_000: 60, 3_000: 60, 4_000: 60}
    left = [subject.read("all", 10_000).pending for _ in range(3)]

    assert left == [180, 60, 0]
    assert server.asked[0] == [3_000, 4_000]


def test_counting_comes_to_an_end_while_a_stream_runs(server, subject):
    """Of which the newest bucket has always changed, and is larger than what one refresh counts."""
    server.counts = dict.fromkeys(range(0, 6_000, 1_000), 200)
    left = []
    for _ in range(6):
        server.counts[5_000] += 10
        left.append(subject.read("all", 10_000).pending)

    assert left == [800, 600, 400, 200, 0, 0]


def test_bucket_whose_documents_are_gone_is_gone(server, subject):
    """An index that was deleted and made again starts from nothing."""
    server.counts = {0: 10, 1_000: 10}
    subject.read("all", 10_000)
    server.counts = {1_000: 10}
    shown = subject.read("all", 10_000)

    assert [bucket.start for bucket in shown.buckets] == [1_000]


def test_what_is_remembered_does_not_grow(server, subject):
    """A page may stay open for weeks: only the buckets that it shows are kept."""
    for step in range(100):
        server.counts = dict.fromkeys(range(step * 1000, step * 1000 + 10000, 1000), 1)
        subject.read("all", 10_000_000)

    assert [len(known) for _, known in subject._known.values()] == [10]


def test_longer_buckets_are_counted_anew(server, subject):
    """When a run grows, its buckets do; what was counted in shorter ones is of no use."""
    server.counts = {0: 1, 60_000: 1}
    subject.read("all", 10_000_000)
    server.counts = {0: 1, 60_000: 1, 120_000: 1}
    subject.read("all", 10_000_000)

    assert server.asked == [[0, 60_000], [0, 60_000, 120_000]]


def test_viewers_share_what_was_read_a_moment_ago(server, subject):
    """Many open pages ask no more often than one."""
    server.counts = {0: 1}
    first = subject.view("all", 10_000, 1_000)

    assert subject.view("all", 10_900, 1_000) is first
    assert subject.view("all", 11_000, 1_000) is not first


def test_last_figures_stay_while_elasticsearch_is_away(server, subject):
    """With the moment since when it is away, and why; they are replaced when it is back."""
    server.counts = {0: 1}
    last = subject.view("all", 10_000, 1_000).snapshot
    server.fault = "no Elasticsearch answers"

    for now in (12_000, 14_000):
        shown = subject.view("all", now, 1_000)
        assert (shown.snapshot, shown.fault) == (last, Fault(12_000, "no Elasticsearch answers", refused=False))

    server.fault = None
    back = subject.view("all", 16_000, 1_000)

    assert back.fault is None
    assert back.snapshot.read_at == 16_000


def test_elasticsearch_may_be_away_from_the_start(server, subject):
    """There is nothing to show but that."""
    server.fault = "no Elasticsearch answers"
    shown = subject.view("all", 10_000, 1_000)

    assert (shown.snapshot, shown.fault) == (None, Fault(10_000, "no Elasticsearch answers", refused=False))


def test_viewers_do_not_wait_one_after_the_other(server, subject, monkeypatch):
    """A server that is frozen is asked once for all that came while it did not answer."""
    server.fault = "no Elasticsearch answers"
    clock = iter((0.0, 5.0, 5.0, 5.0))
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    first = subject.view("all", 10_000, 1_000)
    server.fault = "asked again"

    assert subject.view("all", 14_000, 1_000) is first
    assert subject.view("all", 16_000, 1_000).fault.reason == "asked again"
