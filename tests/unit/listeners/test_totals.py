"""The running totals: from what the stream observed to what people read."""

import base64
import struct
import zlib

import pytest
from rich.console import Console

from streamscore.listeners.totals import Totals
from streamscore.scoring.served import ServedModel
from streamscore.stream.progress import committed


class Served(ServedModel):
    """A model without a pipeline."""

    score_kind = "probability"


MODELS = [Served("lr", "3", None, 2), Served("svm", "4", None, 2)]


def cells(scored, labelled, positive, correct):
    """Return events by label and prediction."""
    right = min(positive, correct)
    return {
        (None, 0): scored - labelled,
        (1, 1): right,
        (1, 0): positive - right,
        (0, 0): correct - right,
        (0, 1): labelled - positive - correct + right,
    }


def packed(*models):
    """Return statistics as the JVM packs them, one of each model, from its events by label and prediction."""
    data, codes = b"", 102
    for position, counts in enumerate(models):
        rows = [
            struct.pack(">2q", ((0 if label is None else label + 1) * codes + prediction + 1) * 513 + 256, events)
            for (label, prediction), events in counts.items()
            if events
        ]
        data += struct.pack(">qiq9dii", 0, position, 0, *[0.0] * 9, codes, len(rows)) + b"".join(rows)
    return base64.b64encode(zlib.compress(data)).decode()


def progress(batch, events=10, rejected=0, labelled=10, positive=3, correct=(8, 6), latest=25, end=20):
    """Return a batch's progress as Spark reports it, as far as it is used."""
    observed = {
        "events": events,
        "rejected": rejected,
        "sums": packed(*(cells(events - rejected, labelled, positive, right) for right in correct)),
    }
    return {
        "id": "q",
        "batchId": batch,
        "timestamp": "2026-11-24T08:00:00.000Z",
        "numInputRows": events,
        "processedRowsPerSecond": 50.0,
        "durationMs": {"triggerExecution": 200},
        "observedMetrics": {"quality": observed} if events else {},
        "sources": [
            {
                "endOffset": f'{{"ml":{{"0":{end},"1":4}}}}',
                "latestOffset": f'{{"ml":{{"0":{latest},"1":4}}}}',
            }
        ],
    }


def hear(totals, *reports):
    """Let totals hear of batches."""
    for report in reports:
        totals.committed(committed(report))


@pytest.fixture
def totals():
    """Totals of two batches with labels."""
    totals = Totals(MODELS, synthetic=False)
    hear(totals, progress(0), progress(1, rejected=2, labelled=8, positive=2, correct=(4, 4), latest=20))
    return totals


def test_batches_add_up(totals):
    """Counts per run and per model, accuracy beside the baseline."""
    summary = totals.summary()

    assert {name: summary[name] for name in ("events", "scored", "rejected", "labelled", "batches", "lag")} == {
        "events": 20,
        "scored": 18,
        "rejected": 2,
        "labelled": 18,
        "batches": 2,
        "lag": 0,
    }
    assert summary["majority_rate"] == 13 / 18
    assert summary["models"]["lr"] == {
        "version": "3",
        "scored": 18,
        "correct": 12,
        "accuracy": 12 / 18,
        "earlier_versions": [],
    }
    assert summary["models"]["svm"]["correct"] == 10


def test_versions_of_a_model_are_counted_apart(totals):
    """A new version is not credited with what the one before it got right."""
    totals.models = [MODELS[0], Served("svm", "5", None, 2)]
    hear(totals, progress(2, correct=(8, 9)))
    models = totals.summary()["models"]

    assert (models["lr"]["scored"], models["lr"]["correct"]) == (28, 20)
    assert models["svm"] == {
        "version": "5",
        "scored": 10,
        "correct": 9,
        "accuracy": 0.9,
        "earlier_versions": [{"version": "4", "scored": 18, "correct": 10, "accuracy": 10 / 18}],
    }
    assert "svm 90.00%" in totals.line()
    assert totals.table().row_count == 3


def test_lag_is_what_the_topic_holds_beyond_the_batch():
    """Over all partitions."""
    totals = Totals(MODELS, synthetic=False)
    hear(totals, progress(0, latest=27, end=20))

    assert totals.lag == 7


def test_lag_stays_when_nobody_has_looked():
    """A batch that is replayed is planned already: Spark does not ask what the topic holds."""
    totals = Totals(MODELS, synthetic=False)
    replayed = progress(1)
    replayed["sources"][0]["latestOffset"] = None
    hear(totals, progress(0, latest=27, end=20), replayed)

    assert totals.lag == 7


def test_batch_of_a_transactions_marks_alone_brings_the_lag_up_to_date():
    """It has offsets of its own and no events."""
    totals = Totals(MODELS, synthetic=False)
    marks = progress(1, events=0, latest=25, end=25)
    marks["observedMetrics"] = {"quality": {"events": 0, "rejected": 0, "sums": packed()}}
    hear(totals, progress(0), marks)

    assert (totals.lag, totals.events, totals.batches) == (0, 10, 2)


def test_without_labels_there_is_no_accuracy():
    """A dash, not zero and not a division by zero."""
    totals = Totals(MODELS, synthetic=False)
    hear(totals, progress(0, labelled=0, positive=0, correct=(0, 0)))

    assert totals.summary()["models"]["lr"]["accuracy"] is None
    assert totals.summary()["majority_rate"] is None
    assert "lr -, svm -" in totals.line()


def test_baseline_is_that_of_the_most_frequent_of_all_labels():
    """With three classes too; a label that no model knows counts against it."""
    several = progress(0, labelled=10)
    unknown = 100
    several["observedMetrics"]["quality"]["sums"] = packed({(0, 0): 2, (1, 0): 3, (2, 0): 4, (unknown, 0): 5})
    totals = Totals([Served("lr", "3", None, 2, classes=3)], synthetic=False)
    hear(totals, several)

    assert totals.summary()["majority_rate"] == 4 / 14


def test_line_and_table_say_the_same(totals):
    """One for logs, one for terminals."""
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(totals.table())
    table = console.export_text()

    assert "accuracy lr 66.67%, svm 55.56%, majority-class baseline 72.22%" in totals.line()
    for text in ("20 events", "rejected 2", "lr", "66.67%", "55.56%", "72.22%"):
        assert text in table
