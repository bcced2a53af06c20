"""The status documents: their fields, and their retries while Elasticsearch is unreachable."""

import base64
import zlib
from types import SimpleNamespace

import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LinearSVC, LogisticRegression
from pyspark.ml.linalg import Vectors

from streamscore.clients import elasticsearch
from streamscore.errors import RefusedError, ServerError
from streamscore.listeners.status import StatusDocuments
from streamscore.listeners.totals import Totals
from streamscore.schema import STATUS_PROPERTIES
from streamscore.scoring.served import ServedModel
from streamscore.stream.progress import CommittedBatch

OBSERVED = {"events": 10, "rejected": 1, "sums": base64.b64encode(zlib.compress(b"")).decode()}


def batch(number):
    """Return a committed batch."""
    return CommittedBatch("q", number, "2026-11-24T08:00:00.000Z", {"quality": OBSERVED}, 5, 200, 50.0, {})


@pytest.fixture(scope="module")
def models(spark):
    """A model with probabilities, and one with margins."""
    rows = [(0.0, Vectors.dense([0.0, 1.0])), (1.0, Vectors.dense([1.0, 0.0]))]
    data = spark.createDataFrame(rows, ["label", "features"])
    lr, svm = (Pipeline(stages=[stage]).fit(data) for stage in (LogisticRegression(), LinearSVC()))
    return [ServedModel("lr", "3", lr, 2), ServedModel("svm", "4", svm, 2)]


@pytest.fixture
def status(make_config, models):
    """The listener of a stream with two models."""
    totals = Totals(models, synthetic=True)
    config = make_config("elasticsearch.url=http://127.0.0.1:1", "kafka.topics.input=clicks")
    listener = StatusDocuments(config, totals)
    return SimpleNamespace(
        totals=totals, listener=listener, hear=lambda one: (totals.committed(one), listener.committed(one))
    )


@pytest.fixture
def written(monkeypatch):
    """The numbers of the written batches; ``fault`` is an error to raise first, if set."""
    taken = SimpleNamespace(batches=[], fault=lambda _: None)

    def put(_client, _settings, document):
        error = taken.fault(document)
        if error is not None:
            raise error
        taken.batches.append(document["batch"])

    monkeypatch.setattr(elasticsearch, "put_status", put)
    return taken


def test_status_document_describes_the_batch(status, written):
    """The document has exactly the fields of the mapping."""
    status.hear(batch(5))
    document = status.listener.document(batch(5))

    assert document == {
        "@timestamp": "2026-11-24T08:00:00.000Z",
        "query": "q",
        "batch": 5,
        "events": 10,
        "rejected": 1,
        "lag": 5,
        "batch_ms": 200,
        "events_per_second": 50.0,
        "models": ["lr:3", "svm:4"],
        "refused": [],
        "synthetic": True,
        "topic": "clicks",
        "score_kinds": ["lr:3:probability", "svm:4:margin"],
    }
    assert document.keys() == STATUS_PROPERTIES.keys()
    assert written.batches == [5]


def test_status_that_was_not_taken_is_written_with_the_next(status, written):
    """A document whose write failed is written with the next one."""
    written.fault = lambda _: ServerError("away")
    status.hear(batch(1))
    status.hear(batch(2))
    assert written.batches == []
    written.fault = lambda _: None
    status.hear(batch(3))
    assert written.batches == [1, 2, 3]
    written.fault = lambda _: ServerError("away")
    status.hear(batch(4))
    written.fault = lambda _: None
    status.listener.close()

    assert written.batches == [1, 2, 3, 4]


def test_status_that_is_refused_keeps_no_other_waiting(status, written):
    """A refused document is dropped, so that it does not block others."""
    written.fault = lambda document: RefusedError("not such a document") if document["batch"] == 1 else None
    status.hear(batch(1))
    status.hear(batch(2))

    assert written.batches == [2]
