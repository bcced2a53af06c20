"""A batch: written sink by sink, its rows computed once, and the aggregates that sinks ask for in one pass."""

import pytest
from pyspark.sql import functions as F

from streamscore.sinks.base import Sink
from streamscore.stream.batch import BatchWriter, aggregated
from streamscore.stream.stop import StopRequest


class Summing(Sink):
    """Asks for the number and the sum of the rows, and notes what it is given."""

    name = "a list"

    def __init__(self, label) -> None:
        self.label = label
        self.given = []

    def aggregates(self, spark):  # noqa: ARG002 (a sink's signature)
        """Return a count and a sum."""
        return {"count": F.count("*"), "sum": F.sum("id")}

    def shape(self, rows):
        """Return some of the rows."""
        return rows.filter("id < 3")

    def write(self, shaped, batch, replay) -> None:  # noqa: ARG002 (a sink's signature)
        """Note the batch."""
        self.given.append((batch.number, dict(batch.aggregates), shaped.count()))


class Plain(Summing):
    """Asks for nothing."""

    aggregates = Sink.aggregates


@pytest.fixture
def writer():
    """Return a function that makes a writer of sinks."""
    return lambda *sinks: BatchWriter(sinks, StopRequest(), lambda: "q")


def test_sinks_get_the_aggregates_that_they_ask_for(spark, writer):
    """They are those of the whole batch, not of what the sink writes; a sink that asks for none gets none."""
    sinks = [Plain("plain"), Summing("one"), Summing("two")]
    writer(*sinks)(spark.range(10), 7)

    assert sinks[0].given == [(7, {}, 3)]
    assert sinks[1].given == sinks[2].given == [(7, {"count": 10, "sum": 45}, 3)]


def test_each_row_is_computed_once(spark, writer):
    """One pass computes all aggregates, and the sinks read its rows."""
    computed = spark.sparkContext.accumulator(0)

    def count(numbers):
        computed.add(1)
        return numbers

    rows = spark.range(10).withColumn("id", F.udf(count, "bigint")("id"))
    writer(Summing("one"), Summing("two"))(rows, 0)

    assert computed.value == 10


def test_only_sink_shapes_the_stream_unless_it_asks_for_aggregates(spark, writer):
    """What it aggregates are the rows before they take its shape."""
    plain, summing = Plain("plain"), Summing("summing")

    assert writer(plain).shape(spark.range(10)).count() == 3
    whole = writer(summing).shape(spark.range(10))
    assert whole.count() == 10
    writer(summing)(whole, 0)
    assert summing.given == [(0, {"count": 10, "sum": 45}, 3)]


def test_without_aggregates_there_is_no_pass(spark):
    """Nothing is computed for sinks that ask for nothing."""
    assert aggregated([Plain("plain")], spark.range(10).filter("raise_error('computed') IS NULL")) == {}
