"""The JVM's counts of events, by age and by reason of rejection."""

import base64
import random
import time
from collections import Counter
from contextlib import nullcontext, suppress

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import Column

from streamscore.messages import decoder
from streamscore.messages.event_counts import unpack
from streamscore.schema import REASONS

SCHEMA = "event_time bigint, reason string"
NOW = 1_795_507_200_000
AGES = [-5, 0, 9, 10, 99, 100, 109, 110, 999, 1_000, 1_099, 1_100, 86_400_000, 9_999_999_999, 10_000_000_000, 10**12]


def counted(spark, rows, now=NOW, parts=3):
    """Return the JVM's counts of rows at a time."""
    frame = spark.createDataFrame(rows, SCHEMA).repartition(parts)
    inputs = [f"{now}L", "event_time", "reason"]
    column = spark._jvm.streamscore.EventCounts.column(inputs, list(REASONS))
    return unpack(frame.agg(Column(column)).collect()[0][0])


def test_each_event_is_counted_by_its_age(spark):
    """An age is that of its bin: no less than the event's, and at most a tenth or 9 ms more."""
    for age in AGES[1:-2]:
        ((found, events),) = counted(spark, [(NOW - age, None)], parts=1).ages.items()
        assert events == 1
        assert age <= found <= max(age + 9, age * 1.1), age
    ends = [next(iter(counted(spark, [(NOW - age, None)], parts=1).ages)) for age in (-5, 10_000_000_000, 10**12)]
    assert ends == [9, 10_000_000_000, 10_000_000_000]


def test_counts_of_all_partitions_add_up(spark):
    """Every event is counted once, with its exact age in the sum and its reason."""
    chance = random.Random(3)
    rows = [
        (NOW - chance.randrange(10 ** chance.randrange(1, 10)), chance.choice([None, None, *REASONS]))
        for _ in range(3_000)
    ]
    found = counted(spark, rows)

    assert found.origin == NOW
    assert found.age_sum == sum(NOW - at for at, _ in rows)
    assert sum(found.ages.values()) == len(rows)
    for bound in (99, 999, 9_999, 999_999, 9_999_999):
        assert sum(events for age, events in found.ages.items() if age <= bound) == sum(
            NOW - at <= bound for at, _ in rows
        )
    assert found.reasons == {reason: Counter(why for _, why in rows)[reason] for reason in REASONS}


def test_no_events_have_no_counts(spark):
    """Without rows every number is 0; a reason that is not listed is no reason to fail."""
    assert counted(spark, []) == (0, {}, 0, dict.fromkeys(REASONS, 0))
    assert sum(counted(spark, [(NOW, "new")]).reasons.values()) == 0


@pytest.mark.parametrize("is_replay", [False, True])
def test_ages_of_a_stream_are_counted_from_when_it_planned_the_batch(spark, tmp_path, is_replay):
    """The time of a batch is that of its plan in the checkpoint: also when it is run again later."""
    source, checkpoint = str(tmp_path / "rows"), tmp_path / "checkpoint"
    begin = time.time() * 1_000
    spark.createDataFrame([(round(begin) - 60_000, None), (round(begin) - 3_000, "not_json")], SCHEMA).write.parquet(
        source
    )

    def run(write, is_failing=False):
        rows = spark.readStream.schema(SCHEMA).parquet(source)
        rows = rows.observe("quality", decoder.event_counts(spark).alias("counts"))
        query = rows.writeStream.foreachBatch(write).option("checkpointLocation", str(checkpoint))
        query = query.trigger(availableNow=True).start()
        with suppress(StreamingQueryException) if is_failing else nullcontext():
            query.awaitTermination(60)
        return query

    def fail(_frame, _number) -> None:
        raise RuntimeError

    if is_replay:
        run(fail, is_failing=True)
        time.sleep(1.5)
    before = time.time() * 1_000
    query = run(lambda frame, _: frame.foreach(lambda _: None))
    found = unpack(base64.b64decode(query.recentProgress[0]["observedMetrics"]["quality"]["counts"]))

    assert begin <= found.origin
    assert (found.origin < before - 1_000) == is_replay
    assert found.age_sum == 2 * (found.origin - round(begin)) + 63_000
    assert found.reasons["not_json"] == 1
    assert sum(found.ages.values()) == 2
