"""Spark's progress reports of a query as facts about batches."""

from streamscore.stream.progress import ProgressReader


def report(batch, has_run=True):
    """Return the used part of Spark's progress report of a batch."""
    return {
        "id": "q",
        "batchId": batch,
        "timestamp": "2026-11-24T08:00:00.000Z",
        "durationMs": {"triggerExecution": 200} | ({"addBatch": 150} if has_run else {}),
        "sources": [
            {"endOffset": '{"ml":{"0":20,"1":4}}', "latestOffset": '{"ml":{"0":25,"1":4}}'},
        ],
    }


class Query:
    """A fake query with progress reports."""

    def __init__(self, *reports):
        self.recentProgress = list(reports)


def numbers(batches):
    """Return the numbers of batches."""
    return [batch.number for batch in batches]


def test_batch_is_read_once():
    """Each batch is read once, although Spark's list of recent progress overlaps between polls."""
    reader = ProgressReader()

    assert numbers(reader.take(Query(report(0), report(1)))) == [0, 1]
    assert reader.take(Query(report(0), report(1))) == []
    assert numbers(reader.take(Query(report(1), report(2)))) == [2]


def test_idle_trigger_is_no_batch():
    """A trigger without data, which Spark reports under the next batch's number, is not a batch."""
    reader = ProgressReader()

    assert reader.take(Query(report(2, has_run=False))) == []
    assert numbers(reader.take(Query(report(2, has_run=False), report(2)))) == [2]


def test_batch_tells_where_it_ended_and_what_is_left():
    """A batch has its end offsets and the lag, over all partitions."""
    (batch,) = ProgressReader().take(Query(report(0)))

    assert batch.ends == {("ml", 0): 20, ("ml", 1): 4}
    assert batch.lag == 5
    assert batch.lags == {("ml", 0): 5, ("ml", 1): 0}
    assert batch.observed == {}
