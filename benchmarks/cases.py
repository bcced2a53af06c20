"""What is compared with what, and the rows that come of it."""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import psutil

import data
import latency
import peers
import variants
from figures import Growth, Row, Run, compared
from servers import INPUT, KAFKA_ONLY, Bed
from streamscore import submit, topics
from streamscore.config import Config


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    events: int
    """Events of a topic for the Spark jobs."""
    documents: int
    """Events of a topic whose outcomes go to Elasticsearch."""
    slow: int
    """Events that a slow plain loop gets."""
    live: float
    """Seconds of a latency run, a third of it warm-up."""
    grown: int
    """Events for each size of what grows."""
    batches: int
    """Batches of the long run for memory, the tenth part of which it is compared with."""
    batch: int = 100_000


FULL = Scale(5, 1_200_000, 400_000, 60_000, 60.0, grown=200_000, batches=300)
QUICK = Scale(1, 400_000, 100_000, 20_000, 12.0, grown=20_000, batches=30, batch=50_000)
SMOKE = Scale(1, 2_000, 1_000, 500, 12.0, grown=2_000, batches=10, batch=1_000)


@dataclass
class Bench:
    """All the cases, over one set of servers and one Spark session."""

    bed: Bed
    scale: Scale
    growth: dict[str, Growth] = field(default_factory=dict)
    """By what grows."""

    def __post_init__(self) -> None:
        """Start the session that most cases share."""
        self.engine = self.bed.engine()
        self.pids = self.bed.pids | {"job": self.engine.pid}

    def shape(self, name: str, events: int) -> None:
        """Fill the input topic with a kind of event, and have models for it."""
        self.engine.run(variants.train, folder=self.bed.models, shape=name)
        self.bed.fill(name, events)

    def streamed(self, kind: str, *keys: str) -> Callable[[], Run]:
        """Return what runs a kind of stream over the input topic."""
        keys = (f"stream.max_events_per_batch={self.scale.batch}", *keys)

        def run() -> Run:
            self.bed.fresh(self.bed.config(*keys))
            found: Run = self.engine.run(variants.streamed, *keys, kind=kind, pids=self.pids)
            return found

        return run

    def loop(self, name: str, shape: str, events: int, *keys: str) -> Callable[[], Run]:
        """Return what runs a plain loop, in a process of its own."""

        def run() -> Run:
            config = self.bed.config(*keys)
            self.bed.fresh(config)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                known = data.weights(self.bed.models, data.shape(shape), config)
                return pool.submit(peers.LOOPS[name], config, known, self.bed.pids, events).result()

        return run

    def in_memory(self, kind: str, *keys: str) -> Callable[[], Run]:
        """Return what does a part of the work on events in memory."""

        def run() -> Run:
            found: Run = self.engine.run(variants.in_memory, *keys, kind=kind, pids=self.pids)
            return found

        return run

    def compare(self, sides: Mapping[str, Callable[[], Run]]) -> dict[str, list[Run]]:
        """Run all sides in turn, round after round; a first round warms up and does not count."""
        for run in sides.values():
            run()
        rounds = [{name: run() for name, run in sides.items()} for _ in range(self.scale.rounds)]
        return {name: [turn[name] for turn in rounds] for name in sides}

    # --- the groups of cases ------------------------------------------------------------------------------------

    def kafka(self) -> Iterator[Row]:
        """Kafka to Kafka: two models, 110 features, some 15 of them set."""
        self.shape("article", self.scale.events)
        keys = (KAFKA_ONLY, self.bed.model_keys("article"))
        fast, slow = self.scale.events, self.scale.slow
        found = self.compare(
            {
                "ours": self.streamed("scored", *keys),
                "copied": self.streamed("copied", *keys),
                "common": self.streamed("common", *keys),
                "python": self.streamed("python", *keys),
                "kafka_python": self.loop("kafka_python", "article", slow, *keys),
                "numpy": self.loop("confluent_numpy", "article", 4 * slow, *keys),
                "orjson": self.loop("confluent_orjson", "article", fast, *keys),
                "copy": self.loop("confluent_copy", "article", fast, *keys),
            }
        )
        for title, those, floor in (
            ("streamscore ÷ Spark that copies each event", "copied", 0.40),
            ("streamscore ÷ the article's loop (kafka-python, json, dense numpy, four fields)", "kafka_python", 9),
            ("streamscore ÷ confluent-kafka, json, numpy, four fields", "numpy", None),
            ("streamscore ÷ confluent-kafka, orjson, the same records", "orjson", 0.65),
            ("streamscore ÷ confluent-kafka that copies each event", "copy", None),
            ("streamscore ÷ Spark with a Python UDF for a decoder", "python", None),
            ("streamscore ÷ Spark with from_json unchecked, all columns, no persist", "common", None),
        ):
            yield compared(title, found["ours"], found[those], floor)

    def both_sinks(self) -> Iterator[Row]:
        """Kafka and Elasticsearch: two models, two documents per event."""
        self.shape("article", self.scale.documents)
        keys = (self.bed.model_keys("article"),)
        found = self.compare(
            {
                "ours": self.streamed("scored", *keys),
                "bulk": self.loop("bulk_load", "article", self.scale.documents, *keys),
                "common": self.streamed("common", *keys),
                "kafka only": self.streamed("scored", KAFKA_ONLY, *keys),
            }
        )
        documents = [Run(2 * run.events, run.seconds, run.cpu) for run in found["ours"]]
        yield compared(
            "both sinks: documents ÷ bare bulk loader, ready-made bodies, two threads", documents, found["bulk"], 0.80
        )
        yield compared("both sinks: streamscore ÷ from_json, all columns, no persist", found["ours"], found["common"])
        yield compared("both sinks ÷ Kafka alone", found["ours"], found["kafka only"])

    def shapes(self) -> Iterator[Row]:
        """Kafka to Kafka with other vectors."""
        for name, words in (("criteo", "39 of 16,384 set"), ("dense", "1,000 dense")):
            self.shape(name, self.scale.events // (1 if name == "criteo" else 8))
            keys = (KAFKA_ONLY, self.bed.model_keys(name))
            found = self.compare({kind: self.streamed(kind, *keys) for kind in ("scored", "copied")})
            yield compared(f"vectors of {words}: streamscore ÷ Spark that copies", found["scored"], found["copied"])

    def waiting(self) -> Iterator[Row]:
        """Latency at 1,000 events per second, Kafka to Kafka."""
        values = data.messages(data.shape("article"))
        for words, trigger, floors in (
            ("no pause between batches", 0, (250.0, 600.0)),
            ("a batch per second", 1, None),
        ):
            keys = (KAFKA_ONLY, self.bed.model_keys("article"), f"stream.trigger_seconds={trigger}")
            seen = []
            for _ in range(1 + max(1, self.scale.rounds // 2)):
                self.shape("article", 0)
                config = self.bed.config(*keys)
                self.bed.fresh(config)
                with latency.sending(config, values, 1_000):
                    self.engine.run(variants.live, *keys, seconds=self.scale.live, pids=self.pids)
                seen.append(latency.observed(config, self.scale.live / 3))
            for name in ("p50", "p99", "max"):
                each = [found[name] for found in seen[1:]]  # the first run warms up
                floor = {"p50": floors[0], "p99": floors[1]}.get(name) if floors else None
                title = f"latency {name} at 1,000 events/s, {words}"
                yield Row(title, statistics.median(each), min(each), max(each), floor, True, "ms")

    def kernels(self) -> Iterator[Row]:
        """The parts of the work, on events in memory, outcomes thrown away."""
        self.shape("article", min(self.scale.events, 600_000))
        two, eight = self.bed.model_keys("article", 2), self.bed.model_keys("article", 8)
        self.engine.run(variants.hold)
        found = self.compare(
            {
                "decode": self.in_memory("decoded", two),
                "from_json": self.in_memory("unchecked decoded", two),
                "scored": self.in_memory("scored", two),
                "unchecked": self.in_memory("unchecked scored", two),
                "eight": self.in_memory("scored", eight),
            }
        )
        yield compared(
            "strict decode and two models ÷ from_json unchecked and two models",
            found["scored"],
            found["unchecked"],
            1.3,
        )
        yield compared("strict decode alone ÷ from_json unchecked", found["decode"], found["from_json"])
        yield compared("eight models ÷ two, no sink", found["eight"], found["scored"])
        self.engine.run(variants.drop)

    def models(self) -> Iterator[Row]:
        """Kafka to Kafka with one, two and eight models: as many records per event."""
        self.shape("article", self.scale.events // 2)
        sides = {
            count: self.streamed("scored", KAFKA_ONLY, self.bed.model_keys("article", count)) for count in (1, 2, 8)
        }
        found = self.compare({str(count): run for count, run in sides.items()})
        yield compared("eight models ÷ two, Kafka to Kafka: events", found["8"], found["2"], 0.5)
        yield compared("one model ÷ two, Kafka to Kafka: events", found["1"], found["2"])

    def cores(self) -> Iterator[Row]:
        """One core against two, without a broker beside it: events in memory, records made and thrown away."""
        self.shape("article", min(self.scale.events, 600_000))
        keys = self.bed.model_keys("article")
        lone = self.bed.engine("spark.master=local[1]")
        pids = self.bed.pids | {"job": lone.pid}
        for engine in (self.engine, lone):
            engine.run(variants.hold)
        found = self.compare(
            {
                "two": self.in_memory("encoded", keys),
                "one": lambda: lone.run(variants.in_memory, keys, kind="encoded", pids=pids),
            }
        )
        yield compared("two cores ÷ one, broker not counted", found["two"], found["one"], 1.5)
        self.engine.run(variants.drop)
        lone.close()

    def memory(self) -> Iterator[Row]:
        """Memory of the job as it is submitted, with a heap of 1 GB, in a run and in one ten times as long."""
        events = self.scale.batches * self.scale.batch
        self.shape("article", events)
        models = self.bed.model_keys("article")
        keys = [KAFKA_ONLY, models, "spark.driver_memory=1g", "stream.available_now=true"]
        config = self.bed.config(*keys, f"stream.checkpoint={self.bed.config().state_dir / 'checkpoints' / 'memory'}")
        self.bed.fresh(config)
        shutil.rmtree(config.stream.checkpoint, ignore_errors=True)
        peaks = list(_peaks(config, [*self.bed.keys, *keys], events * 2))
        early = max(size for share, size in peaks if share <= 0.1)
        late = max(size for _, size in peaks)
        yield Row("peak memory of the job's JVM, heap of 1 GB", late, late, late, 1.6, True, "GB")
        growth = 100 * (late / early - 1)
        title = "growth of that peak over a run ten times as long"
        yield Row(title, growth, growth, growth, 10.0, True, "%")

    def seed(self) -> Iterator[Row]:
        """The seed job against reading the same file and making the same messages."""
        rows = max(5_000, self.scale.events // 5_000 * 5_000)
        self.engine.run(variants.write_rows, rows=rows, shape="article")

        def seeded() -> Run:
            config = self.bed.config()
            topics.delete(config.kafka, config.kafka.topics.input)
            topics.ensure(config.kafka, config.kafka.topics.input)
            found: Run = self.engine.run(variants.seeded, pids=self.pids)
            return found

        found = self.compare(
            {"seeded": seeded, "encoded": lambda: self.engine.run(variants.seed_encoded, pids=self.pids)}
        )
        yield compared("seed_topic ÷ the same rows encoded and thrown away", found["seeded"], found["encoded"], 0.5)

    def grow(self) -> Iterator[Row]:
        """Cost per event against what grows, one thing at a time and without repetition: for the plots, no row."""
        for what, sizes in (
            ("entries set in a vector", {str(n): f"sparse-16384-{n}" for n in (5, 15, 39, 100, 300, 1_000)}),
            ("length of a vector", {str(n): f"sparse-{n}-15" for n in (110, 1_000, 16_384, 131_072, 1_048_576)}),
            ("further bytes in a message", {str(n): f"padded-{n}" for n in (1, 300, 1_000, 3_000, 10_000)}),
        ):
            for size, shape in sizes.items():
                self._grown(what, size, shape, 2)
        for count in (1, 2, 4, 8):
            self._grown("models", str(count), "article", count)
        for count in (1, 2, 4, 8, 16):
            # A topic of its own: Spark's producer outlives one that is made anew, and would wait for lost partitions.
            written = f"kafka.topics.predictions=predictions-{count}"
            self._grown("partitions", str(count), "article", 2, f"kafka.partitions={count}", written)
        self._grown_index(5)
        yield from ()

    def _grown(self, what: str, size: str, shape: str, models: int, *keys: str) -> None:
        self.engine.run(variants.train, folder=self.bed.models, shape=shape)
        config = self.bed.config(*keys)
        topics.delete(config.kafka, config.kafka.topics.input)
        self.bed.fill(shape, self.scale.grown, *keys)
        run = self.streamed("scored", KAFKA_ONLY, self.bed.model_keys(shape, models), *keys)
        run()
        self.growth.setdefault(what, {"process": "job", "cost": {}})["cost"][size] = run().cpu["job"]

    def _grown_index(self, steps: int) -> None:
        """Fill one index from a topic after another, since a topic's name is a part of its events' ids."""
        model_keys = self.bed.model_keys("article")
        self.bed.fresh(self.bed.config())
        cost = self.growth.setdefault("documents in the index", {"process": "elasticsearch", "cost": {}})["cost"]
        for step in range(steps):
            topic = f"kafka.topics.input={INPUT}-{step}"
            self.bed.fill("article", self.scale.documents, topic)
            keys = (f"stream.max_events_per_batch={self.scale.batch}", model_keys, topic)
            run: Run = self.engine.run(variants.streamed, *keys, kind="scored", pids=self.pids)
            cost[str(2 * step * self.scale.documents)] = run.cpu["elasticsearch"]

    def close(self) -> None:
        """End the session."""
        self.engine.close()


GROUPS: Sequence[Callable[[Bench], Iterator[Row]]] = (
    Bench.kafka,
    Bench.both_sinks,
    Bench.shapes,
    Bench.waiting,
    Bench.kernels,
    Bench.models,
    Bench.cores,
    Bench.memory,
    Bench.seed,
    Bench.grow,
)


def _peaks(config: Config, keys: Sequence[str], records: int) -> Iterator[tuple[float, float]]:
    """Submit the job and yield, while it runs, the share of its records that are written and its peak memory so far."""
    environment = submit.prepare(config)
    words = [word for key in keys for word in ("--set", key)]
    checkpoint = f"stream.checkpoint={config.stream.checkpoint}"
    job = submit.start(
        "score_stream", config, [*words, "--set", checkpoint], environment, config.state_dir / "memory.log"
    )
    peak = 0.0
    while job.poll() is None:
        peak = max(peak, _jvm_gigabytes(job))
        written = topics.extent(config.kafka, config.kafka.topics.predictions).records
        if written:
            yield written / records, peak
        time.sleep(0.2)
    if job.returncode:
        raise RuntimeError(f"score_stream ended with code {job.returncode}; see {config.state_dir / 'memory.log'}")


def _jvm_gigabytes(job: subprocess.Popen[bytes]) -> float:
    """Return the resident memory of a job's JVM: spark-submit turns into it."""
    try:
        leader = psutil.Process(job.pid)
        return max(
            (p.memory_info().rss / 1e9 for p in (leader, *leader.children(recursive=True)) if p.name() == "java"),
            default=0.0,
        )
    except psutil.NoSuchProcess:
        return 0.0
