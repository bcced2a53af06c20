"""What is compared with what, and the rows that come of it."""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

import data
import latency
import memory
import peers
import variants
from figures import Growth, Row, Run, compared
from servers import INPUT, KAFKA_ONLY, LOOSE_INPUT, Bed
from sides import Side, compare
from streamscore.clients import kafka
from variants import Engine


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
    warm_ups: int = 4
    """Most runs of a Spark side before those that count."""
    spell: float = 2.0
    """Least seconds of a run on events in memory."""


FULL = Scale(5, 800_000, 600_000, 60_000, 36.0, grown=200_000, batches=300)
QUICK = Scale(1, 300_000, 100_000, 20_000, 12.0, grown=20_000, batches=30, batch=25_000, warm_ups=1, spell=1.0)
SMOKE = Scale(1, 2_000, 1_000, 500, 12.0, grown=2_000, batches=10, batch=1_000, warm_ups=1, spell=0.1)


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

    def shape(self, name: str, events: int) -> None:
        """Fill the input topic with a kind of event, and have models for it."""
        self.engine.run(variants.train, folder=self.bed.models, shape=name)
        self.bed.fill(name, events)

    def streamed(self, kind: str, *keys: str) -> Side:
        """Return what runs a kind of stream over the input topic."""
        keys = (f"stream.max_events_per_batch={self.scale.batch}", *keys)

        def run() -> Run:
            config = self.bed.config(*keys)
            self.bed.fresh(config)
            found: Run = self.engine.run(variants.streamed, *keys, kind=kind, pids=self.pids(self.engine))
            self.bed.require(config, found, records=1 if kind == "copied" else len(config.models))
            self.bed.require_input(config, found)
            return found

        return Side(run)

    def loop(self, name: str, shape: str, events: int, *keys: str) -> Side:
        """Return what runs a plain loop, in a process of its own."""

        def run() -> Run:
            config = self.bed.config(*keys)
            self.bed.fresh(config)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                known = data.weights(self.bed.models, data.shape(shape), config)
                found = pool.submit(peers.LOOPS[name], config, known, self.bed.pids, events).result()
            self.bed.require(config, found, {"confluent_copy": 1, "bulk_load": 0}.get(name, len(config.models)))
            return found

        return Side(run, stays=False)

    def in_memory(self, kind: str, *keys: str, engine: Engine | None = None) -> Side:
        """Return what does a part of the work on events in memory, by default in the engine that most cases share."""
        used = engine or self.engine
        seconds, pids = self.scale.spell, self.pids(used)
        return Side(lambda: used.run(variants.in_memory, *keys, kind=kind, seconds=seconds, pids=pids))

    def pids(self, engine: Engine) -> dict[str, int]:
        """Return the processes that take part in what an engine does, by name."""
        return self.bed.pids | {"job": engine.pid}

    def compare(self, sides: Mapping[str, Side]) -> dict[str, list[Run]]:
        """Run all sides in turn, as often as the scale says."""
        return compare(sides, self.scale.rounds, self.scale.warm_ups)

    # --- the groups of cases ------------------------------------------------------------------------------------

    def kafka(self) -> Iterator[Row]:
        """Kafka to Kafka: two models, 110 features, some 15 of them set."""
        self.shape("article", self.scale.events)
        self.bed.fill("loose", self.scale.events, LOOSE_INPUT)
        keys = (KAFKA_ONLY, self.bed.model_keys("article"))
        fast, slow = self.scale.events, self.scale.slow
        found = self.compare(
            {
                "ours": self.streamed("scored", *keys),
                "loose": self.streamed("scored", *keys, LOOSE_INPUT),
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
        yield compared(
            "streamscore on messages past its decoder's short cut ÷ on those that take it",
            found["loose"],
            found["ours"],
        )

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
        ours, bulk = ([replace(run, events=2 * run.events) for run in found[side]] for side in ("ours", "bulk"))
        yield compared("both sinks: documents ÷ bare bulk loader, ready-made bodies, two threads", ours, bulk, 0.80)
        yield compared("both sinks: streamscore ÷ from_json, all columns, no persist", found["ours"], found["common"])
        yield compared("both sinks ÷ Kafka alone", found["ours"], found["kafka only"])

    def statistics(self) -> Iterator[Row]:
        """What the statistics of quality cost, and what they save: documents for every event."""
        self.shape("article", self.scale.events)
        keys = (self.bed.model_keys("article"),)
        found = self.compare(
            {
                "ours": self.streamed("scored", KAFKA_ONLY, *keys),
                "uncounted": self.streamed("uncounted", KAFKA_ONLY, *keys),
                "few documents": self.streamed("scored", "elasticsearch.documents=0.01", *keys),
            }
        )
        title = "Kafka alone: streamscore ÷ the same without the statistics of quality"
        yield compared(title, found["ours"], found["uncounted"], 0.88)
        title = "both sinks, 1 % of the documents ÷ Kafka alone"
        yield compared(title, found["few documents"], found["ours"], 0.80)

    def labels(self) -> Iterator[Row]:
        """Labels in messages of their own, two documents each: events whose outcomes are there already."""
        events = self.scale.documents // 6
        self.shape("article", events)
        keys = ("labels.match=event_id", self.bed.model_keys("article"), "stream.available_now=true")
        config = self.bed.config(*keys)
        self.streamed("scored", *keys).run()
        data.fill(config.kafka, config.kafka.topics.labels, data.labels(config, events), events)

        def labelled() -> Run:
            self.bed.fresh_labels(config)
            found: Run = self.engine.run(variants.labelled, *keys, pids=self.pids(self.engine))
            self.bed.require_labelled(config, found)
            return found

        def loaded() -> Run:
            self.bed.fresh_labels(config)
            return bulk.run()

        # A loop recreates its indices, and the label job needs those of the scoring.
        own = [f"elasticsearch.{name}=loaded-{name.replace('_', '-')}" for name in ("index", "quality_index")]
        bulk = self.loop("bulk_load", "article", events, *keys, *own)
        found = self.compare({"ours": Side(labelled), "bulk": Side(loaded, stays=False)})
        ours, theirs = ([replace(run, events=2 * run.events) for run in found[side]] for side in ("ours", "bulk"))
        title = "late labels: labelled documents ÷ bare bulk loader, ready-made bodies, two threads"
        yield compared(title, ours, theirs)

    def shapes(self) -> Iterator[Row]:
        """Kafka to Kafka with other vectors."""
        for name, words, share in (("criteo", "39 of 16,384 set", 1), ("dense", "1,000 dense", 5)):
            self.shape(name, self.scale.events // share)
            batch = f"stream.max_events_per_batch={self.scale.batch // share}"  # as many batches of larger messages
            keys = (KAFKA_ONLY, self.bed.model_keys(name), batch)
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
                    run = self.engine.run(variants.live, *keys, seconds=self.scale.live, pids=self.pids(self.engine))
                self.bed.require(config, run, records=2)
                seen.append(latency.observed(config, self.scale.live / 3))
            for name in ("p50", "p99", "max"):
                each = [found[name] for found in seen[1:]]  # the first run warms up
                floor = {"p50": floors[0], "p99": floors[1]}.get(name) if floors else None
                title = f"latency {name} at 1,000 events/s, {words}"
                yield Row(title, statistics.median(each), min(each), max(each), floor, True, "ms")

    def kernels(self) -> Iterator[Row]:
        """The parts of the work, on events in memory, outcomes thrown away."""
        events = min(self.scale.events, 600_000)
        self.shape("article", events)
        self.bed.fill("loose", events // 2, LOOSE_INPUT)
        two, eight = self.bed.model_keys("article", 2), self.bed.model_keys("article", 8)
        for keys in ((two,), (two, LOOSE_INPUT)):
            self.engine.run(variants.hold, *keys)
        found = self.compare(
            {
                "decode": self.in_memory("decoded", two),
                "from_json": self.in_memory("unchecked decoded", two),
                "scored": self.in_memory("scored", two),
                "unchecked": self.in_memory("unchecked scored", two),
                "eight": self.in_memory("scored", eight),
                "loose": self.in_memory("decoded", two, LOOSE_INPUT),
                "loose from_json": self.in_memory("unchecked decoded", two, LOOSE_INPUT),
            }
        )
        for title, these, those, floor in (
            ("strict decode, by its short cut, and two models ÷ from_json and two models", "scored", "unchecked", 1.3),
            ("strict decode alone, by its short cut ÷ from_json unchecked", "decode", "from_json", None),
            ("strict decode alone, past its short cut ÷ from_json unchecked", "loose", "loose from_json", None),
        ):
            yield compared(title, found[these], found[those], floor)
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
        # Neither is the one that the other cases share, whose JVM has compiled more and may have more cores.
        with closing(self.bed.engine(cores=2)) as two, closing(self.bed.engine(cores=1)) as one:
            for engine in (two, one):
                engine.run(variants.hold, keys)
            found = self.compare(
                {
                    "two": self.in_memory("encoded", keys, engine=two),
                    "one": self.in_memory("encoded", keys, engine=one),
                }
            )
        yield compared("two cores ÷ one, broker not counted", found["two"], found["one"], 1.5)

    def memory(self) -> Iterator[Row]:
        """Memory of the job as it is submitted, with a heap of 1 GB, in a run and in one ten times as long."""
        events = self.scale.batches * self.scale.batch
        self.shape("article", events)
        models = self.bed.model_keys("article")
        keys = [KAFKA_ONLY, models, "spark.driver_memory=1g", "stream.available_now=true"]
        config = self.bed.config(*keys, f"stream.checkpoint={self.bed.config().state_dir / 'checkpoints' / 'memory'}")
        self.bed.fresh(config)
        shutil.rmtree(config.stream.checkpoint, ignore_errors=True)
        peaks = list(memory.peaks(config, [*self.bed.keys, *keys], events * 2))
        early = max(size for share, size in peaks if share <= 0.1)
        late = max(size for _, size in peaks)
        yield Row("peak memory of the job's JVM, heap of 1 GB", late, late, late, 1.6, True, "GB")
        growth = 100 * (late / early - 1)
        title = "growth of that peak over a run ten times as long"
        yield Row(title, growth, growth, growth, 10.0, True, "%")

    def seed(self) -> Iterator[Row]:
        """The seed job against reading the same file and making the same messages."""
        pids = self.pids(self.engine)
        rows = max(5_000, self.scale.events // 5_000 * 5_000)
        self.engine.run(variants.write_rows, rows=rows, shape="article")

        def seeded() -> Run:
            config = self.bed.config()
            kafka.delete(config.kafka, config.kafka.topics.input)
            kafka.ensure(config.kafka, config.kafka.topics.input)
            found: Run = self.engine.run(variants.seeded, pids=pids)
            self.bed.require_input(config, found)
            return found

        def encoded() -> Run:
            found: Run = self.engine.run(variants.seed_encoded, pids=pids)
            self.bed.require_input(self.bed.config(), found)
            return found

        found = self.compare({"seeded": Side(seeded), "encoded": Side(encoded)})
        title = "seed_topic ÷ the same rows numbered, encoded and thrown away"
        yield compared(title, found["seeded"], found["encoded"], 0.5)

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
            # A topic of its own: Spark's producer outlives one that is recreated, and would wait for lost partitions.
            written = f"kafka.topics.predictions=predictions-{count}"
            self._grown("partitions", str(count), "article", 2, f"kafka.partitions={count}", written)
        self._grown_index(5)
        yield from ()

    def _grown(self, what: str, size: str, shape: str, models: int, *keys: str) -> None:
        self.engine.run(variants.train, folder=self.bed.models, shape=shape)
        config = self.bed.config(*keys)
        kafka.delete(config.kafka, config.kafka.topics.input)
        self.bed.fill(shape, self.scale.grown, *keys)
        side = self.streamed("scored", KAFKA_ONLY, self.bed.model_keys(shape, models), *keys)
        side.run()
        self.growth.setdefault(what, {"process": "job", "cost": {}})["cost"][size] = side.run().cpu["job"]

    def _grown_index(self, steps: int) -> None:
        """Fill one index from a topic after another, since a topic's name is a part of its events' ids."""
        model_keys = self.bed.model_keys("article")
        self.bed.fresh(self.bed.config())
        cost = self.growth.setdefault("documents in the index", {"process": "elasticsearch", "cost": {}})["cost"]
        for step in range(steps):
            topic = f"kafka.topics.input={INPUT}-{step}"
            self.bed.fill("article", self.scale.documents, topic)
            keys = (f"stream.max_events_per_batch={self.scale.batch}", model_keys, topic)
            run: Run = self.engine.run(variants.streamed, *keys, kind="scored", pids=self.pids(self.engine))
            self.bed.require_input(self.bed.config(*keys), run)
            cost[str(2 * step * self.scale.documents)] = run.cpu["elasticsearch"]

    def close(self) -> None:
        """End the session."""
        self.engine.close()


GROUPS: Sequence[Callable[[Bench], Iterator[Row]]] = (
    Bench.kafka,
    Bench.both_sinks,
    Bench.statistics,
    Bench.labels,
    Bench.shapes,
    Bench.waiting,
    Bench.kernels,
    Bench.models,
    Bench.cores,
    Bench.memory,
    Bench.seed,
    Bench.grow,
)
