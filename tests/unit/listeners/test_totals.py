"""The running totals, from the stream's observations."""

import base64
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from rich.console import Console

from streamscore.listeners.totals import Totals
from streamscore.quality.estimates import wilson
from streamscore.quality.evaluation import FIGURES, evaluate
from streamscore.quality.statistic import SUMS, of_rows
from streamscore.scoring.served import ServedModel
from streamscore.stream.progress import committed


class Served(ServedModel):
    """A model without a pipeline."""

    score_kind = "probability"


class Plain(Served):
    """A model whose scores are margins."""

    score_kind = "margin"


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


def packed(*models, declined=0):
    """Return the statistics of models in the JVM's packed form, from events by label and prediction."""
    data, codes = b"", 102
    for position, counts in enumerate(models):
        rows = [
            struct.pack(">2q", ((0 if label is None else label + 1) * codes + prediction + 1) * 513 + 256, events)
            for (label, prediction), events in counts.items()
            if events
        ]
        data += struct.pack(
            f">qiqq{len(SUMS)}dii", 0, position, 0, declined, *[0.0] * len(SUMS), codes, len(rows)
        ) + b"".join(rows)
    return base64.b64encode(zlib.compress(data)).decode()


def progress(batch, events=10, rejected=0, labelled=10, positive=3, correct=(8, 6), latest=25, end=20):
    """Return the used part of Spark's progress report of a batch."""
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
    """Pass committed batches to the totals."""
    for report in reports:
        totals.committed(committed(report))


@pytest.fixture
def totals():
    """Totals of two batches with labels."""
    totals = Totals(MODELS, synthetic=False)
    hear(totals, progress(0), progress(1, rejected=2, labelled=8, positive=2, correct=(4, 4), latest=20))
    return totals


def test_version_may_come_back_with_another_kind_of_score(totals):
    """After a change of the score kind, figures of scores are undefined; accuracy counts all events."""
    totals.models = [MODELS[0], Plain("svm", "4", None, 2)]
    hear(totals, progress(2), progress(3))
    found = totals.summary()["models"]["svm"]

    assert (found["scored"], found["correct"]) == (38, 10 + 6 + 6)
    assert {name for name in ("auc", "log_loss", "rig") if found["figures"][name] is not None} == set()
    assert found["figures"]["accuracy"] == wilson(22, 38).to_json()
    assert totals.table().row_count == 2


def test_batches_add_up(totals):
    """Counts are summed per run and per model, with accuracy and baseline."""
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
    found = summary["models"]["lr"]["figures"]
    assert summary["models"]["lr"] == {
        "version": "3",
        "scored": 18,
        "declined": 0,
        "correct": 12,
        "accuracy": 12 / 18,
        "figures": found,
        "earlier_versions": [],
    }
    assert list(found) == list(FIGURES)
    assert found["accuracy"] == wilson(12, 18).to_json()
    assert found["baseline"] == {"value": 13 / 18}
    assert found["rig"] is None  # the sums of probabilities are empty here
    json.dumps(summary)
    assert summary["models"]["svm"]["correct"] == 10


def test_declined_events_are_shown_once_there_are_any(totals):
    """The table, the log and the summary say how many events a model declined; the others count on."""
    assert "declined" not in str(drawn(totals, 100))
    report = progress(2)
    counts = [cells(7, 5, 3, 4), cells(10, 10, 3, 6)]
    report["observedMetrics"]["quality"]["sums"] = packed(*counts, declined=3)
    hear(totals, report)
    models = totals.summary()["models"]

    assert (models["lr"]["scored"], models["lr"]["declined"]) == (25, 3)
    assert totals.labelled == 28  # those of the model that has scored more
    assert totals.lines()[1].endswith(", declined 3")
    assert "declined" in str(drawn(totals, 100))


def test_versions_of_a_model_are_counted_apart(totals):
    """Each version of a model has its own counts."""
    totals.models = [MODELS[0], Served("svm", "5", None, 2)]
    hear(totals, progress(2, correct=(8, 9)))
    models = totals.summary()["models"]

    assert (models["lr"]["scored"], models["lr"]["correct"]) == (28, 20)
    (earlier,) = models["svm"]["earlier_versions"]
    for version, expected in (
        (models["svm"], {"version": "5", "scored": 10, "correct": 9, "accuracy": 0.9}),
        (earlier, {"version": "4", "scored": 18, "correct": 10, "accuracy": 10 / 18}),
    ):
        assert {key: version[key] for key in expected} == expected
        assert version["figures"]["accuracy"] == wilson(version["correct"], version["scored"]).to_json()
    assert totals.lines()[2].startswith("svm 5: accuracy 90.00% [59.58, 98.21] wide, ROC AUC ")
    assert totals.table().row_count == 3


