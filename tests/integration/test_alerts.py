"""The shipped alerts, from the page of the metrics through a real Prometheus and Alertmanager to a webhook."""

import base64
import json
import re
import threading
import time
import zlib
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from watchers import alertmanager, prometheus, until

from streamscore.listeners import opened
from streamscore.listeners.metrics import MetricsEndpoint
from streamscore.listeners.totals import Totals
from streamscore.local.ports import free_port
from streamscore.schema import REASONS
from streamscore.scoring.served import ServedModel
from streamscore.stream.progress import CommittedBatch

FASTER = 300
"""By how much the rules' times are shorter here: five minutes are a second."""
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Served(ServedModel):
    """A model without a pipeline."""

    score_kind = "probability"


@pytest.fixture
def webhook():
    """A server that keeps the alerts that it gets, and its address."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(heard=heard, url=f"http://127.0.0.1:{server.server_address[1]}/")
    server.shutdown()
    server.server_close()


def shorter(text):
    """Return a duration of Prometheus, or an expression with some, on the scale of the test."""

    def scaled(match):
        return f"{round(int(match[1]) * UNITS[match[2]] * 1_000 / FASTER)}ms"

    return re.sub(r"\b(\d+)([smhd])\b", scaled, text)


def quick_rules(root):
    """Return the shipped rules with shorter times and nothing else changed."""
    rules = yaml.safe_load((root / "docker/prometheus/rules.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule |= {key: shorter(rule[key]) for key in ("for", "keep_firing_for", "expr") if key in rule}
    return rules


def quick_routes(root, url):
    """Return the shipped configuration of Alertmanager with shorter times and a webhook."""
    config = yaml.safe_load((root / "docker/prometheus/alertmanager.yml").read_text(encoding="utf-8"))
    (receiver,) = config["receivers"]
    assert config["route"]["receiver"] == receiver["name"]
    config["route"] |= dict.fromkeys(("group_wait", "group_interval"), "1s")
    receiver["webhook_configs"] = [{"url": url}]
    return config


@pytest.fixture
def job(make_config):
    """The metrics of a scoring job that is told of batches, and of a model that is refused."""
    refused = {}
    totals = Totals([Served("lr", "3", None, 2, "models:/lr/3")], synthetic=False, refused=lambda: refused)
    config = make_config("kafka.topics.input=clicks", f"metrics.port={free_port()}")
    listener = MetricsEndpoint(config, totals)
    numbers = iter(range(1_000_000))

    def score(events, rejected):
        """Tell of a batch of events."""
        now = time.time()
        counts = [round(now * 1_000), 0, *(rejected if reason == "not_json" else 0 for reason in REASONS), events]
        packed = [np.array([*counts, *[0] * 730], ">i8").tobytes(), b""]
        counted, sums = (base64.b64encode(zlib.compress(each)).decode() for each in packed)
        observed = {"quality": {"events": events, "rejected": rejected, "sums": sums, "counts": counted}}
        started = f"{datetime.fromtimestamp(now, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
        batch = CommittedBatch("q", next(numbers), started, observed, 0, 5, 1.0, {}, {("clicks", 0): 0})
        for each in (totals, listener):
            each.committed(batch)

    with opened([listener]):
        yield SimpleNamespace(score=score, refused=refused, address=f"127.0.0.1:{config.metrics.port}")


def told(webhook, name, status):
    """Return the labels of an alert of which the webhook was told; None if it was not."""
    return next(
        (one["labels"] for one in webhook.heard if (one["labels"]["alertname"], one["status"]) == (name, status)), None
    )


def test_alerts_fire_and_resolve_in_a_webhook(root, tmp_path, job, webhook):
    """A refused model and a topic full of other messages are told, with their names, and so is that both are over."""
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(quick_rules(root)))
    alerts = {"StreamscoreModelRefused": {"model": "lr"}, "StreamscoreRejectedShare": {"topic": "clicks"}}

    def scoring(rejected, condition):
        """Score two batches a second until a condition holds."""

        def holds():
            job.score(100, rejected)
            time.sleep(0.4)
            return condition()

        return holds

    with alertmanager(tmp_path, quick_routes(root, webhook.url)) as manager:
        managers = {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]}
        sections = {"rule_files": ["rules.yml"], "alerting": managers}
        with prometheus(tmp_path, {"streamscore": job.address}, **sections) as server:
            until("events are scraped", scoring(1, lambda: (server.number("streamscore_events_total") or 0) > 500))
            assert server.samples("ALERTS") == []
            assert webhook.heard == []

            job.refused["lr:4"] = "damaged"
            until("both fire", scoring(40, lambda: all(told(webhook, name, "firing") for name in alerts)))
            for name, labels in alerts.items():
                assert told(webhook, name, "firing") == {
                    "alertname": name,
                    "instance": job.address,
                    "job": "streamscore",
                    "severity": "warning",
                    **labels,
                }
            assert not any(told(webhook, name, "resolved") for name in alerts)

            job.refused.clear()
            until("both are over", scoring(0, lambda: all(told(webhook, name, "resolved") for name in alerts)))
            assert server.samples('ALERTS{alertstate="firing"}') == []
    assert {one["labels"]["alertname"] for one in webhook.heard} == set(alerts)
