"""The metrics and the health of the scoring job, scraped from its port."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from watchers import numbers

from streamscore import label_stream, score_stream
from streamscore.errors import SetupError
from streamscore.listeners import configured, exporter, health, opened
from streamscore.listeners.health import Health
from streamscore.listeners.metrics import MetricsEndpoint
from streamscore.listeners.totals import Totals
from streamscore.local.ports import free_port
from streamscore.quality import packed
from streamscore.quality.statistic import of_rows
from streamscore.schema import REASONS
from streamscore.scoring.served import ServedModel
from streamscore.sinks.base import SinkWork
from streamscore.stream.progress import CommittedBatch

PROMTOOL = shutil.which("promtool")
NOTHING = base64.b64encode(zlib.compress(b"")).decode()
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Served(ServedModel):
    """A model without a pipeline."""

    score_kind = "probability"


MODELS = [Served("lr", "3", None, 2, "models:/lr/3"), Served("svm", "4", None, 2, "https://ada:secret@host/svm")]


STARTED = 1_795_507_200_000
"""When each batch's trigger began, in epoch milliseconds."""


def counts(reasons=None, bins=None, age_sum=0):
    """Return what the JVM reports of a batch that was planned 50 ms after its trigger began."""
    numbers = [STARTED + 50, age_sum, *((reasons or {}).get(reason, 0) for reason in REASONS)]
    numbers += [(bins or {}).get(at, 0) for at in range(10 + 90 * 8 + 1)]
    return base64.b64encode(zlib.compress(np.array(numbers, ">i8").tobytes())).decode()


def batch(number, events=10, rejected=1, milliseconds=200, lags=None, counted=None):
    """Return a committed batch whose statistics are those that ``sums`` gives the totals."""
    observed = {"events": events, "rejected": rejected, "sums": NOTHING, "counts": counted or counts()}
    lags = {("clicks", 0): 5, ("clicks", 1): 0} if lags is None else lags
    return CommittedBatch(
        "q", number, "2026-11-24T08:00:00.000Z", {"quality": observed}, 5, milliseconds, 50.0, {}, lags
    )


