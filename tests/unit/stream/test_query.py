"""What the message about a query's fault names."""

import pytest
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors

from streamscore.errors import RefusedError, StreamError
from streamscore.sinks.base import Sink
from streamscore.stream.query import QueryRunner, place_of
from streamscore.stream.stop import StopRequest


class Writing(Sink):
    """A sink that does with a batch what it is told to."""

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
    """A checkpoint that is held, as far as a query asks it."""

    replay = None

    def query_id(self) -> str:
        """Return a query's identity."""
        return "q"

    def committed(self) -> int:
        """Return the last batch that is committed."""
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
    """Spark has it in the middle of Python's stack trace."""
    assert fault(refuse).startswith("the stream stopped while writing to the sink: the index 'ml' was deleted\n")


def test_fault_of_a_model_is_not_told_as_one_of_the_sink(spark, fault):
    """Rows are scored while they are written."""
    rows = [(Vectors.dense(0.0, 1.0), 0.0), (Vectors.dense(1.0, 0.0), 1.0)]
    model = LogisticRegression(maxIter=1).fit(spark.createDataFrame(rows, ["features", "label"]))

    def applied(rows):
        return model.transform(rows.selectExpr("array(n) AS a").select(array_to_vector("a").alias("features")))

    message = fault(lambda rows: rows.write.format("noop").mode("append").save(), applied)

    assert "the stream stopped while applying a model (" in message
    assert "the sink" not in message


def test_full_disk_is_named(fault, tmp_path):
    """Spark says only that there is no space."""

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
    """Rows are read while they are written."""
    assert place_of(Exception(f"[STREAM_FAILED] Query\n{frame}"), Writing(print)) == " while reading the input topic"


def test_fault_of_a_write_to_kafka_is_one_of_the_sink():
    """Its frames are in the same package."""
    fault = Exception("\tat org.apache.spark.sql.kafka010.KafkaRowWriter.checkForErrors(KafkaWriteTask.scala:92)")

    assert place_of(fault, Writing(print)) == " while writing to the sink"
