"""The Delta table of the outcomes: each row once, whatever fails and whichever checkpoint the job uses."""

import random
import shutil
from pathlib import Path

import oracle
import pytest
from pyspark.sql import functions as F

from streamscore import score_stream, train_models
from streamscore.clients import kafka, topic_records
from streamscore.data import criteo
from streamscore.errors import InputError, ServerError, StreamError
from streamscore.schema import TABLE_ROW
from streamscore.sinks import delta
from streamscore.spark import sources
from streamscore.system import failpoints


@pytest.fixture
def world(own, small_models, tmp_path):
    """Return a function that makes a configuration with a Delta table and 600 messages, and their ledger."""

    def make(*overrides, seed=1, count=600):
        config = own(
            oracle.listed(small_models),
            "stream.available_now=true",
            "stream.max_events_per_batch=250",
            f"delta.table={tmp_path / 'outcomes'}",
            *overrides,
        )
        kafka.ensure(config.kafka, config.kafka.topics.input)
        ledger = oracle.Ledger(seed)
        oracle.send(config, ledger.next_messages(count))
        score_stream.check(config)
        return config, ledger

    return make


@pytest.fixture
def fails_at(spark, monkeypatch):
    """Return a function that runs the job with a fault at some point."""

    def run(config, point):
        with monkeypatch.context() as armed:
            armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
            armed.setenv("STREAMSCORE_FAULT", point)
            with pytest.raises(StreamError):
                score_stream.run(spark, config)

    yield run
    failpoints.arm(0)


def rows(spark, config):
    """Return the table's rows."""
    return sources.delta_table(spark, config.delta).collect()


def test_restart_after_a_fault_behind_the_table_s_commit_doubles_nothing(spark, world, fails_at, small_models):
    """A batch is in the table but not in the checkpoint, twice in a row; then it is in neither."""
    config, ledger = world()
    for point in ("delta:raise:1", "delta:raise:1", "records:raise:1", "delta:raise:2"):
        fails_at(config, point)
    written = len(rows(spark, config))
    score_stream.run(spark, config)

    assert 0 < written < 2 * len(ledger.good)
    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def test_the_oracle_notices_a_batch_that_is_appended_twice(spark, world, fails_at, small_models, monkeypatch):
    """Without the transaction's identity the oracle reports duplicates."""
    config, ledger = world(count=200)
    monkeypatch.setattr(delta, "write_table", lambda rows, settings, *_: delta.append(rows, settings))
    fails_at(config, "delta:raise:1")
    score_stream.run(spark, config)

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {"duplicated rows": 2 * len(ledger.good)}


def test_time_long_before_the_gregorian_calendar_stops_nothing(spark, world, outcomes, documents):
    """Brokers accept such times (Go's zero time is in year 1), and all three outputs have the same time."""
    config, _ = world(count=0)
    times = [-62_135_596_800_000, -9_000_000_000_000_000]
    producer = kafka.producer(config.kafka)
    for time in times:
        value = oracle.message(1.0, oracle.vector(random.Random(1)))
        producer.produce(config.kafka.topics.input, value, timestamp=time)
    assert producer.flush(30) == 0
    score_stream.run(spark, config)

    seen = {outcome["event_time"] for outcome in outcomes(config)}
    days = 86_400_000
    assert sorted(seen)[1] == times[0] + 2 * days  # Spark reads times before 1582 in the Julian calendar
    assert {document["@timestamp"] for document in documents(config).values()} == seen
    table = sources.delta_table(spark, config.delta).select(F.unix_millis("event_time").alias("time")).distinct()
    assert {row["time"] for row in table.collect()} == seen


def test_time_that_spark_cannot_hold_is_told_with_the_way_out(spark, world):
    """Spark's Kafka source fails on the time before any check of ours, with an explained error."""
    config, _ = world(count=0)
    producer = kafka.producer(config.kafka)
    producer.produce(config.kafka.topics.input, b"x", timestamp=-9_000_000_000_000_000_000)
    assert producer.flush(30) == 0

    with pytest.raises(StreamError, match="long overflow: a message has a timestamp that Spark cannot hold"):
        score_stream.run(spark, config)


def test_batch_of_a_query_is_written_once(spark, world):
    """A batch of another query with the same number is another batch."""
    config, _ = world(count=1)
    frame = spark.createDataFrame([("ml-0-1", None, "lr", "1", 1.0, 0.5, *[None] * 5)], TABLE_ROW)
    for query in ("a", "a", "b"):
        delta.write_table(frame, config.delta, query, 0)

    assert len(rows(spark, config)) == 2


