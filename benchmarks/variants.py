"""What runs in Spark: the job's own code, and Spark jobs as others would write them.

Everything here runs in a process of its own, which holds one Spark session; ``Engine`` is the way to it.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import data
from figures import Run
from measure import Meter, events, steady
from streamscore import config as configuration
from streamscore import label_stream, listeners, score_stream, scored, seed_topic, sinks
from streamscore import models as served_models
from streamscore.clients.kafka import MAX_MESSAGE_BYTES
from streamscore.config import Config
from streamscore.data import datasets
from streamscore.listeners.totals import Totals
from streamscore.local import artifacts, java
from streamscore.messages import decoder
from streamscore.messages.decode import DECODER, JSON_TEXT, decode, decoded_type
from streamscore.scoring import apply
from streamscore.scoring.apply import apply_models
from streamscore.scoring.declines import DECLINED_TYPE
from streamscore.scoring.evaluate import counts, with_correct
from streamscore.scoring.outcomes import outcomes
from streamscore.scoring.served import ServedModel
from streamscore.sinks import elasticsearch, kafka
from streamscore.sinks.base import Sink
from streamscore.sinks.topics import write_topic
from streamscore.spark import jvm, sources
from streamscore.spark.settings import log_file
from streamscore.stream import recovery
from streamscore.stream.batch import BatchWriter
from streamscore.stream.query import QueryRunner
from streamscore.stream.stop import StopRequest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType, StructType

_state: dict[str, Any] = {}


class Engine:
    """A process with a Spark session, which other processes tell what to run."""

    def __init__(self, keys: Sequence[str], cores: int | None = None) -> None:
        """Start a session with these configuration overrides; on so many cores alone, if the system can see to that."""
        self._keys = keys
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.pid: int = self.run(_open, cores=cores)

    def run(self, function: Callable[..., Any], *keys: str, **arguments: Any) -> Any:
        """Run a function of this module with the session and a configuration; more overrides may be added."""
        return self._pool.submit(_call, function, [*self._keys, *keys], arguments).result()

    def close(self) -> None:
        """End the session and the process."""
        self.run(_close)
        self._pool.shutdown()


def _call(function: Callable[..., Any], keys: Sequence[str], arguments: dict[str, Any]) -> Any:
    from pyspark.errors import PySparkException

    try:
        return function(configuration.load("local", list(keys)), **arguments)
    except PySparkException as error:
        # It holds what cannot be sent to another process.
        raise RuntimeError(f"{function.__name__}: {error}") from None


def _open(config: Config, cores: int | None) -> int:
    process = psutil.Process()
    if cores is not None and hasattr(process, "cpu_affinity"):
        # What this process starts inherits it: the JVM, with its compiler and collector.
        process.cpu_affinity(process.cpu_affinity()[:cores])
    found = java.find()
    jars = artifacts.spark_jars(config.local.artifacts_dir, found)
    _state["spark"] = score_stream.JOB.create_session(config, jars)
    decoder.register_text(_spark(), JSON_TEXT)
    return jvm.jvm_pid(_state["spark"])


def _close(config: Config) -> None:
    del config
    _state.pop("spark").stop()


def _spark() -> SparkSession:
    spark: SparkSession = _state["spark"]
    return spark


def _models(config: Config) -> list[ServedModel]:
    """Return the configured models, loaded once."""
    key = f"models {config.models}"
    if key not in _state:
        _state[key] = served_models.load(_spark(), config)
    found: list[ServedModel] = _state[key]
    return found


def train(config: Config, folder: Path, shape: str) -> None:
    """Train the models of a shape."""
    del config
    data.train(_spark(), folder, data.shape(shape))


# --- Kafka to Kafka, or to both sinks -------------------------------------------------------------------------------


def streamed(config: Config, kind: str, pids: dict[str, int]) -> Run:
    """Run one kind of stream over what the input topic holds."""
    shutil.rmtree(config.stream.checkpoint, ignore_errors=True)
    frame, write = _STREAMS[kind](config)
    meter = Meter(pids)
    started = frame.writeStream.foreachBatch(write).option("checkpointLocation", config.stream.checkpoint)
    query = started.trigger(availableNow=True).start()
    query.awaitTermination()
    progress = query.recentProgress
    return meter.run(sum(map(events, progress)), steady(progress))


Written = tuple["DataFrame", Callable[["DataFrame", int], None]]


def _ours(config: Config) -> Written:
    """Return the job's own stream and its own writer."""
    served = _models(config)
    return _written(score_stream.scored_events(_spark(), config, served), config, served)