@pytest.fixture
def job(make_config, monkeypatch):
    """A listener that serves, its totals, and functions that scrape it and pass it a batch."""
    config = make_config("kafka.topics.input=clicks", f"metrics.port={free_port()}")
    totals = Totals(MODELS, synthetic=False)
    listener = MetricsEndpoint(config, totals)

    def get(path):
        try:
            with DIRECT.open(f"http://127.0.0.1:{config.metrics.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def hear(one, *parts):
        monkeypatch.setattr(
            "streamscore.listeners.totals.unpack",
            lambda *_: ([packed.ModelPart(0, at, part) for at, part in enumerate(parts)], []),
        )
        totals.committed(one)
        listener.committed(one)

    with opened([listener]):
        yield SimpleNamespace(config=config, totals=totals, listener=listener, get=get, hear=hear)


def test_counters_begin_at_zero(job):
    """Before the first batch every counter of events, and of each model, is there and 0."""
    status, text = job.get("/metrics")
    found = numbers(text)

    assert status == 200
    assert found["streamscore_events_total", "clicks"] == 0
    assert found["streamscore_scored_events_total", "lr", "3"] == 0
    assert found["streamscore_correct_events_total", "svm", "4"] == 0
    assert found["streamscore_rejected_events_total", "not_json", "clicks"] == 0
    assert found["streamscore_batch_duration_seconds_count",] == 0
    assert found["streamscore_event_latency_seconds_count",] == 0
    assert found["streamscore_model_refused", "lr"] == 0
    assert "last_batch" not in text


def test_numbers_are_those_of_the_events(job):
    """Counts, losses and squared errors are those that are computed from the single events."""
    labels, predictions, scores = [1, 0, 1, float("nan")], [1, 1, 0, 1], [0.9, 0.6, 0.2, 0.7]
    part = of_rows(labels, predictions, scores, "probability")
    job.hear(batch(0, 5, 1), part, part)
    job.hear(batch(1, 4, 0, 40_000), part, part)
    found = numbers(job.get("/metrics")[1])

    assert found["streamscore_events_total", "clicks"] == 9
    assert found["streamscore_scored_events_total", "lr", "3"] == 8
    assert found["streamscore_labelled_events_total", "lr", "3"] == 6
    assert found["streamscore_correct_events_total", "lr", "3"] == 2
    assert found["streamscore_confusion_total", "0", "lr", "3", "1"] == 2
    assert found["streamscore_log_loss_sum", "svm", "4"] == pytest.approx(2 * part.loss)
    assert found["streamscore_log_loss_count", "svm", "4"] == 6
    assert found["streamscore_brier_sum", "svm", "4"] == pytest.approx(2 * (0.1**2 + 0.6**2 + 0.8**2))
    assert found["streamscore_batch_duration_seconds_sum",] == pytest.approx(40.2)
    buckets = {key[1]: value for key, value in found.items() if key[0] == "streamscore_batch_duration_seconds_bucket"}
    assert (buckets["0.1"], buckets["0.25"], buckets["30.0"], buckets["60.0"], buckets["+Inf"]) == (0, 1, 1, 2, 2)
    assert found["streamscore_last_batch_timestamp_seconds",] == pytest.approx(1_795_507_240)
    assert found["streamscore_kafka_lag_events", "0", "clicks"] == 5


def test_rejected_events_are_counted_by_reason(job):
    """Each reason of the closed list has a counter, whatever else the JVM may have found."""
    job.hear(batch(0, rejected=5, counted=counts({"not_json": 2, "bad_label": 3})))
    job.hear(batch(1, rejected=1, counted=counts({"not_json": 1})))
    found = numbers(job.get("/metrics")[1])
    found = {key[1]: value for key, value in found.items() if key[0] == "streamscore_rejected_events_total"}

    assert found == {**dict.fromkeys(REASONS, 0), "not_json": 3, "bad_label": 3}


def test_latency_ends_when_the_batch_is_committed(job):
    """What an event waited until its batch was planned, and what the batch took from then on, add up."""
    # Ages below 10 ms, and from 450 to 460 ms; then 100 ms, and 800 ms, until the batches are committed.
    job.hear(batch(0, milliseconds=150, counted=counts(bins={0: 3, 45: 2}, age_sum=920)))
    job.hear(batch(1, milliseconds=850, counted=counts(bins={0: 4}, age_sum=20)))
    found = numbers(job.get("/metrics")[1])
    name = "streamscore_event_latency_seconds"
    buckets = {key[1]: value for key, value in found.items() if key[0] == f"{name}_bucket"}

    assert [buckets[bound] for bound in ("0.25", "0.5", "1.0", "2.5", "+Inf")] == [3, 3, 9, 9, 9]
    assert found[f"{name}_count",] == 9
    assert found[f"{name}_sum",] == pytest.approx(0.920 + 5 * 0.1 + 0.020 + 4 * 0.8)


def test_sinks_are_told_while_they_write(job):
    """Time and failed attempts of each sink are those that the query last told of, without a batch."""
    job.listener.wrote({"kafka_records": SinkWork(1.5, 0), "outcome_documents": SinkWork(30.25, 4)})
    found = numbers(job.get("/metrics")[1])

    assert found["streamscore_sink_seconds_total", "outcome_documents"] == 30.25
    assert found["streamscore_sink_errors_total", "outcome_documents"] == 4
    assert found["streamscore_sink_errors_total", "kafka_records"] == 0


def test_lag_stays_where_spark_has_not_looked(job):
    """A batch without a look at Kafka, as a replayed one, leaves the lag as it was."""
    job.hear(batch(0))
    job.hear(batch(1, lags={}))

    assert numbers(job.get("/metrics")[1])["streamscore_kafka_lag_events", "0", "clicks"] == 5


def test_versions_are_counted_apart_and_the_one_in_use_is_told(job):
    """After a swap the earlier version keeps its counts, and only the new one is in use."""
    part = of_rows([1], [1], [0.9], "probability")
    job.hear(batch(0), part, part)
    job.totals.models = [Served("lr", "5", None, 2, "models:/lr/5"), MODELS[1]]
    job.totals.refused = lambda: {"svm:6": "damaged"}
    found = numbers(job.get("/metrics")[1])

    assert found["streamscore_scored_events_total", "lr", "3"] == 1
    assert found["streamscore_scored_events_total", "lr", "5"] == 0
    assert found["streamscore_model_info", "lr", "5", "models:/lr/5"] == 1
    assert ("streamscore_model_info", "lr", "3", "models:/lr/3") not in found
    assert (found["streamscore_model_refused", "lr"], found["streamscore_model_refused", "svm"]) == (0, 1)


def test_credentials_in_an_address_are_masked(job):
    """A password in the address of a model does not show."""
    text = job.get("/metrics")[1]

    assert "host/svm" in text
    assert "secret" not in text


def test_labels_never_come_from_events(job):
    """Labels of events that are no classes, however many, are counted together."""
    labels = [0.5 + number for number in range(50)] + [1e9, -3, 1]
    part = of_rows(labels, [1] * 53, [0.9] * 53, "probability")
    job.hear(batch(0), part)
    found = numbers(job.get("/metrics")[1])
    found = {(key[1], key[4]): value for key, value in found.items() if key[0] == "streamscore_confusion_total"}

    assert found == {("other", "1"): 52, ("1", "1"): 1}


def test_job_is_ready_after_the_first_trigger(job):
    """The job is alive from the start, and ready once a trigger has ended, with events or without."""
    assert (job.get("/healthz")[0], job.get("/readyz")[0]) == (200, 503)
    job.listener.polled(has_triggered=False)
    assert job.get("/readyz")[0] == 503
    job.listener.polled(has_triggered=True)
    assert (job.get("/healthz"), job.get("/readyz")) == ((200, "ok\n"), (200, "ok\n"))


def test_job_that_does_not_answer_is_not_alive(monkeypatch):
    """Liveness fails once the query has been silent for too long, and holds again when it answers."""
    now = 1000.0
    monkeypatch.setattr(health.time, "monotonic", lambda: now)
    known = Health(300.0)
    known.note(has_triggered=True)
    now += 299
    assert known.live().status == 200
    now += 2
    assert known.live().status == 503
    assert b"301 s" in known.live().body
    known.note(has_triggered=True)
    assert known.live().status == 200


def test_slow_triggers_leave_more_time(make_config):
    """The limit is ten trigger intervals, and at least five minutes."""

    def limit(seconds):
        config = make_config("metrics.port=1", f"stream.trigger_seconds={seconds}")
        return MetricsEndpoint(config, Totals(MODELS, synthetic=False))._health.limit

    assert (limit(1), limit(60)) == (300, 600)


def test_other_paths_are_not_there(job):
    """There are three pages, and an answer repeats nothing of the request."""
    assert job.get("/metrics?x=1")[0] == 200
    assert job.get("/<script>") == (404, "not found\n")


def test_there_is_no_endpoint_by_default(make_config):
    """Without a port there is no listener and no check."""
    config = make_config("elasticsearch.enabled=false")

    assert not any(isinstance(one, MetricsEndpoint) for one in configured(config, Totals(MODELS, False), None))
    exporter.check(config.metrics.port, config.metrics.address, "metrics.port")


def test_port_in_use_is_told_before_anything_starts(make_config, monkeypatch):
    """The check names the port and the way out, before it asks any server; a free port passes."""
    monkeypatch.setattr(exporter, "RELEASE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = make_config(f"metrics.port={port}", "kafka.bootstrap_servers=127.0.0.1:1")
        with pytest.raises(SetupError, match=rf"port {port} of 127\.0\.0\.1 .*in use.*metrics\.port"):
            score_stream.check(config)
        labels = make_config(f"metrics.labels_port={port}", "kafka.bootstrap_servers=127.0.0.1:1")
        with pytest.raises(SetupError, match=rf"port {port} of 127\.0\.0\.1 .*in use.*metrics\.labels_port"):
            label_stream.check(labels)
    exporter.check(port, "127.0.0.1", "metrics.port")


def test_check_waits_for_the_process_before(make_config):
    """A port that a crashed run gives back a moment later is no fault."""
    taken = socket.create_server(("127.0.0.1", 0))
    config = make_config(f"metrics.port={taken.getsockname()[1]}")
    release = threading.Timer(0.5, taken.close)
    release.start()
    exporter.check(config.metrics.port, config.metrics.address, "metrics.port")
    release.join()


def test_port_that_was_taken_since_stops_nothing(make_config, caplog):
    """A port that is taken between the check and the start is logged, and the job goes on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = make_config(f"metrics.port={taken.getsockname()[1]}")
        with opened([MetricsEndpoint(config, Totals(MODELS, synthetic=False))]):
            pass

    assert "there are no metrics" in caplog.text


def test_prometheus_accepts_every_metric(job):
    """Prometheus' own linter finds nothing to say."""
    if PROMTOOL is None:
        assert os.environ.get("CI") != "true", "promtool is missing"
        pytest.skip("promtool is missing: Debian has it in the package prometheus")
    part = of_rows([1, 0], [1, 1], [0.9, 0.6], "probability")
    job.hear(batch(0), part, part)
    text = job.get("/metrics")[1]
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert len(re.findall("^# TYPE ", text, re.MULTILINE)) == 19
