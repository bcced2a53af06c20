"""The reader's cache of buckets, and the view while Elasticsearch is unreachable."""

from types import SimpleNamespace

import pytest

from streamscore import config
from streamscore.clients import elasticsearch
from streamscore.dashboard import reader
from streamscore.dashboard.reader import Fault, Reader
from streamscore.errors import ServerError
from streamscore.quality.statistic import Statistic
from streamscore.quality.windows import HOUR, MINUTE, SECOND

CONFIG = config.load()
NOW = 1_000 * HOUR


class Server:
    """A fake Elasticsearch with the events of windows of ten seconds, which records its requests."""

    def __init__(self, monkeypatch):
        self.windows = {}
        self.written = {}
        self.asked = []
        self.fault = None
        monkeypatch.setattr(elasticsearch, "search", self.search)

    def write(self, **windows):
        """Write events: w20=5 puts 5 into the window that starts 20 seconds ago."""
        for name, events in windows.items():
            begin = NOW - int(name[1:]) * SECOND
            self.windows[begin] = events
            self.written[begin] = max(self.written.values(), default=-1) + 1

    def search(self, _client, _settings, searches):
        """Answer several searches."""
        if self.fault:
            raise ServerError(self.fault)
        return [self.answer(body) for _, body in searches], 1

    def answer(self, body):
        """Answer one search."""
        if body["size"] == 1:
            order = body["sort"][0]["@timestamp"]
            begins = sorted(self.windows, reverse=order == "desc")[:1]
            return {"hits": {"hits": [{"sort": [begin]} for begin in begins]}}
        if {"term": {"seconds": 0}} in body.get("query", {}).get("bool", {}).get("filter", ()):
            return {"hits": {"hits": []}}  # no comparison of models
        if "aggs" not in body:
            ranges = [entry["range"]["@timestamp"] for entry in body["query"]["bool"]["filter"][1]["bool"]["should"]]
            inside = [at for at in sorted(self.windows) if any(one["gte"] <= at < one["lt"] for one in ranges)]
            self.asked.append([(NOW - at) // SECOND for at in inside])
            return {"hits": {"hits": [{"_source": self.document(at), "sort": [at]} for at in inside]}}
        return {"aggregations": {"buckets": {"buckets": self.marks(body)}}} if "buckets" in body["aggs"] else {}

    def document(self, begin):
        """Return the document of a window."""
        of = {"topic": "ml", "model": "lr", "model_version": "1", "@timestamp": begin}
        return of | Statistic("probability", self.windows[begin]).to_document()

    def marks(self, body):
        """Return the fingerprints of the buckets."""
        interval = int(body["aggs"]["buckets"]["date_histogram"]["fixed_interval"].removesuffix("ms"))
        starts = sorted({begin - begin % interval for begin in self.windows})
        inside = {start: [at for at in self.windows if start <= at < start + interval] for start in starts}
        return [
            {
                "key": start,
                "doc_count": len(begins),
                "last": {"value": float(max(self.written[begin] for begin in begins))},
                "scored": {"value": float(sum(self.windows[begin] for begin in begins))},
            }
            for start, begins in inside.items()
        ]


@pytest.fixture
def server(monkeypatch):
    """A fake of Elasticsearch."""
    return Server(monkeypatch)


@pytest.fixture
def subject():
    """The reader under test."""
    one = Reader(CONFIG)
    yield one
    one.close()


def test_only_what_was_written_to_is_read_again(server, subject):
    """A refresh reads only the changed windows, also past ones."""
    server.write(w50=10, w30=10, w20=10)
    before = subject.read("all", NOW)
    server.write(w20=15, w50=11)
    after = subject.read("all", NOW)
    subject.read("all", NOW)

    assert server.asked == [[50, 30, 20], [50, 20]]
    assert [bucket.events for bucket in before.buckets] == [10, 10, 10]
    assert [bucket.events for bucket in after.buckets] == [11, 10, 15]


def test_window_that_was_written_with_the_same_number_of_events_is_read_again(server, subject):
    """A rewritten window, as after a replay, is read again even with the same number of events."""
    server.write(w20=10)
    subject.read("all", NOW)
    server.write(w20=10)
    subject.read("all", NOW)

    assert server.asked == [[20], [20]]


def test_bucket_is_made_of_whole_windows(server, subject):
    """Buckets consist of whole windows, whatever the event rate."""
    server.write(**{f"w{seconds}": 1_000_000 for seconds in range(10, 3_601, 10)})
    shown = subject.read("1h", NOW)

    assert shown.window.interval == MINUTE
    assert [bucket.events for bucket in shown.buckets] == [6_000_000] * 60
    assert [len(part) for part in server.asked] == [360]


def test_bucket_whose_documents_are_gone_is_gone(server, subject):
    """Buckets whose documents were deleted disappear."""
    server.write(w50=10, w20=10)
    subject.read("all", NOW)
    del server.windows[NOW - 50 * SECOND]
    shown = subject.read("all", NOW)

    assert [bucket.start for bucket in shown.buckets] == [NOW - 20 * SECOND]


def test_what_is_remembered_does_not_grow(server, subject):
    """The cache keeps only the shown buckets."""
    for step in range(0, 600, 10):
        server.windows.clear()
        server.write(**{f"w{step + seconds}": 1 for seconds in range(0, 100, 10)})
        subject.read("all", NOW)

    assert [len(known) for _, known in subject._known.values()] == [10]


def test_longer_buckets_are_read_anew(server, subject):
    """When the buckets become longer, all are read again."""
    server.write(w20=1)
    subject.read("all", NOW)
    server.write(w900=1)
    subject.read("all", NOW)

    assert server.asked == [[20], [900, 20]]


def test_documents_that_came_in_between_are_read_next_time(server, subject, monkeypatch):
    """Documents that arrive between the two requests are shown by the next refresh at the latest."""
    server.write(w20=1)
    marks = server.marks

    def marks_and_write(body):
        found = marks(body)
        server.write(w20=2)
        return found

    monkeypatch.setattr(server, "marks", marks_and_write)
    subject.read("all", NOW)
    monkeypatch.setattr(server, "marks", marks)
    shown = subject.read("all", NOW)

    assert [bucket.events for bucket in shown.buckets] == [2]
    assert len(server.asked) == 2


def test_viewers_share_what_was_read_a_moment_ago(server, subject):
    """Several viewers share a recent view."""
    server.write(w20=1)
    first = subject.view("all", 10_000, 1_000)

    assert subject.view("all", 10_900, 1_000) is first
    assert subject.view("all", 11_000, 1_000) is not first


def test_last_figures_stay_while_elasticsearch_is_away(server, subject):
    """During an outage the last figures stay with its start and reason, and are replaced afterwards."""
    server.write(w20=1)
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
    """Without any figures the view has the fault alone."""
    server.fault = "no Elasticsearch answers"
    shown = subject.view("all", 10_000, 1_000)

    assert (shown.snapshot, shown.fault) == (None, Fault(10_000, "no Elasticsearch answers", refused=False))


def test_viewers_do_not_wait_one_after_the_other(server, subject, monkeypatch):
    """Viewers that queue behind a timeout share its failure."""
    server.fault = "no Elasticsearch answers"
    clock = iter((0.0, 5.0, 5.0, 5.0))
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    first = subject.view("all", 10_000, 1_000)
    server.fault = "asked again"

    assert subject.view("all", 14_000, 1_000) is first
    assert subject.view("all", 16_000, 1_000).fault.reason == "asked again"
