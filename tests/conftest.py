"""Fixtures of all tests: one real Spark session, one real Kafka and one real Elasticsearch per test run."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
import uuid
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import oracle
import pytest
from hypothesis import settings as hypothesis_settings

from streamscore import config as configuration
from streamscore import score_stream, train_models
from streamscore.clients import elasticsearch
from streamscore.clients import kafka as kafka_client
from streamscore.errors import SetupError
from streamscore.local import artifacts, java, stack
from streamscore.local.ports import free_port
from streamscore.quality.statistic import of_rows
from streamscore.spark import sources
from streamscore.system.console import log

ROOT = Path(__file__).parents[1]
ARTIFACTS = ROOT / ".streamscore" / "artifacts"  # shared with the demo, so that nothing is fetched twice
IN_CI = os.environ.get("CI") == "true"
QUICK_JVM = "-XX:TieredStopAtLevel=1"
hypothesis_settings.register_profile("steady", hypothesis_settings.default, deadline=None, database=None)
hypothesis_settings.load_profile("steady")
STEADY_JVM = "-XX:Tier4InvocationThreshold=80000 -XX:Tier4MinInvocationThreshold=40000 -XX:Tier4CompileThreshold=160000"


@pytest.fixture(scope="session")
def root() -> Path:
    """The root folder of the repository."""
    return ROOT


@pytest.fixture(autouse=True)
def log_as_before():
    """Restore the logging set-up, which a command or a notebook in this process changes."""
    before = log.handlers[:], log.propagate, log.level
    yield
    log.handlers[:], log.propagate, log.level = before


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory):
    """A state folder of this test run."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def addresses(state_dir):
    """Configuration overrides that put the servers of this test run on free ports."""
    return [
        f"state_dir={state_dir}",
        f"local.artifacts_dir={ARTIFACTS}",
        f"kafka.bootstrap_servers=127.0.0.1:{free_port()}",
        f"elasticsearch.url=http://127.0.0.1:{free_port()}",
    ]


@pytest.fixture
def make_config(addresses):
    """Return a function that makes a configuration with this test run's addresses and further overrides."""
    return lambda *overrides: configuration.load("local", [*addresses, *overrides])


@pytest.fixture(scope="session")
def jars():
    """The verified jars of the jobs; the servers' files are fetched in the background."""
    found = java.find()
    paths = artifacts.spark_jars(ARTIFACTS, found)
    groups = (artifacts.KAFKA, artifacts.ELASTICSEARCH)
    threading.Thread(target=artifacts.ensure, args=(ARTIFACTS, groups, found), daemon=True).start()
    return paths


@pytest.fixture(scope="session")
def spark(addresses, jars):
    """A real local Spark session with the jobs' jars and the settings of score_stream."""
    found = java.find()
    os.environ.update({name: value for name, value in java.environment(found).items() if name in {"JAVA_HOME", "PATH"}})
    settings = configuration.load("local", [*addresses, "spark.master=local[2]", "spark.shuffle_partitions=2"])
    with pytest.MonkeyPatch.context() as lasting:  # this JVM runs long enough for the optimising compiler
        lasting.setenv("JDK_JAVA_OPTIONS", STEADY_JVM)
        spark = score_stream.JOB.create_session(settings, jars)
    yield spark
    spark.stop()


@pytest.fixture(scope="session")
def servers(addresses):
    """A configuration with a running Kafka and Elasticsearch of this test run."""
    settings = configuration.load("local", addresses)
    try:
        stack.up(settings)
    except SetupError as error:
        if IN_CI:
            raise
        pytest.skip(f"the servers do not start here: {error}")
    yield settings
    stack.down(settings)


@pytest.fixture(scope="session")
def make_own(servers, addresses):
    """Return a function that makes a configuration with new topics, indices, checkpoint and folders."""

    def make(name, folder, *overrides):
        own = [
            f"kafka.topics.input={name}",
            f"kafka.topics.predictions={name}.predictions",
            f"kafka.topics.rejected={name}.rejected",
            f"elasticsearch.index={name}",
            f"elasticsearch.rejected_index={name}-rejected",
            f"elasticsearch.status_index={name}-status",
            f"elasticsearch.quality_index={name}-quality",
            f"kafka.topics.labels={name}.labels",
            f"kafka.topics.labelled={name}.labelled",
            f"elasticsearch.labelled_index={name}-labelled",
            f"elasticsearch.pending_index={name}-pending",
            f"elasticsearch.labels_status_index={name}-labels-status",
            f"labels.checkpoint={folder / 'labels'}",
            f"stream.checkpoint={folder / 'checkpoint'}",
            "stream.trigger_seconds=0.2",
            f"train.output={folder / 'train'}",
        ]
        return configuration.load("local", [*addresses, *own, *overrides])

    return make


