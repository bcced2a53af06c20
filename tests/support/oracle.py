"""The oracle of the fault tests: a ledger of sent messages, and a check of all outputs, like a Jepsen checker.

Every message has a unique key. A good message must become exactly one prediction per model, once in the topic and once
in the index, with the models' score for the same vector in a batch job. A bad message must become exactly one rejected
record with the right reason and the original bytes.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LinearSVC, LogisticRegression
from pyspark.ml.linalg import SparseVector, Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StructField, StructType

from streamscore import models
from streamscore.clients import elasticsearch
from streamscore.clients.producer import Outbox
from streamscore.config import Config
from streamscore.quality import pairs
from streamscore.quality.paired import log_evidence
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.statistic import SUMS, Statistic, of_rows
from streamscore.spark import sources

SIZE = 110


def vector(generator: random.Random) -> SparseVector:
    """Return a vector like those of the original article: 110 features, some 15 of them set."""
    places = sorted(generator.sample(range(SIZE), generator.randint(10, 20)))
    return Vectors.sparse(SIZE, places, [round(generator.uniform(-3, 3), generator.randint(0, 12)) for _ in places])


def train(spark: SparkSession, folder: Any) -> dict[str, str]:
    """Train two small models on such vectors and return their folders by name."""
    generator = random.Random(0)
    rows = [(float(generator.random() < 0.4), vector(generator)) for _ in range(400)]
    data = spark.createDataFrame(rows, ["label", "features"])
    saved = {}
    for name, classifier in {"lr": LogisticRegression(maxIter=5), "svm": LinearSVC(maxIter=5)}.items():
        saved[name] = f"{folder}/{name}"
        Pipeline(stages=[classifier]).fit(data).write().overwrite().save(saved[name])
        models.sign(spark, Path(saved[name]), [features for _, features in rows[:3]], {}, {})
    return saved


def listed(folders: Mapping[str, str]) -> str:
    """Return the override that configures the models."""
    models_ = ", ".join(f"{{name: {name}, uri: {folder}}}" for name, folder in folders.items())
    return f"models=[{models_}]"


BAD = {
    b"": "not_json",
    b"{": "not_json",
    b"[1]": "not_json",
    b"\xff\xfe": "not_utf8",
    None: "tombstone",
    b'{"label":"1","features":{"type":0,"size":110,"indices":[1],"values":[1]}}': "bad_label",
    b'{"label":1}': "bad_features",
    b'{"features":{"type":0,"size":110,"indices":[2,1],"values":[1,1]}}': "bad_features",
    b'{"features":{"type":0,"size":111,"indices":[1],"values":[1]}}': "wrong_size",
    b'{"features":{"type":0,"size":110,"indices":[1],"values":[NaN]}}': "not_finite",
    b'{"label":1,"label":0,"features":{"type":0,"size":110,"indices":[1],"values":[1]}}': "duplicate_name",
}


POOL = 500
"""Number of distinct vectors, of which all messages are made."""


@dataclass
class Ledger:
    """The sent messages by key: good ones with label and vector, bad ones with bytes and reason."""

    seed: int
    good: dict[str, tuple[float | None, int]] = field(default_factory=dict)
    """Label, and the vector's number in the pool."""
    bad: dict[str, tuple[bytes | None, str]] = field(default_factory=dict)
    indexed_from: int = 0
    """Number of the first message whose documents must be in the indices."""
    counted_from: int = 0
    """Number of the first message that the statistics of quality count."""

    def __post_init__(self) -> None:
        self._generator = random.Random(self.seed)
        self._number = 0
        self.pool = [vector(self._generator) for _ in range(POOL)]

    def next_messages(self, count: int, share_bad: float = 0.1) -> list[tuple[str, bytes | None]]:
        """Make messages, record them, and return them as (key, value)."""
        made: list[tuple[str, bytes | None]] = []
        for _ in range(count):
            key = f"{self.seed}-{self._number}"
            self._number += 1
            if self._generator.random() < share_bad:
                value, reason = self._generator.choice(list(BAD.items()))
                self.bad[key] = (value, reason)
            else:
                label, number = self._generator.choice([0.0, 1.0, None]), self._generator.randrange(POOL)
                self.good[key] = (label, number)
                value = message(label, self.pool[number])
            made.append((key, value))
        return made

    def begin_index(self) -> None:
        """Record that an index was deleted, with the documents of all messages so far."""
        self.indexed_from = self._number

    def begin_topic(self) -> None:
        """Record that the input topic was recreated: event ids repeat, and its statistics replace the old ones."""
        self.indexed_from = self.counted_from = self._number

    def is_indexed(self, key: str) -> bool:
        """Return whether the documents of a message must be in the indices."""
        return _number_of(key) >= self.indexed_from

    def is_counted(self, key: str) -> bool:
        """Return whether the statistics of quality count a message."""
        return _number_of(key) >= self.counted_from

    @property
    def sent(self) -> int:
        """Number of messages."""
        return len(self.good) + len(self.bad)


