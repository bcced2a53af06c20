"""The events of the benchmark, in some shapes of vector, and the models that score them; the same in every run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamscore.clients import kafka as kafka_client
from streamscore.config import Config, Kafka

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DISTINCT = 20_000
"""Number of different events of a topic; then they come again."""


@dataclass(frozen=True)
class Shape:
    """A kind of vector."""

    name: str
    size: int
    least: int
    """Fewest entries that are set."""
    most: int
    is_dense: bool = False
    padding: int = 0
    """Characters of a further field, which nobody reads."""
    is_hashed: bool = False
    """Whether its values are like those after hashing; otherwise they are small whole numbers."""
    separators: tuple[str, str] = (",", ":")

    def vector(self, chance: random.Random) -> tuple[list[int], list[float]]:
        """Return indices and values of a vector."""
        if self.is_dense:
            return list(range(self.size)), [round(chance.uniform(-3, 3), 4) for _ in range(self.size)]
        places = sorted(chance.sample(range(self.size), chance.randint(self.least, self.most)))
        if not self.is_hashed:
            return places, [float(chance.randint(1, 20)) for _ in places]
        # A third are logarithms, the others stand for a category.
        return places, [math.log1p(chance.randint(0, 999)) if at % 3 == 0 else 1.0 for at in range(len(places))]


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("article", 110, 10, 20),
        # As json.dumps writes by default, and with a further field: the decoder's short cut gives these back unread.
        Shape("loose", 110, 10, 20, padding=8, separators=(", ", ": ")),
        Shape("criteo", 16_384, 39, 39, is_hashed=True),
        Shape("dense", 1_000, 1_000, 1_000, is_dense=True),
    )
}


def shape(name: str) -> Shape:
    """Return a shape by its name.

    ``sparse-N-K`` is a vector of N entries with K set, ``padded-N`` the article's beside a text of N characters.
    """
    if name in SHAPES:
        return SHAPES[name]
    kind, *numbers = name.split("-")
    if kind == "padded":
        return replace(SHAPES["article"], name=name, padding=int(numbers[0]))
    size, count = map(int, numbers)
    return Shape(name, size, count, count, is_hashed=True)


def messages(kind: Shape, count: int = DISTINCT) -> list[bytes]:
    """Return that many different events as the input topic has them."""
    chance = random.Random(7)  # noqa: S311 (seeded on purpose)
    return [_message(kind, *kind.vector(chance), float(chance.random() < 0.256)) for _ in range(count)]


def _message(kind: Shape, indices: list[int], values: list[float], label: float) -> bytes:
    vector: dict[str, Any] = {"type": 0, "size": kind.size, "indices": indices, "values": values}
    if kind.is_dense:
        vector = {"type": 1, "values": values}
    further = {"note": "x" * kind.padding} if kind.padding else {}
    return json.dumps({"label": label, "features": vector, **further}, separators=kind.separators).encode()


def labels(config: Config, events: int) -> list[bytes]:
    """Return a label for each event that ``fill`` has put into the input topic, by the event's id."""
    topic, partitions = config.kafka.topics.input, config.kafka.partitions
    return [
        json.dumps(
            {"id": f"{topic}-{number % partitions}-{number // partitions}", "label": float(number % 4 == 0)}
        ).encode()
        for number in range(events)
    ]


def fill(kafka: Kafka, topic: str, values: Sequence[bytes], count: int) -> None:
    """Recreate a topic with so many events, spread evenly over its partitions."""
    kafka_client.delete(kafka, topic)
    kafka_client.ensure(kafka, topic)
    producer = kafka_client.producer(kafka)
    for number, value in enumerate(_again(values, count)):
        while True:
            try:
                producer.produce(topic, value, partition=number % kafka.partitions)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush()


def _again(values: Sequence[bytes], count: int) -> Iterator[bytes]:
    return (values[number % len(values)] for number in range(count))


def model_keys(folder: Path, kind: Shape, count: int) -> str:
    """Return the configuration override that names so many models, the two trained ones again and again."""
    found = [(f"{name}{round_}", folder / kind.name / name) for round_ in range(1, 5) for name in ("lr", "svm")]
    return "models=" + json.dumps(
        [{"name": name, "uri": str(path), "trust": "unsigned"} for name, path in found[:count]]
    )


def train(spark: SparkSession, folder: Path, kind: Shape) -> None:
    """Train the two models of a shape, unless they are there, and write down their weights for the plain loops."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LinearSVC, LogisticRegression
    from pyspark.ml.linalg import Vectors

    target = folder / kind.name
    if (target / "weights.json").exists():
        return
    chance = random.Random(1)  # noqa: S311 (seeded on purpose)
    rows = []
    for _ in range(500):
        indices, values = kind.vector(chance)
        rows.append((float(chance.random() < 0.256), Vectors.sparse(kind.size, indices, values)))
    table = spark.createDataFrame(rows, ["label", "features"])
    weights = []
    for name, classifier in (("lr", LogisticRegression(maxIter=5)), ("svm", LinearSVC(maxIter=5))):
        pipeline = Pipeline(stages=[classifier]).fit(table)
        pipeline.write().overwrite().save(str(target / name))
        fitted: Any = pipeline.stages[0]
        weights.append({"kind": name, "weights": fitted.coefficients.toArray().tolist(), "intercept": fitted.intercept})
    (target / "weights.json").write_text(json.dumps(weights))


def weights(folder: Path, kind: Shape, config: Config) -> list[dict[str, Any]]:
    """Return name, version, kind, weights and intercept of each configured model."""
    trained = {entry["kind"]: entry for entry in json.loads((folder / kind.name / "weights.json").read_text())}
    return [trained[Path(model.uri).name] | {"name": model.name, "version": "0"} for model in config.models]
