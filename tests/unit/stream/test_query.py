"""The messages about a query's fault, and what listeners hear of the query."""

import time

import pytest
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors

from streamscore.errors import RefusedError, StreamError
from streamscore.listeners.base import BatchListener
from streamscore.sinks.base import Sink, SinkWork
from streamscore.stream.query import QueryRunner, place_of
from streamscore.stream.stop import StopRequest


class Writing(Sink):
    """A sink whose write is a given function."""

    name = "the sink"

    def __init__(self, act) -> None:
        self._act = act

    def shape(self, rows):
        """Return the rows as they are."""
        return rows

    def write(self, shaped, batch, replay) -> None:  # noqa: ARG002 (a sink's signature)
        """Write a batch."""
        self._act(shaped)


class Held:
    """A fake of a held checkpoint."""

    replay = None

    def query_id(self) -> str:
        """Return a query's identity."""
        return "q"

    def committed(self) -> int:
        """Return the last committed batch."""
        return -1


@pytest.fixture
def fault(spark, make_config, tmp_path):
    """Return a function that runs a query over one row into a sink and returns the error's message."""

    def run(act, applied=lambda rows: rows) -> str:
        source = tmp_path / "source"
        spark.createDataFrame([(1.0,)], "n double").write.mode("overwrite").parquet(str(source))
        settings = make_config(f"stream.checkpoint={tmp_path / 'checkpoint'}", "stream.available_now=true").stream
        runner = QueryRunner("q", settings, Held(), StopRequest(), (), tmp_path / "log")
        rows = applied(spark.readStream.schema("n double").parquet(str(source)))
        with pytest.raises(StreamError) as error:
            runner.run(rows, [Writing(act)])
        return str(error.value)

    return run


def refuse(_):
    """Refuse a batch as a sink does."""
    raise RefusedError("the index 'ml' was deleted")


def test_own_error_of_a_sink_is_told_in_its_own_words(fault):
    """A sink's own error is reported with its message, which Spark wraps in a Python stack trace."""
    assert fault(refuse).startswith("the stream stopped while writing to the sink: the index 'ml' was deleted\n")


def test_fault_of_a_model_is_not_told_as_one_of_the_sink(spark, fault):
    """A model's fault during a write is reported as the model's."""
    rows = [(Vectors.dense(0.0, 1.0), 0.0), (Vectors.dense(1.0, 0.0), 1.0)]
    model = LogisticRegression(maxIter=1).fit(spark.createDataFrame(rows, ["features", "label"]))

    def applied(rows):
        return model.transform(rows.selectExpr("array(n) AS a").select(array_to_vector("a").alias("features")))

    message = fault(lambda rows: rows.write.format("noop").mode("append").save(), applied)

    assert "the stream stopped while applying a model (" in message
    assert "the sink" not in message


def test_full_disk_is_named(fault, tmp_path):
    """The message names the full disk, unlike Spark's."""

    def fill(_):
        raise OSError(28, "No space left on device")

    assert f"A disk is full: that of the checkpoint ({tmp_path / 'checkpoint'})" in fault(fill)


@pytest.mark.parametrize(
    "frame",
    [
        "Caused by: org.apache.kafka.clients.consumer.OffsetOutOfRangeException: Fetch position",
        "\tat org.apache.spark.sql.kafka010.consumer.KafkaDataConsumer.get(KafkaDataConsumer.scala:331)",
    ],
)
def test_fault_of_the_source_is_told_as_one(frame):
    """A source's fault during a write is reported as the source's."""
    assert place_of(Exception(f"[STREAM_FAILED] Query\n{frame}"), Writing(print)) == " while reading the input topic"


def test_fault_of_a_write_to_kafka_is_one_of_the_sink():
    """A fault of a write to Kafka is reported as the sink's, although its stack frames are in the source's package."""
    fault = Exception("\tat org.apache.spark.sql.kafka010.KafkaRowWriter.checkForErrors(KafkaWriteTask.scala:92)")

    assert place_of(fault, Writing(print)) == " while writing to the sink"


class Committed(Held):
    """A checkpoint whose first batch is committed."""

    def committed(self) -> int:
        """Return the last committed batch."""
        return 0


class Polled(BatchListener):
    """A listener that keeps what it hears of the query's answers."""

    def __init__(self) -> None:
        self.heard = []

    def polled(self, has_triggered) -> None:
        """Keep one."""
        self.heard.append(has_triggered)


def test_listeners_hear_that_the_query_answers(spark, make_config, tmp_path):
    """They hear it from the start on, also while the query drains, and in the end that a trigger has ended."""
    source, listener = str(tmp_path / "source"), Polled()
    spark.createDataFrame([(1.0,)], "n double").write.parquet(source)
    settings = make_config(f"stream.checkpoint={tmp_path / 'checkpoint'}", "stream.available_now=true").stream
    runner = QueryRunner("q", settings, Committed(), StopRequest(), [listener], tmp_path / "log")
    runner.run(spark.readStream.schema("n double").parquet(source), [Writing(lambda rows: rows.count())])

    assert listener.heard[0] is False
    assert listener.heard[-1] is True
    assert listener.heard == sorted(listener.heard)


class Told(BatchListener):
    """A listener that keeps what it hears of the sinks."""

    def __init__(self) -> None:
        self.heard = []

    def wrote(self, sinks) -> None:
        """Keep one."""
        self.heard.append(dict(sinks))


def test_listeners_hear_what_sinks_do(spark, make_config, tmp_path):
    """They hear of each sink from the start on, of failed attempts while it repeats them, and of the time of all."""

    class Patient(Writing):
        label = "patient"

        def write(self, shaped, batch, replay) -> None:  # noqa: ARG002 (a sink's signature)
            """Fail twice, and go on."""
            for _ in range(2):
                time.sleep(0.6)
                batch.failed()
            time.sleep(0.6)

    source, listener = str(tmp_path / "source"), Told()
    spark.createDataFrame([(1.0,)], "n double").write.parquet(source)
    settings = make_config(f"stream.checkpoint={tmp_path / 'checkpoint'}", "stream.available_now=true").stream
    runner = QueryRunner("q", settings, Committed(), StopRequest(), [listener], tmp_path / "log")
    runner.run(spark.readStream.schema("n double").parquet(source), [Patient(None), Writing(lambda rows: rows.count())])
    errors = [heard["patient"].errors for heard in listener.heard]
    last = listener.heard[-1]

    assert listener.heard[0] == {"patient": SinkWork(), "other": SinkWork()}
    assert set(errors) == {0, 1, 2}
    assert 1.8 <= last["patient"].seconds < 5
    assert last["other"].seconds > 0
    assert last["other"].errors == 0


def test_failure_that_ends_the_query_is_an_error_of_its_sink(spark, make_config, tmp_path):
    """The last attempt counts, too."""
    source, listener = str(tmp_path / "source"), Told()
    spark.createDataFrame([(1.0,)], "n double").write.parquet(source)
    settings = make_config(f"stream.checkpoint={tmp_path / 'checkpoint'}", "stream.available_now=true").stream
    runner = QueryRunner("q", settings, Held(), StopRequest(), [listener], tmp_path / "log")
    with pytest.raises(StreamError):
        runner.run(spark.readStream.schema("n double").parquet(source), [Writing(refuse)])

    assert listener.heard[-1]["other"].errors == 1