def _number_of(key: str) -> int:
    """Return the number of the message with a key."""
    return int(key.rpartition("-")[2])


def message(label: float | None, features: SparseVector) -> bytes:
    """Return a message of the default form."""
    written = {
        "type": 0,
        "size": features.size,
        "indices": features.indices.tolist(),
        "values": features.values.tolist(),
    }
    return json.dumps({"features": written} if label is None else {"label": label, "features": written}).encode()


def send(config: Config, messages: Iterable[tuple[str, bytes | None]]) -> None:
    """Send messages to the input topic and wait until the broker has them."""
    outbox = Outbox(config.kafka, config.kafka.topics.input)
    for key, value in messages:
        outbox.send(key, key.encode(), value, [])
        outbox.poll()
    outbox.flush()


def judge(spark: SparkSession, config: Config, ledger: Ledger, models: dict[str, str]) -> dict[str, int]:
    """Compare the configured outputs with the ledger, and return the number of faults of each kind."""
    expected = _expected(spark, ledger, models)
    outcomes = [json.loads(value or b"") for _, value, _ in _records(spark, config, config.kafka.topics.predictions)]
    count = Counter((outcome["key"], outcome["model"]) for outcome in outcomes)
    rejected = _records(spark, config, config.kafka.topics.rejected)
    in_rejected = Counter(key for key, _, _ in rejected)
    found = {(o["key"], o["model"]): (o["prediction"], o["score"], o["label"], o["correct"]) for o in outcomes}
    # A recreated topic repeats event ids: the later message of an id counts.
    in_order = sorted((record for record in rejected if record[0] in ledger.bad), key=lambda row: _number_of(row[0]))
    reasons = {headers["event-id"]: (key, headers["reason"]) for key, _, headers in in_order}
    return {
        **(_judge_table(spark, config, expected) if config.delta.table else {}),
        **(_judge_indices(config, ledger, expected, reasons) if config.elasticsearch.enabled else {}),
        **(
            _judge_statistics(config, [o for o in outcomes if ledger.is_counted(o["key"])])
            if config.elasticsearch.enabled
            else {}
        ),
        "lost": len(expected.keys() - count.keys()) + len(ledger.bad.keys() - in_rejected.keys()),
        "duplicated": sum(times - 1 for counts in (count, in_rejected) for times in counts.values()),
        "phantom": len(count.keys() - expected.keys()) + len(in_rejected.keys() - ledger.bad.keys()),
        "divergent": sum(found.get(key) != value for key, value in expected.items() if key in found),
        "wrong reason": sum(
            ledger.bad[key] != (value, headers["reason"]) for key, value, headers in rejected if key in ledger.bad
        ),
    }


Expected = dict[tuple[str, str], tuple[float, float, float | None, int | None]]
"""Prediction, score, label and correctness, by key of the message and name of the model."""


def _judge_indices(
    config: Config, ledger: Ledger, expected: Expected, reasons: dict[str, tuple[str, str]]
) -> dict[str, int]:
    """Compare the two indices with the expected outcomes.

    Args:
        config: the configuration.
        ledger: the sent messages, and the first message whose documents must exist.
        expected: the outcomes.
        reasons: key and reason of each bad message by event id, from the rejected topic.
    """
    kept = documents(config, config.elasticsearch.index)
    count = Counter((document["key"], document["model"]) for document in kept)
    found = {(d["key"], d["model"]): (d["prediction"], d["score"], d.get("label"), d.get("correct")) for d in kept}
    rejected = documents(config, config.elasticsearch.rejected_index)
    rejected_count = Counter(document["event_id"] for document in rejected)
    wanted = {pair for pair in expected if ledger.is_indexed(pair[0])}
    wanted_rejected = {event for event, (key, _) in reasons.items() if ledger.is_indexed(key)}
    return {
        "lost documents": len(wanted - count.keys()) + len(wanted_rejected - rejected_count.keys()),
        "duplicated documents": len(kept) - len(count) + len(rejected) - len(rejected_count),
        "phantom documents": len(count.keys() - expected.keys()) + len(rejected_count.keys() - reasons.keys()),
        "divergent documents": sum(found.get(key) != value for key, value in expected.items() if key in found),
        "wrong reason in documents": sum(
            document["event_id"] in reasons and reasons[document["event_id"]][1] != document["reason"]
            for document in rejected
        ),
    }