@pytest.fixture
def own(make_own, tmp_path):
    """Return a function that makes a configuration with this test's own topics, indices, checkpoint and folders."""
    name = f"t{uuid.uuid4().hex[:8]}"
    return lambda *overrides: make_own(name, tmp_path, *overrides)


@pytest.fixture(scope="session")
def trained(spark, addresses, tmp_path_factory):
    """A training on synthetic rows: its configuration and its figures."""
    output = tmp_path_factory.mktemp("train")
    small = ("train.rows=62000", "train.lr.max_iter=20", "train.svm.max_iter=20")
    settings = configuration.load("local", [*addresses, *small, f"train.output={output}"])
    return settings, train_models.run(spark, settings)


@pytest.fixture(scope="session")
def small_models(spark, tmp_path_factory):
    """Two models on 110 features in plain folders, by name."""
    return oracle.train(spark, tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="session")
def produce():
    """Return a function that sends values (bytes, text, None, or (key, value, headers)) to a topic and waits."""

    def send(kafka, topic, values):
        producer = kafka_client.producer(kafka)
        for item in values:
            key, value, headers = item if isinstance(item, tuple) else (None, item, [])
            producer.produce(topic, value, key, headers=headers)
            producer.poll(0)
        assert producer.flush(30) == 0

    return send


@pytest.fixture
def consume(spark):
    """Return a function that reads a topic like a plain consumer: a list of (key, value, headers)."""

    def read(kafka, topic):
        rows = sources.topic(spark, kafka, topic).orderBy("partition", "offset").collect()
        return [
            (
                row["key"] and bytes(row["key"]),
                row["value"] and bytes(row["value"]),
                [(header["key"], header["value"] and bytes(header["value"])) for header in row["headers"] or []],
            )
            for row in rows
        ]

    return read


@pytest.fixture
def outcomes(consume):
    """Return a function that reads the outcomes as parsed JSON."""
    return lambda config: [json.loads(value) for _, value, _ in consume(config.kafka, config.kafka.topics.predictions)]


@pytest.fixture
def documents():
    """Return a function that reads all documents of an index by their id."""

    def read(config, name=None):
        found = {}
        with elasticsearch.client(config.elasticsearch, 60) as client:
            client.indices.refresh(index=name or config.elasticsearch.index)
            after = None
            while True:
                page = client.search(
                    index=name or config.elasticsearch.index,
                    size=10_000,
                    sort=[{"event_id": "asc"}, {"_doc": "asc"}] if name else [{"event_id": "asc"}, {"model": "asc"}],
                    **({"search_after": after} if after else {}),
                )["hits"]["hits"]
                if not page:
                    return found
                after = page[-1]["sort"]
                found |= {hit["_id"]: hit["_source"] for hit in page}

    return read


class Widgets:
    """The widgets of a notebook; a given value takes precedence over the default."""

    def __init__(self, given: dict[str, str]) -> None:
        self._given = given
        self.made: dict[str, tuple[str, str]] = {}

    def text(self, name: str, default: str, label: str) -> None:
        """Make a widget."""
        self.made[name] = (default, label)

    def get(self, name: str) -> str:
        """Return the value of an existing widget."""
        return self._given.get(name, self.made[name][0])


@pytest.fixture
def dbutils():
    """Return a function that makes a fake of Databricks' ``dbutils`` with the given widget values."""
    return lambda **given: SimpleNamespace(widgets=Widgets(given))