def test_lost_checkpoint_drops_no_row(spark, world, tmp_path):
    """Batch numbers restart at 0 and repeat those of the table; the query's identity distinguishes them."""
    config, ledger = world("stream.new_checkpoint=true", count=300)
    score_stream.run(spark, config)
    before = {row["event_id"] for row in rows(spark, config)}
    shutil.rmtree(config.stream.checkpoint)
    oracle.send(config, ledger.next_messages(300))
    score_stream.run(spark, config)
    after = {row["event_id"] for row in rows(spark, config)}

    assert 2 * len(before) < 2 * len(after) == 2 * len(ledger.good)


def test_batch_planned_anew_after_a_repair_is_complete(spark, world, fails_at, small_models):
    """The batch has more events than the table's batch of the same number, and all are appended."""
    config, ledger = world("stream.max_events_per_batch=100000")
    fails_at(config, "delta:raise:1")
    location = Path(config.stream.checkpoint)
    (location / "offsets" / "0").unlink()
    (location / "offsets" / ".0.crc").unlink(missing_ok=True)
    oracle.send(config, ledger.next_messages(200))
    score_stream.run(spark, config)

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}


def test_table_may_have_a_name(spark, world, small_models):
    """A catalog name works like a folder; the event's time is a timestamp."""
    config, ledger = world("delta.table=outcomes_by_name", count=200)
    try:
        score_stream.run(spark, config)

        assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}
        assert spark.table("outcomes_by_name").schema == spark.createDataFrame([], TABLE_ROW).schema
    finally:
        spark.sql("DROP TABLE IF EXISTS outcomes_by_name")


def test_table_with_other_columns_is_refused_before_the_first_batch(spark, world):
    """The job refuses the table without reading or writing."""
    config, _ = world(count=10)
    spark.createDataFrame([("a", 1)], ["event_id", "prediction_of_others"]).write.format("delta").save(
        config.delta.table
    )

    with pytest.raises(ServerError, match="the Delta table .*/outcomes does not take the outcomes: .*schema"):
        score_stream.run(spark, config)
    assert topic_records.extent(config.kafka, config.kafka.topics.predictions).records == 0


def test_training_from_a_table_equals_training_from_the_file(spark, own, tmp_path):
    """Training rows and test set are equal, in the same order; a table without an order is refused."""
    small = ("train.test_rows=2000", "train.hash_size=1024", "train.lr.max_iter=5", "train.svm.max_iter=5")
    small += ("mlflow.registered_names.lr=delta-lr", "mlflow.registered_names.svm=delta-svm")
    settings = own(*small, "train.rows=6100", f"train.output={tmp_path / 'from-file'}")
    from_file = train_models.run(spark, settings)
    data = next((settings.state_dir / "data").glob("synthetic-6100-*.tsv"))
    rows = criteo.read(spark, str(data)).drop("_corrupt")
    rows.orderBy(F.xxhash64("row")).write.format("delta").save(str(tmp_path / "rows"))
    table = ("train.data=criteo", f"train.path={tmp_path / 'rows'}")
    with pytest.raises(InputError, match="has no order of its own: name the column .* train.order_column"):
        train_models.check(own(*small, *table))
    config = own(*small, *table, "train.order_column=row")
    train_models.check(config)
    from_table = train_models.run(spark, config)
    one, other = (spark.read.parquet(found["test_set"]).collect() for found in (from_table, from_file))

    assert from_table["train_rows"] == from_file["train_rows"]
    assert one == other
    assert from_table["lr"]["auc"] == pytest.approx(from_file["lr"]["auc"], abs=1e-4)


def test_table_of_an_earlier_version_gets_the_new_columns(spark, own, tmp_path):
    """A table without the columns of declined events is extended; one with other columns is refused as it is."""
    config = own(f"delta.table={tmp_path / 'outcomes'}")
    earlier = ", ".join(column for column in TABLE_ROW.split(", ") if not column.startswith("declined"))
    delta.append(spark.createDataFrame([], earlier), config.delta)
    delta.TableRows(config).prepare(spark)
    other = own(f"delta.table={tmp_path / 'other'}")
    delta.append(spark.createDataFrame([], "event_id STRING, mine INT"), other.delta)

    assert set(sources.delta_table(spark, config.delta).columns) == {
        column.split()[0] for column in TABLE_ROW.split(", ")
    }
    with pytest.raises(ServerError, match="does not take the outcomes"):
        delta.TableRows(other).prepare(spark)
    assert sources.delta_table(spark, other.delta).columns == ["event_id", "mine"]
