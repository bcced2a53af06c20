"""The benchmark's own place: a state folder, a Kafka broker, an Elasticsearch, and recreated topics and indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import data
from figures import Run
from streamscore import config as configuration
from streamscore.clients import elasticsearch, kafka, labels, topic_records
from streamscore.config import Config
from streamscore.local import stack
from streamscore.local.ports import free_port
from variants import Engine

ROOT = Path(__file__).parents[1]
TEST_BED = ROOT / ".streamscore" / "bench"
INPUT = "bench-input"
KAFKA_ONLY = "elasticsearch.enabled=false"
LOOSE_INPUT = f"kafka.topics.input={INPUT}-loose"


class Bed:
    """The servers, and configurations that fit them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the overrides that name the servers."""
        self.keys = [*keys]
        self.models = self.config().state_dir / "models"
        self.pids: dict[str, int] = {}
        """Processes of the servers, by name."""

    def config(self, *keys: str) -> Config:
        """Return a configuration with further overrides."""
        return configuration.load("local", [*self.keys, *keys])

    def engine(self, cores: int | None = None) -> Engine:
        """Start a Spark session of its own; with so many cores, which are all that it gets if the system allows."""
        return Engine([*self.keys, *([f"spark.master=local[{cores}]"] if cores else [])], cores)

    def model_keys(self, shape: str, count: int = 2) -> str:
        """Return the override that names so many models."""
        return data.model_keys(self.models, data.shape(shape), count)

    def fill(self, shape: str, events: int, *keys: str) -> None:
        """Refill the input topic."""
        config = self.config(*keys)
        data.fill(config.kafka, config.kafka.topics.input, data.messages(data.shape(shape)), events)

    def fresh(self, config: Config) -> None:
        """Recreate the topics and indices of the outcomes, so that every run finds the same."""
        names = config.kafka.topics
        kafka.delete(config.kafka, names.predictions, names.rejected)
        kafka.ensure(config.kafka, names.predictions, names.rejected)
        if config.elasticsearch.enabled:
            elasticsearch.delete(config.elasticsearch)
            elasticsearch.ensure(config.elasticsearch)

    def fresh_labels(self, config: Config) -> None:
        """Recreate the topic and the indices of labelled outcomes."""
        names, search = config.kafka.topics, config.elasticsearch
        kafka.delete(config.kafka, names.labelled)
        kafka.ensure(config.kafka, names.labelled)
        with elasticsearch.client(search) as client:
            for index in (search.labelled_index, search.pending_index, search.labels_status_index):
                client.indices.delete(index=index, ignore_unavailable=True)
        labels.ensure(search)

    def require_labelled(self, config: Config, run: Run) -> None:
        """Check that each label of a run has found its event's outcomes."""
        with elasticsearch.client(config.elasticsearch) as client:
            found = labels.counts(client, config.elasticsearch, config.kafka.topics.labels)
        _require({name: found[name] for name in ("received", "matched")}, {"received": run.done, "matched": run.done})

    def require(self, config: Config, run: Run, records: int) -> None:
        """Check that a run left so many records of each of its events, rejected none, and indexed all outcomes."""
        names = config.kafka.topics
        wanted = {names.predictions: run.done * records, names.rejected: 0}
        found = {name: topic_records.extent(config.kafka, name).records for name in wanted}
        if config.elasticsearch.enabled and config.elasticsearch.documents == 1:
            wanted[config.elasticsearch.index] = run.done * len(config.models)
            found[config.elasticsearch.index] = elasticsearch.count(config.elasticsearch)
        _require(found, wanted)

    def require_input(self, config: Config, run: Run) -> None:
        """Check that a run's events are those that the input topic holds."""
        name = config.kafka.topics.input
        _require({name: run.done}, {name: topic_records.extent(config.kafka, name).records})


def _require(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    if found != wanted:
        raise RuntimeError(f"a side did not do its work: expected {wanted}, found {found}")


@contextmanager
def running() -> Iterator[Bed]:
    """Start the servers on free ports, with a state folder of their own, and stop them afterwards."""
    bed = Bed(
        [
            f"state_dir={TEST_BED}",
            f"local.artifacts_dir={ROOT / '.streamscore' / 'artifacts'}",
            f"kafka.bootstrap_servers=127.0.0.1:{free_port()}",
            f"kafka.topics.input={INPUT}",
            f"elasticsearch.url=http://127.0.0.1:{free_port()}",
            "spark.master=local[2]",
            f"seed.source={TEST_BED / 'rows'}",
            "stream.trigger_seconds=0",
        ]
    )
    config = bed.config()
    stack.down(config)  # of a run that was broken off
    bed.pids = {server.name: server.pid for server in stack.up(config)}
    try:
        yield bed
    finally:
        stack.down(config)