def _uncounted(config: Config) -> Written:
    """Return the job's own stream and writer without the statistics of quality."""
    served = _models(config)
    scored.register(_spark(), config, served)
    rows = scored.evaluated(_events(config), served, scored.key_room(config))
    return _written(rows.observe("quality", *counts()), config, served)


def _written(rows: DataFrame, config: Config, served: list[ServedModel]) -> Written:
    """Return evaluated rows as the job's own writer takes them, and that writer."""
    writer = BatchWriter(_sinks(config, served), StopRequest(), query=lambda: "benchmark")
    return writer.shape(rows), writer


def _sinks(config: Config, served: list[ServedModel]) -> list[Sink]:
    """Return the job's own sinks."""
    return [sink.with_models(served) for sink in sinks.configured(config)]


def _records(judged: DataFrame, config: Config, served: list[ServedModel]) -> DataFrame:
    """Return judged rows as the records that the job writes."""
    names = config.kafka.topics
    return kafka.records(judged, served, names.predictions, names.rejected, MAX_MESSAGE_BYTES)


def _copied(config: Config) -> Written:
    """Return a stream that copies each event as it is, with the same settings of source and sink."""

    def write(batch: DataFrame, _: int) -> None:
        write_topic(batch.selectExpr(f"'{config.kafka.topics.predictions}' AS topic", "key", "value"), config.kafka)

    return _events(config), write


def _events(config: Config) -> DataFrame:
    """Return the input topic as a stream, as the job reads it."""
    return sources.events(_spark(), config.kafka, config.kafka.topics.input, config.stream)


def _common(config: Config) -> Written:
    """Return what one writes at first: from_json without checks, every column of every model, nothing persisted."""
    from pyspark.sql import functions as F

    served = _models(config)
    rows = _unchecked(_events(config))
    for model in served:
        stage = model.stages[-1].copy()
        outputs = {name: f"{name}_{model.name}" for name in ("predictionCol", "rawPredictionCol", "probabilityCol")}
        for name, column in outputs.items():
            if stage.hasParam(name):
                stage.set(stage.getParam(name), column)
        rows = stage.transform(rows)
        rows = rows.withColumn(model.prediction, F.col(outputs["predictionCol"]))
        rows = rows.withColumn(model.score, apply._score(stage, F.col(model.prediction), model))  # noqa: SLF001
        rows = rows.withColumn(model.declined, F.lit(None).cast(DECLINED_TYPE))
    judged = with_correct(rows, served)

    def write(batch: DataFrame, _: int) -> None:
        if config.elasticsearch.enabled:
            documents = elasticsearch.documents(outcomes(batch, served), config.kafka.topics.input)
            elasticsearch.write_index(documents, config.elasticsearch, config.elasticsearch.index)
        write_topic(_records(batch, config, served), config.kafka)

    return judged, write


def _in_python(config: Config) -> Written:
    """Return our stream with the decoder written as a Python function."""
    served = _models(config)
    decoded = _with_origin(_events(config), _python_decoder()("value"))
    return _written(with_correct(apply_models(decoded, served), served), config, served)


_STREAMS = {"scored": _ours, "uncounted": _uncounted, "copied": _copied, "common": _common, "python": _in_python}


def _python_decoder() -> Any:
    from pyspark.sql import functions as F

    def read(value: bytes) -> Any:
        # Nested, so that Spark sends it to its workers whole.
        import json as parser

        from pyspark.ml.linalg import Vectors

        event = parser.loads(bytes(value))
        vector = event["features"]
        features = Vectors.sparse(vector["size"], vector["indices"], vector["values"])
        return event["label"], features, None, None

    return F.udf(read, decoded_type())


def _unchecked(events: DataFrame) -> DataFrame:
    """Decode with from_json as it is, behind the barrier that keeps it from being called once per use."""
    from pyspark.sql import functions as F

    parsed = F.when(F.spark_partition_id() >= 0, F.from_json(F.col("value").cast("string"), _wanted()))
    decoded = events.withColumn("decoded", parsed).select("*", "decoded.*")
    absent: dict[str, DataType | str] = dict.fromkeys(("reason", "detail", "topic"), "string")
    absent |= {"partition": "int", "offset": "long", "value": "binary", "headers": events.schema["headers"].dataType}
    nothing = [F.lit(None).cast(kind).alias(name) for name, kind in absent.items()]
    return decoded.select(*_origin(), "key", "label", "features", *nothing)


def _wanted() -> StructType:
    """Return the type of what a message holds."""
    from pyspark.sql.types import StructType

    return StructType([field for field in decoded_type() if field.name in {"label", "features"}])


def _with_origin(events: DataFrame, decoded: Any) -> DataFrame:
    found = events.withColumn("decoded", decoded)
    return found.select(*_origin(), "key", "decoded.*", "topic", "partition", "offset", "value", "headers")