@pytest.fixture
def fill():
    """Return a function that writes made-up outcomes into a configuration's indices, in the form of the job."""

    def write(config, events=1_000, models=("lr", "svm"), seconds=60, end=None, first=0, synthetic=True, topic="ml"):
        """Write events from number ``first`` on, evenly over the seconds before ``end`` (epoch ms; default: now).

        Every 29th is rejected, every 17th has no label, every fourth has label 1. In the second half of the time the
        first model is at version 2. The first model's scores are probabilities, the others' margins.
        """
        settings, chance, rows = config.elasticsearch, random.Random(first), defaultdict(list)
        start = (end or round(time.time() * 1_000)) - seconds * 1_000
        versions = {name: ["1"] * seconds for name in models}
        versions[models[0]] = ["1" if second < seconds / 2 else "2" for second in range(seconds)]
        elasticsearch.ensure(settings)
        lines = []
        for number in range(first, first + events):
            second, event = (number - first) * seconds // events, f"{settings.index}-0-{number}"
            at = start + (number - first) * seconds * 1_000 // events
            if number % 29 == 0:
                reason = ("not_json", "bad_label", "not_json", "<i>odd</i>")[number // 29 % 4]
                lines += [{"index": {"_index": settings.rejected_index, "_id": event}}]
                lines += [{"@timestamp": at, "event_id": event, "reason": reason, "detail": "made up"}]
                continue
            label = None if number % 17 == 0 else float(number % 4 == 0)
            for place, model in enumerate(models):
                version = versions[model][second]
                right = chance.random() < 0.8 - 0.1 * place
                prediction = (label or 0.0) if right else 1.0 - (label or 0.0)
                score = min(1.0, max(0.0, 0.3 + 0.4 * prediction + chance.uniform(-0.3, 0.3)))
                score = score if place == 0 else 6 * score - 3
                rows[model, version].append((at, math.nan if label is None else label, prediction, score))
                known = {} if label is None else {"label": label, "correct": int(prediction == label)}
                lines += [{"index": {"_index": settings.index, "_id": f"{event}-{model}-{version}"}}]
                lines += [
                    {
                        "@timestamp": at,
                        "event_id": event,
                        "model": model,
                        "model_version": version,
                        "prediction": prediction,
                        "score": score,
                        "topic": topic,
                        **known,
                    }
                ]
        for second in range(seconds):
            lines += [{"index": {"_index": settings.status_index, "_id": f"q{first}-{second}"}}]
            lines += [
                {
                    "@timestamp": start + second * 1_000,
                    "query": f"q{first}",
                    "batch": second,
                    "events": events // seconds,
                    "rejected": 0,
                    "lag": 1_000 + seconds - second,
                    "batch_ms": 400,
                    "events_per_second": 250.0,
                    "models": [f"{model}:{versions[model][second]}" for model in models],
                    "synthetic": synthetic,
                    "topic": topic,
                    "score_kinds": [
                        f"{model}:{versions[model][second]}:{'margin' if place else 'probability'}"
                        for place, model in enumerate(models)
                    ],
                }
            ]
        for (model, version), events_of_model in rows.items():
            kind = "probability" if model == models[0] else "margin"
            for window in config.quality.windows:
                lines += statistics(config, (f"q{first}", topic, model, version, window), events_of_model, kind)
        with elasticsearch.client(settings, 60) as client:
            assert not client.bulk(operations=lines, refresh=True)["errors"]

    return write


def statistics(config, of, rows, kind):
    """Return the bulk lines of the statistics of a model's windows of one length, in the form of the job."""
    stream, topic, model, version, seconds = of
    windows = defaultdict(list)
    for at, *row in rows:
        windows[at // (1_000 * seconds) * 1_000 * seconds].append(row)
    lines = []
    for begin, inside in windows.items():
        header = {"@timestamp": begin, "seconds": seconds, "topic": topic, "stream": stream, "batch": 0}
        lines += [{"index": {"_index": config.elasticsearch.quality_index, "_id": f"{of}-{begin}"}}]
        lines += [header | {"model": model, "model_version": version}]
        lines[-1] |= of_rows(*zip(*inside, strict=True), kind).to_document()
    return lines


def pytest_configure() -> None:
    """Restrict the JVMs of a test run to the quick compiler.

    Most JVMs run for seconds, and the optimising compiler would take half of their CPU time and finish at their end.
    The servers have little load.
    """
    os.environ["JDK_JAVA_OPTIONS"] = QUICK_JVM
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # may name a shared registry
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items) -> None:
    """Mark the tests that need servers; run the slowest files first, so that no worker is left with one at the end."""
    limit: dict[Path, int] = {}
    for item in items:
        if "servers" in item.fixturenames:
            item.add_marker(pytest.mark.servers)
        own = item.get_closest_marker("timeout")
        limit[item.path] = max(limit.get(item.path, 0), own.args[0] if own else 0)
    order = ["e2e", "integration", "unit"]
    items.sort(key=lambda item: (-limit[item.path], order.index(item.path.relative_to(ROOT / "tests").parts[0])))
