"""The metrics of the job that joins late labels."""

import os
import shutil
import subprocess
from collections import Counter
from types import SimpleNamespace

import pytest
from watchers import numbers

from streamscore.clients.label_state import LabelState
from streamscore.errors import ServerError
from streamscore.listeners import label_metrics, of_labels
from streamscore.listeners.label_metrics import OUTCOMES, LabelMetrics
from streamscore.listeners.label_totals import LabelTotals
from streamscore.listeners.lag_group import LagGroup
from streamscore.local.ports import free_port
from streamscore.schema import LABEL_COUNTS
from streamscore.stream.progress import CommittedBatch

PROMTOOL = shutil.which("promtool")


@pytest.fixture
def job(make_config, monkeypatch):
    """The listeners of the job: functions that pass them a batch and read the page, and what Elasticsearch says."""
    found = SimpleNamespace(now=1_000.0, state=LabelState(7, {"lr": 0.25}), asked=[])

    def read(_config, stream):
        found.asked.append(stream)
        if isinstance(found.state, Exception):
            raise found.state
        return found.state

    monkeypatch.setattr(label_metrics.label_state, "read", read)
    monkeypatch.setattr(label_metrics.time, "monotonic", lambda: found.now)
    batches = {}
    config = make_config("kafka.topics.labels=clicks.labels", f"metrics.labels_port={free_port()}")
    totals, metrics = of_labels(config, LabelTotals(batches, 10.0))

    def hear(number, **counts):
        batches[number] = Counter(counts)
        batch = CommittedBatch("q", number, "2026-11-24T08:00:00.000Z", {}, 4, 250, 50.0, {}, {("clicks.labels", 0): 4})
        for listener in (totals, metrics):
            listener.committed(batch)

    def page():
        return metrics.metrics().body.decode()

    found.hear, found.page = hear, page
    return found


def test_counters_begin_at_zero(job):
    """Before the first batch every counter is there and 0, and Elasticsearch is not asked."""
    found = numbers(job.page())

    assert {key[1]: value for key, value in found.items() if key[0] == "streamscore_labels_total"} == dict.fromkeys(
        OUTCOMES, 0
    )
    assert found["streamscore_received_labels_total", "clicks.labels"] == 0
    assert job.asked == []
    assert not any(key[0] == "streamscore_labels_pending" for key in found)


def test_each_label_is_counted_once(job):
    """Outcomes exclude each other, so that they may be added up; those that wait are a gauge."""
    job.hear(0, received=9, matched=4, ambiguous=1, duplicate=2, rejected=1, pending=2)
    job.hear(1, matched=1, expired=1, pending=-2)
    found = numbers(job.page())

    assert set(OUTCOMES) == {*LABEL_COUNTS} - {"received", "pending", "ambiguous"}
    assert {name: found["streamscore_labels_total", name] for name in OUTCOMES} == {
        "matched": 5,
        "duplicate": 2,
        "superseded": 0,
        "expired": 1,
        "rejected": 1,
    }
    assert found["streamscore_received_labels_total", "clicks.labels"] == 9
    assert found["streamscore_ambiguous_labels_total", "clicks.labels"] == 1
    assert found["streamscore_labels_pending", "clicks.labels"] == 7
    assert found["streamscore_label_coverage_ratio", "lr"] == 0.25
    assert found["streamscore_kafka_lag_events", "0", "clicks.labels"] == 4
    assert found["streamscore_batch_duration_seconds_sum",] == pytest.approx(0.5)


def test_elasticsearch_is_asked_now_and_then(job):
    """However often the page is read, the server is asked twice a minute at most."""
    job.hear(0)
    for _ in range(5):
        job.page()
    assert job.asked == ["q"]
    job.now += 31
    job.state = LabelState(0, {})
    found = numbers(job.page())

    assert job.asked == ["q", "q"]
    assert found["streamscore_labels_pending", "clicks.labels"] == 0


def test_page_lacks_what_elasticsearch_does_not_say(job):
    """While the server is away its figures are missing, rather than old; the counters are there."""
    job.hear(0, received=3, matched=3)
    job.page()
    job.now += 31
    job.state = ServerError("away")
    found = numbers(job.page())

    assert not any(key[0] in {"streamscore_labels_pending", "streamscore_label_coverage_ratio"} for key in found)
    assert found["streamscore_labels_total", "matched"] == 3


def test_nothing_is_served_or_set_by_default(make_config):
    """Without settings there are the totals alone; the group of the lag is of the labels' topic."""
    totals = LabelTotals({}, 10.0)
    assert of_labels(make_config("metrics.port=9464"), totals) == [totals]
    config = make_config("kafka.topics.labels=clicks.labels", "kafka.lag_group=streamscore-{topic}")
    (_, group) = of_labels(config, totals)

    assert isinstance(group, LagGroup)
    assert config.kafka.lag_group_of(config.kafka.topics.labels) == "streamscore-clicks.labels"


def test_port_is_that_of_labels(make_config):
    """The other job's port is not taken."""
    listener = LabelMetrics(make_config("metrics.port=9464", "metrics.labels_port=9465"), LabelTotals({}, 10.0))

    assert listener._port == 9465


def test_prometheus_accepts_every_metric(job):
    """Prometheus' own linter finds nothing to say."""
    if PROMTOOL is None:
        assert os.environ.get("CI") != "true", "promtool is missing"
        pytest.skip("promtool is missing: Debian has it in the package prometheus")
    job.hear(0, received=3, matched=3)
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=job.page(), capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
