"""Locations on this machine in all spellings, and their addresses for Spark."""

from pathlib import Path

import pytest

from streamscore.config import Delta
from streamscore.schema import TABLE_ROW
from streamscore.sinks import delta
from streamscore.sinks.base import Sink
from streamscore.spark import sources
from streamscore.stream import checkpoint, folders
from streamscore.stream.query import QueryRunner
from streamscore.stream.recovery import HeldCheckpoint
from streamscore.stream.stop import StopRequest
from streamscore.system import paths


@pytest.mark.parametrize(
    ("location", "path", "given"),
    [
        ("/a/b", "/a/b", "file:/a/b"),
        ("file:/a/b", "/a/b", "file:/a/b"),
        ("file:///a/b", "/a/b", "file:/a/b"),
        ("/a/100%25:/b c", "/a/100%25:/b c", "file:/a/100%25:/b c"),
        ("file:/a/100%25", "/a/100%25", "file:/a/100%25"),
        ("/Volumes/a/b", "/Volumes/a/b", "/Volumes/a/b"),
        ("file:/Volumes/a/b", "/Volumes/a/b", "/Volumes/a/b"),
    ],
)
def test_location_on_this_machine(location, path, given):
    """Local paths work with and without a scheme; Spark always gets a scheme, except for Databricks' own paths."""
    assert paths.is_local(location)
    assert paths.local_path(location) == Path(path)
    assert paths.as_spark_takes(location) == given


@pytest.mark.parametrize("location", ["s3a://b/c", "hdfs:///a", "dbfs:/Volumes/a", "file://host/a", "abfss://c@d.e/f"])
def test_location_elsewhere_is_left_as_it_is(location):
    """Remote addresses are unchanged, with one slash or more."""
    assert not paths.is_local(location)
    assert paths.as_spark_takes(location) == location


@pytest.fixture
def elsewhere(spark):
    """A session with a remote default file system, as on a Hadoop cluster."""
    session = spark.newSession()
    session.conf.set("fs.defaultFS", "nosuch:///")
    return session


def test_delta_table_without_a_scheme_is_on_this_machine(elsewhere, tmp_path):
    """A Delta table without a scheme is on this machine, whatever Spark's default file system."""
    settings = Delta(table=f"file://{tmp_path}/table")
    delta.append(elsewhere.createDataFrame([], TABLE_ROW), settings)

    table = sources.delta_table(elsewhere, settings)

    assert (tmp_path / "table" / "_delta_log").is_dir()
    assert table.count() == 0
    assert all(sources.is_delta(f"{scheme}{tmp_path}/table") for scheme in ("", "file:", "file://"))
    assert sources.data_set(elsewhere, f"file://{tmp_path}/table").columns == table.columns


class Nowhere(Sink):
    """A sink that writes nothing."""

    name = "nowhere"

    def shape(self, rows):
        """Return the rows as they are."""
        return rows

    def write(self, shaped, batch, replay):
        """Write one batch."""


def test_checkpoint_without_a_scheme_is_on_this_machine(spark, elsewhere, make_config, tmp_path):
    """Spark's logs and our files share a local folder; a checkpoint that Spark used as a plain path continues."""
    location = str(tmp_path / "checkpoint")
    settings = make_config(f"stream.checkpoint={location}", "stream.available_now=true")
    incoming = tmp_path / "incoming"

    def texts(session, number):
        incoming.mkdir(exist_ok=True)
        (incoming / f"{number}.txt").write_text("one")
        return session.readStream.text(f"file:{incoming}")

    before = (
        texts(spark, 0)
        .writeStream.foreachBatch(lambda *_: None)
        .option("checkpointLocation", location)
        .trigger(availableNow=True)
        .start()
    )
    before.awaitTermination()
    stop = StopRequest()
    files = folders.open_folder(location)
    held = HeldCheckpoint(files, location, checkpoint.inspect(files, location))
    runner = QueryRunner("any", settings.stream, held, stop, [], tmp_path / "spark.log")
    assert runner.run(texts(elsewhere, 1), [Nowhere()]) == 1

    state = checkpoint.inspect(folders.open_folder(location), location)
    assert (state.query, state.planned, state.committed) == (before.id, 1, 1)
