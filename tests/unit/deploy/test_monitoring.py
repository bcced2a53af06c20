"""Prometheus' rules and Grafana's dashboard: what they ask for is what the job serves."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from streamscore.listeners.label_metrics import LabelMetrics
from streamscore.listeners.label_totals import LabelTotals
from streamscore.listeners.metrics import MetricsEndpoint
from streamscore.listeners.totals import Totals
from streamscore.sinks.delta import TableRows
from streamscore.sinks.elasticsearch import OutcomeDocuments, RejectedDocuments
from streamscore.sinks.kafka import Records
from streamscore.sinks.labels import LateLabels
from streamscore.sinks.quality import QualityStatistics

PROMTOOL = shutil.which("promtool")
NAME = re.compile(r"\b(?:streamscore|process)_[a-z_]+\b")


@pytest.fixture
def served(make_config):
    """The names of all metrics that the jobs have, as a query writes them."""
    config = make_config()
    listeners = [MetricsEndpoint(config, Totals([], synthetic=False)), LabelMetrics(config, LabelTotals({}, 10.0))]
    pages = [listener.metrics().body.decode() for listener in listeners]
    names = {"streamscore_last_batch_timestamp_seconds"}  # from the first batch on
    for line in "".join(pages).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            names |= {name} if kind in {"counter", "gauge"} else {f"{name}_{end}" for end in ("sum", "count", "bucket")}
    return names


@pytest.fixture(scope="module")
def groups(root):
    """The groups of rules."""
    return yaml.safe_load((root / "docker/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]


@pytest.fixture(scope="module")
def dashboard(root):
    """Grafana's dashboard."""
    return json.loads((root / "docker/grafana/streamscore.json").read_text(encoding="utf-8"))


def queries(dashboard):
    """Return the queries of a dashboard."""
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "containers.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
)
def test_prometheus_takes_the_rules(root, words):
    """Prometheus' own tool accepts the files, and each alert fires and resolves as its test says."""
    if PROMTOOL is None:
        assert os.environ.get("CI") != "true", "promtool is missing"
        pytest.skip("promtool is missing: Debian has it in the package prometheus")
    done = subprocess.run(
        [PROMTOOL, *words], cwd=root / "docker/prometheus", capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_takes_its_configuration(root):
    """Alertmanager's own tool accepts the file."""
    amtool = shutil.which("amtool")
    if amtool is None:
        assert os.environ.get("CI") != "true", "amtool is missing"
        pytest.skip("amtool is missing: Debian has it in the package prometheus-alertmanager")
    command = [amtool, "check-config", "alertmanager.yml"]
    done = subprocess.run(command, cwd=root / "docker/prometheus", capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_in_the_docs(root, groups):
    """Each alert fires in a test, and docs/monitoring.md says what it means."""
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((root / "docker/prometheus/rules_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    documented = set(re.findall(r"^\| `(Streamscore\w+)`", (root / "docs/monitoring.md").read_text(), re.MULTILINE))

    assert fired == alerts
    assert documented == alerts


def test_rules_and_dashboard_ask_for_metrics_that_exist(groups, dashboard, served):
    """No query names a metric that the job does not serve, or a recorded one that no rule records."""
    rules = [rule for group in groups for rule in group["rules"]]
    asked = [rule["expr"] for rule in rules] + queries(dashboard)
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {name for query in asked for name in re.findall(r"\b\w+:\w+:\w+\b", query)}
    plain = re.sub(r"\b\w+:\w+:\w+\b", "", "\n".join(asked))

    assert used <= recorded
    assert set(NAME.findall(plain)) <= served


def test_docs_name_every_metric_and_no_other(root, served):
    """The table of metrics is complete."""
    text = (root / "docs/monitoring.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `((?:streamscore|process)_\w+)", text, re.MULTILINE))
    bases = {re.sub(r"_(sum|count|bucket)$", "", name) for name in served}

    assert documented == bases


def test_docs_name_every_sink(root):
    """The values of the label ``sink`` are those of the table, and each sink has one of its own."""
    classes = [RejectedDocuments, OutcomeDocuments, QualityStatistics, Records, TableRows, LateLabels]
    text = (root / "docs/monitoring.md").read_text(encoding="utf-8").partition("| sink | writes |\n")[2]
    documented = re.findall(r"`(\w+)`", re.sub(r" \|[^|]+\|$", "", text.partition("\n\n")[0], flags=re.MULTILINE))

    assert documented == [sink.label for sink in classes]
    assert len(set(documented)) == len(classes)


def test_panels_do_not_overlap(dashboard):
    """Panels have places of their own, and ids of their own, and each has its data source."""
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]

    assert len(set(ids)) == len(ids)
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