def _origin() -> list[Any]:
    from pyspark.sql import functions as F

    return [
        F.concat_ws("-", "topic", "partition", "offset").alias("event_id"),
        F.unix_millis("timestamp").alias("event_time"),
    ]


# --- without Kafka: events in memory, outcomes thrown away ----------------------------------------------------------


def hold(config: Config) -> None:
    """Take the input topic's events into memory, beside those of other topics; each of them must be a good one."""
    topic = config.kafka.topics.input
    events = sources.topic(_spark(), config.kafka, topic).repartition(8).persist()
    count = events.count()
    _register(config)
    for reader in (decode, _unchecked):
        if reader(events).filter("reason IS NOT NULL OR label IS NULL OR features IS NULL").count():
            raise RuntimeError(f"{reader.__name__} cannot read all events of {topic}")
    _state.setdefault("events", {})[topic] = events, count


def drop(config: Config) -> None:
    """Let go of the events in memory."""
    del config
    for held, _ in _state.pop("events").values():
        held.unpersist()


def in_memory(config: Config, kind: str, seconds: float, pids: dict[str, int]) -> Run:
    """Do a part of the work (a key of ``_PARTS``) on the events in memory, again and again for so many seconds."""
    events, count = _state["events"][config.kafka.topics.input]
    _register(config)
    outcome = _PARTS[kind](events, config).write.format("noop").mode("overwrite")
    done = 0
    meter = Meter(pids)
    while not done or meter.seconds < seconds:
        outcome.save()
        done += count
    return meter.run(done)


def _register(config: Config) -> None:
    decoder.register(_spark(), DECODER, config.message, _models(config)[0].size)


def _scored(decoded: DataFrame, config: Config) -> DataFrame:
    served = _models(config)
    return with_correct(apply_models(decoded, served), served)


_PARTS: Mapping[str, Callable[[DataFrame, Config], DataFrame]] = {
    "decoded": lambda events, _: decode(events),
    "unchecked decoded": lambda events, _: _unchecked(events),
    "scored": lambda events, config: _scored(decode(events), config),
    "unchecked scored": lambda events, config: _scored(_unchecked(events), config),
    "encoded": lambda events, config: _records(_scored(decode(events), config), config, _models(config)),
}


# --- the other jobs -------------------------------------------------------------------------------------------------


def write_rows(config: Config, rows: int, shape: str) -> None:
    """Write a data set of vectors as parquet, for the seed job."""
    from pyspark.sql import functions as F

    kind = data.shape(shape)
    lines = [(value.decode(),) for value in data.messages(kind, 5_000)]
    table = _spark().createDataFrame(lines, "value string").select(F.from_json("value", _wanted()).alias("row"))
    table = table.select("row.*").crossJoin(_spark().range(rows // 5_000)).select("label", "features")
    table.coalesce(1).write.mode("overwrite").parquet(config.seed.source)


def seeded(config: Config, pids: dict[str, int]) -> Run:
    """Run the seed job: it reads the data set once to number its rows, and once more to send them."""
    meter = Meter(pids)
    return meter.run(seed_topic.run(_spark(), config)["sent"])


def labelled(config: Config, pids: dict[str, int]) -> Run:
    """Run the label job over what the topic of labels holds."""
    shutil.rmtree(config.labels.checkpoint, ignore_errors=True)
    meter = Meter(pids)
    return meter.run(label_stream.run(_spark(), config)["received"])


def seed_encoded(config: Config, pids: dict[str, int]) -> Run:
    """Number the rows of the same parquet file, make the same messages and throw them away."""
    meter = Meter(pids)
    rows = datasets.numbered(_spark(), config.seed)
    records = datasets.records(rows, config, range(config.seed.repeat)).select("key", "value", "headers")
    records.write.format("noop").mode("overwrite").save()
    return meter.run(rows.count)


def live(config: Config, seconds: float, pids: dict[str, int]) -> Run:
    """Run the job itself on what comes in, for some seconds."""
    shutil.rmtree(config.stream.checkpoint, ignore_errors=True)
    served = _models(config)
    stop = StopRequest(seconds)
    totals = Totals(served, synthetic=True)
    hearing = listeners.configured(config, totals, lambda _: None)
    with (
        recovery.held(_spark(), config.stream, config.kafka.topics.input, stop) as held,
        listeners.opened(hearing),
    ):
        name = score_stream.NAME
        runner = QueryRunner(name, config.stream, held, stop, hearing, log_file(config, name))
        meter = Meter(pids)
        runner.run(score_stream.scored_events(_spark(), config, served), _sinks(config, served))
    return meter.run(max(1, totals.events))