def test_lag_is_what_the_topic_holds_beyond_the_batch():
    """The lag is summed over all partitions."""
    totals = Totals(MODELS, synthetic=False)
    hear(totals, progress(0, latest=27, end=20))

    assert totals.lag == 7


def test_lag_stays_when_nobody_has_looked():
    """The lag is unchanged by a replayed batch, for which Spark does not ask Kafka."""
    totals = Totals(MODELS, synthetic=False)
    replayed = progress(1)
    replayed["sources"][0]["latestOffset"] = None
    hear(totals, progress(0, latest=27, end=20), replayed)

    assert totals.lag == 7


def test_batch_of_a_transactions_marks_alone_brings_the_lag_up_to_date():
    """A batch of transaction markers alone, without events, updates the lag."""
    totals = Totals(MODELS, synthetic=False)
    marks = progress(1, events=0, latest=25, end=25)
    marks["observedMetrics"] = {"quality": {"events": 0, "rejected": 0, "sums": packed()}}
    hear(totals, progress(0), marks)

    assert (totals.lag, totals.events, totals.batches) == (0, 10, 2)


def test_without_labels_there_is_no_accuracy():
    """Without labels the accuracy is a dash."""
    totals = Totals(MODELS, synthetic=False)
    hear(totals, progress(0, labelled=0, positive=0, correct=(0, 0)))

    assert totals.summary()["models"]["lr"]["accuracy"] is None
    assert totals.summary()["majority_rate"] is None
    assert totals.summary()["models"]["lr"]["figures"]["baseline"] is None
    assert totals.lines()[0].endswith("majority-class baseline –")
    assert totals.lines()[1:] == [f"{name}: accuracy –, ROC AUC –, RIG –, log loss –" for name in ("lr 3", "svm 4")]


def test_baseline_is_that_of_the_most_frequent_of_all_labels():
    """The baseline covers all labels, also unknown ones, which count against it."""
    several = progress(0, labelled=10)
    unknown = 100
    several["observedMetrics"]["quality"]["sums"] = packed({(0, 0): 2, (1, 0): 3, (2, 0): 4, (unknown, 0): 5})
    totals = Totals([Served("lr", "3", None, 2, classes=3)], synthetic=False)
    hear(totals, several)

    assert totals.summary()["majority_rate"] == 4 / 14


def drawn(totals, width):
    """Return the table's lines on a terminal of a given width, and the coloured cells."""
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(totals.table())
    coloured = re.findall("\x1b\\[3([123])m(\\S+)", console.export_text(clear=False, styles=True))
    return console.export_text().splitlines(), coloured


@pytest.mark.parametrize("width", [80, 100])
def test_lines_and_table_say_the_same(totals, width):
    """Log lines and table have the same figures, and nothing is cut off."""
    table, coloured = drawn(totals, width)

    assert totals.lines()[0].endswith(", rejected 2, lag 0, batch 200 ms; majority-class baseline 72.22%")
    assert totals.lines()[1].startswith("lr 3: accuracy 66.67% [43.75, 83.72] wide, ROC AUC ")
    for text in ("20 events", "rejected 2", "lr", "66.67%", "[43.75, 83.72]", "wide", "55.56%", "72.22%"):
        assert any(text in line for line in table)
    assert all(len(line.rstrip()) <= width and "…" not in line for line in table)
    assert coloured == []  # 18 events allow no verdict


@pytest.mark.parametrize(("right", "colour"), [(700, "2"), (300, "1"), (500, None)])
def test_only_what_is_certain_is_coloured(right, colour):
    """Only certain figures are coloured: green above the baseline, red below."""
    totals = Totals(MODELS[:1], synthetic=False)
    hear(totals, progress(0, 1_000, labelled=1_000, positive=500, correct=(right,)))
    _, coloured = drawn(totals, 100)

    assert coloured == ([] if colour is None else [(colour, f"{right / 10:.2f}%")])


def test_totals_equal_the_evaluation_of_the_rows():
    """The totals equal the evaluation of the single events."""
    random = np.random.default_rng(3)
    labels, scores = random.integers(0, 2, 500), random.random(500)
    statistic = of_rows(labels, scores > 0.5, scores, "probability")
    totals = Totals(MODELS[:1], synthetic=False, of_version={("lr", "3"): statistic})
    found = totals.summary()["models"]["lr"]["figures"]

    assert found == evaluate(statistic).to_json("lr", "3")["figures"]
    assert totals.lines()[1].endswith(f"log loss {found['log_loss']['value']:.4f}")
