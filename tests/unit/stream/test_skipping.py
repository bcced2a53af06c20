"""Messages that are passed over: the batch before them is cut short, and theirs is committed without being run."""

import json

import pytest

from streamscore.errors import CheckpointError
from streamscore.stream import checkpoint, skipping
from streamscore.stream.folders import LocalFolder
from streamscore.stream.skipping import Place

TOPIC = "clicks"


@pytest.fixture
def location(tmp_path):
    """A checkpoint whose batch 0 is committed, with two partitions read up to 10 and 20."""
    files = LocalFolder(str(tmp_path))
    files.write("metadata", json.dumps({"id": "q"}))
    checkpoint.plan(files, 0, TOPIC, {0: 10, 1: 20})
    checkpoint.commit(files, 0)
    return str(tmp_path)


@pytest.fixture
def files(location):
    """Its files."""
    return LocalFolder(location)


def ends(files, batch):
    """Return the offsets at which a batch ends."""
    return checkpoint.offsets(files, batch)[TOPIC]


def test_planned_batch_is_cut_before_the_message_and_keeps_its_time(files, location, tmp_path):
    """Other partitions stay as planned; Spark's checksum of the former entry goes."""
    checkpoint.plan(files, 1, TOPIC, {0: 60, 1: 80})
    planned = files.read("offsets/1").splitlines()[1]
    (tmp_path / "offsets" / ".1.crc").write_bytes(b"of the former entry")

    assert skipping.plan_up_to(files, location, TOPIC, Place(0, 30)) == 1
    assert ends(files, 1) == {0: 30, 1: 80}
    assert files.read("offsets/1").splitlines()[1] == planned
    assert not (tmp_path / "offsets" / ".1.crc").exists()


def test_planned_batch_that_ends_earlier_is_left_as_it_is(files, location):
    """A message behind the planned batch does not change it."""
    checkpoint.plan(files, 1, TOPIC, {0: 60, 1: 80})
    skipping.plan_up_to(files, location, TOPIC, Place(0, 60))

    assert ends(files, 1) == {0: 60, 1: 80}


def test_without_a_planned_batch_one_is_planned_up_to_the_message(files, location):
    """The new batch reads what lies before the message, which may be nothing."""
    assert skipping.plan_up_to(files, location, TOPIC, Place(1, 25)) == 1
    assert ends(files, 1) == {0: 10, 1: 25}


def test_message_gets_a_committed_batch_of_its_own(files, location):
    """The next batch begins after the message."""
    skipping.plan_up_to(files, location, TOPIC, Place(0, 30))
    checkpoint.commit(files, 1)
    skipping.pass_over(files, location, TOPIC, Place(0, 30))

    assert checkpoint.inspect(files, location).committed == checkpoint.inspect(files, location).planned == 2
    assert ends(files, 2) == {0: 31, 1: 20}


def test_message_that_was_read_is_not_ahead(files, location):
    """Messages before the next offset were read; a partition of which nothing was read is refused."""
    assert skipping.is_ahead(files, location, TOPIC, Place(0, 10))
    assert not skipping.is_ahead(files, location, TOPIC, Place(0, 9))
    with pytest.raises(CheckpointError, match="knows no partition 2 of 'clicks'"):
        skipping.is_ahead(files, location, TOPIC, Place(2, 0))


def test_places_are_in_order():
    """The places are read from their texts and sorted."""
    assert skipping.places(["1:7", "0:12", "0:3"]) == [(0, 3), (0, 12), (1, 7)]