def _judge_statistics(config: Config, outcomes: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Compare the statistics of quality, and of pairs, with those of the distinct outcomes in the topic."""
    outcomes = list(outcomes)
    expected = statistics_of(outcomes, config.quality.windows)
    expected_pairs = pairs_of(outcomes, config.quality.windows, config.models[0].name)
    kept, kept_pairs = statistics(config), paired_statistics(config)
    return {
        "lost statistics": len(expected.keys() - kept.keys()) + len(expected_pairs.keys() - kept_pairs.keys()),
        "phantom statistics": len(kept.keys() - expected.keys()) + len(kept_pairs.keys() - expected_pairs.keys()),
        "divergent statistics": sum(
            not same_statistics(kept[key], statistic) for key, statistic in expected.items() if key in kept
        )
        + sum(
            not same_pairs(kept_pairs[key], statistic) for key, statistic in expected_pairs.items() if key in kept_pairs
        ),
    }


Window = tuple[str, str, int, int]
"""Model, version, length in seconds, and start in epoch milliseconds."""


def statistics_of(outcomes: Iterable[Mapping[str, Any]], windows: Iterable[int]) -> dict[Window, Statistic]:
    """Return the statistics of the distinct outcomes, by the reference implementation."""
    by_id = {(o["event_id"], o["model"], o["model_version"]): o for o in outcomes}
    inside: defaultdict[Window, list[Mapping[str, Any]]] = defaultdict(list)
    for (_, model, version), outcome in by_id.items():
        for seconds in windows:
            begin = outcome["event_time"] // (1_000 * seconds) * 1_000 * seconds
            inside[model, version, seconds, begin].append(outcome)
    return {
        window: of_rows(
            [math.nan if outcome["label"] is None else outcome["label"] for outcome in found],
            [outcome["prediction"] for outcome in found],
            [float(outcome["score"]) for outcome in found],
            "margin" if window[0] == "svm" else "probability",
        )
        for window, found in inside.items()
    }


PairWindow = tuple[str, int, int]
"""Pair of versions, length in seconds, and start in epoch milliseconds; both 0 for the pair's whole life."""


def pairs_of(
    outcomes: Iterable[Mapping[str, Any]], windows: Iterable[int], champion: str
) -> dict[PairWindow, PairStatistic]:
    """Return the paired statistics of the distinct outcomes, by the reference implementation."""
    by_event: defaultdict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for outcome in outcomes:
        by_event[outcome["event_id"]][outcome["model"]] = outcome
    inside: defaultdict[PairWindow, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = defaultdict(list)
    for of_models in by_event.values():
        first = of_models.get(champion)
        for name, second in of_models.items():
            if first is not None and name != champion:
                pair = f"{champion}:{first['model_version']}:{name}:{second['model_version']}"
                inside[pair, 0, 0].append((first, second))
                for seconds in windows:
                    begin = first["event_time"] // (1_000 * seconds) * 1_000 * seconds
                    inside[pair, seconds, begin].append((first, second))
    return {window: _pair(found) for window, found in inside.items()}


def _pair(found: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> PairStatistic:
    labels = [math.nan if first["label"] is None else first["label"] for first, _ in found]
    predictions = [[outcomes[at]["prediction"] for outcomes in found] for at in (0, 1)]
    probabilities = [
        None if found[0][at]["model"] == "svm" else [float(outcomes[at]["score"]) for outcomes in found]
        for at in (0, 1)
    ]
    return pairs.of_rows(labels, *predictions, *probabilities)


def paired_statistics(config: Config) -> dict[PairWindow, PairStatistic]:
    """Return the stored paired statistics of the configuration's topic, and check what was concluded from them."""
    found = {}
    for source in documents(config, config.elasticsearch.quality_index, ["@timestamp", "seconds", "model"]):
        if source["topic"] == config.kafka.topics.input and "pair" in source:
            whole = source["seconds"] == 0
            window = (source["pair"], source["seconds"], 0 if whole else source["@timestamp"])
            assert window not in found, window
            found[window] = PairStatistic.from_document(source)
            if whole and len(found[window].labels) > 1:
                assert source["log_evidence"] >= log_evidence(found[window])
    return found


def same_pairs(one: PairStatistic, other: PairStatistic) -> bool:
    """Return whether counts are equal, and sums up to rounding."""
    close = (math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-9, abs_tol=1e-9) for name in pairs.SUMS)
    counts = ("labels", *pairs.COUNTS)
    return all(close) and all(getattr(one, name) == getattr(other, name) for name in counts)


def statistics(config: Config) -> dict[Window, Statistic]:
    """Return the stored statistics of the configuration's topic."""
    found = {}
    for source in documents(config, config.elasticsearch.quality_index, ["@timestamp", "seconds", "model"]):
        if source["topic"] == config.kafka.topics.input and "pair" not in source:
            window = (source["model"], source["model_version"], source["seconds"], source["@timestamp"])
            assert window not in found, window
            found[window] = Statistic.from_document(source)
    return found


def same_statistics(one: Statistic, other: Statistic) -> bool:
    """Return whether counts are equal, and sums up to rounding."""
    sums = all(math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-9, abs_tol=1e-9) for name in SUMS)
    counts = (part.name for part in fields(Statistic) if part.name not in SUMS)
    return sums and all(getattr(one, name) == getattr(other, name) for name in counts)


def _judge_table(spark: SparkSession, config: Config, expected: Expected) -> dict[str, int]:
    """Compare the Delta table with the expected outcomes."""
    rows = sources.delta_table(spark, config.delta).collect()
    count = Counter((row["key"], row["model"]) for row in rows)
    found = {(r["key"], r["model"]): (r["prediction"], r["score"], r["label"], r["correct"]) for r in rows}
    return {
        "lost rows": len(expected.keys() - count.keys()),
        "duplicated rows": len(rows) - len(count),
        "phantom rows": len(count.keys() - expected.keys()),
        "divergent rows": sum(found.get(key) != value for key, value in expected.items() if key in found),
    }


def faults(judgement: dict[str, int]) -> dict[str, int]:
    """Return the entries that are not zero."""
    return {name: count for name, count in judgement.items() if count}


def _expected(spark: SparkSession, ledger: Ledger, models: dict[str, str]) -> Expected:
    """Score the ledger's vectors in a batch job, with models loaded by Spark itself."""
    expected = {}
    for name, folder in models.items():
        scores = _scores(spark, folder, ledger.seed)
        for key, (label, number) in ledger.good.items():
            prediction, score = scores[number]
            expected[key, name] = (prediction, score, label, None if label is None else int(prediction == label))
    return expected


@cache
def _scores(spark: SparkSession, folder: str, seed: int) -> dict[int, tuple[float, float]]:
    """Return a model's prediction and score of each vector of a ledger's pool, by the vector's number."""
    pool = spark.createDataFrame(list(enumerate(Ledger(seed).pool)), _SCHEMA)
    alone = PipelineModel.load(folder).transform(pool)
    column = "probability" if "probability" in alone.columns else "rawPrediction"
    rows = alone.select("number", "prediction", column).collect()
    return {row["number"]: (row["prediction"], row[column][1]) for row in rows}


_SCHEMA = StructType([StructField("number", IntegerType()), StructField("features", VectorUDT())])


def _records(spark: SparkSession, config: Config, topic: str) -> list[tuple[str, bytes | None, dict[str, str]]]:
    """Read a topic like a plain consumer."""
    rows = sources.topic(spark, config.kafka, topic).select(F.col("key").cast("string"), "value", "headers")
    return [
        (
            row["key"],
            None if row["value"] is None else bytes(row["value"]),
            {header["key"]: bytes(header["value"] or b"").decode() for header in row["headers"] or []},
        )
        for row in rows.collect()
    ]


def documents(config: Config, name: str, order: Iterable[str] = ("event_id",)) -> list[dict[str, Any]]:
    """Read a whole index, in an order with no or few ties."""
    found: list[dict[str, Any]] = []
    with elasticsearch.client(config.elasticsearch, 60) as client:
        client.indices.refresh(index=name)
        after: Any = None
        while True:
            query: dict[str, Any] = {"size": 10_000, "sort": [*order, "_doc"], "index": name}
            if name == config.elasticsearch.index:
                query["sort"] = [{"event_id": "asc"}, {"model": "asc"}, {"model_version": "asc"}]
            hits = client.search(**query, **({"search_after": after} if after else {}))["hits"]["hits"]
            if not hits:
                return found
            after = hits[-1]["sort"]
            found += [hit["_source"] for hit in hits]
