"""The checkpoint: replays after a restart, its lease, and the repair of damage."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from streamscore import cli
from streamscore.cli import doctor
from streamscore.errors import CheckpointError, ServerError, StreamError
from streamscore.launch import supervisor
from streamscore.stream import checkpoint, folders, lease, notes
from streamscore.system import processes


@pytest.fixture
def location(tmp_path):
    """A folder for a checkpoint."""
    return str(tmp_path / "checkpoint")


@pytest.fixture(params=["local", "hadoop"])
def files(request, location):
    """The checkpoint's files, accessed locally and through Hadoop."""
    if request.param == "local":
        return folders.LocalFolder(location)
    return folders.HadoopFolder(request.getfixturevalue("spark"), f"file:{location}")


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a separate full disk."""
    folder = tmp_path / "full"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False, capture_output=True
    ).returncode:
        pytest.skip("this user may not mount a disk")
    with suppress(OSError):
        (folder / "filler").write_bytes(bytes(1_000_000))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk_is_named_and_may_pass(full_disk):
    """A full disk is reported with the folder, and as a transient fault for ``--restart``."""
    with (
        pytest.raises(StreamError, match=f"the disk of the checkpoint {full_disk} is full"),
        checkpoint.hold(folders.LocalFolder(str(full_disk)), str(full_disk), os.getpid()),
    ):
        pass
    assert StreamError.exit_code in supervisor.PASSING


def write(files, planned=(), committed=(), query="q"):
    """Write the logs in Spark's form."""
    if query:
        files.write("metadata", json.dumps({"id": query}))
    for batch in planned:
        offsets = json.dumps({"ml": {"0": batch * 10, "1": batch}})
        files.write(f"offsets/{batch}", f'v1\n{{"batchTimestampMs":{1000 + batch}}}\n{offsets}')
    for batch in committed:
        files.write(f"commits/{batch}", 'v1\n{"nextBatchWatermarkMs":0}')


def test_files_are_read_and_written(files):
    """Files can be written, read and listed."""
    assert (files.names("x"), files.read("x/a")) == ([], None)

    files.write("x/a", "one")
    files.write("x/a", "zwei ü")
    files.write("x/b", "")

    assert {name for name in files.names("x") if not name.startswith(".")} == {"a", "b"}
    assert files.read("x/a") == "zwei ü"


class DyingFileSystem:
    """A file system that fails after a number of steps of a write, as if its process had died."""

    def __init__(self, files, steps):
        self._files = files
        self._steps = steps

    def __getattr__(self, name):
        """Count the changing calls."""
        if name in {"create", "delete", "rename"}:
            self._steps -= 1
            if self._steps < 0:
                raise RuntimeError("dead")
        return getattr(self._files, name)


@pytest.mark.parametrize("steps", range(6))
def test_job_that_dies_while_it_writes_a_file_leaves_the_old_or_the_new(spark, location, steps):
    """A death before any step of a write leaves the old or the new content, and the next write leaves no leftovers."""
    for old, new in ((None, "one"), ("one", "two"), ("two", "three")):
        dying = folders.HadoopFolder(spark, f"file:{location}")
        dying._files = DyingFileSystem(dying._files, steps)
        with suppress(RuntimeError):
            dying.write("x/a", new)
        assert folders.HadoopFolder(spark, f"file:{location}").read("x/a") in {old, new}

        folders.HadoopFolder(spark, f"file:{location}").write("x/a", new)
        assert folders.HadoopFolder(spark, f"file:{location}").read("x/a") == new
        assert {entry.name for entry in (Path(location) / "x").iterdir()} - {".a.crc"} == {"a"}


def test_death_of_one_job_after_another_loses_no_file(spark, location):
    """Repeated deaths, each one step later than the previous, lose no file."""
    folder = folders.HadoopFolder(spark, f"file:{location}")
    folder.write("x/a", "0")
    for number in range(1, 25):
        dying = folders.HadoopFolder(spark, f"file:{location}")
        dying._files = DyingFileSystem(dying._files, number % 5)
        with suppress(RuntimeError):
            dying.write("x/a", str(number))
        assert folder.read("x/a") is not None


def test_file_that_cannot_be_written_is_named(files):
    """The error names a file whose path is a folder that is not empty."""
    files.write("x/a/b", "in the way")

    with pytest.raises((CheckpointError, OSError), match="x/a"):
        files.write("x/a", "new")


@pytest.mark.parametrize(("address", "reason"), [("nosuch://bucket/a", "nosuch"), ("har:///file.har/a", "IOException")])
def test_file_system_that_cannot_be_reached_is_told_in_one_line(spark, address, reason):
    """The one-line error has Java's reason, such as a missing connector or wrong credentials."""
    with pytest.raises(ServerError, match=rf"the checkpoint {address} cannot be reached: .*{reason}") as caught:
        folders.open_folder(address, spark)

    assert len(str(caught.value).splitlines()) == 1


def test_new_checkpoint_replays_nothing(files, location):
    """A new checkpoint has no batches to replay."""
    state = checkpoint.inspect(files, location)

    assert state.is_new
    assert state.last_replayed == -1


def test_orderly_end_replays_nothing(files, location):
    """After a clean shutdown there is no batch to replay."""
    write(files, range(12), range(12))
    state = checkpoint.inspect(files, location)

    assert (state.query, state.planned, state.committed, state.since) == ("q", 11, 11, 1011)
    assert state.last_replayed == -1


def test_batch_without_commit_is_replayed(files, location):
    """A batch without a commit is replayed, and may have been written since it was planned."""
    write(files, range(12), range(11))
    state = checkpoint.inspect(files, location)

    assert (state.last_replayed >= 11, state.since) == (True, 1011)


def test_commit_without_offsets_is_named_with_the_repair(files, location):
    """A commit without offsets, after an incomplete repair, is refused before Spark writes the batch again."""
    write(files, range(11), range(12))

    with pytest.raises(CheckpointError, match="commits/11 has no offsets: delete it and its checksum .11.crc"):
        checkpoint.inspect(files, location)


def test_after_a_disorderly_end_even_a_complete_log_is_suspect(files, location):
    """With the lease of a dead job the last batch is replayed even if the logs look complete."""
    write(files, range(12), range(12))
    files.write(lease.LEASE, json.dumps({"host": "elsewhere", "pid": 1, "birth": "b 1"}))

    assert checkpoint.inspect(files, location).last_replayed == 12


def test_missing_metadata_is_named(files, location):
    """Missing metadata are refused, because Spark would silently start another stream."""
    write(files, range(2), range(2), query=None)

    with pytest.raises(CheckpointError, match="/metadata is missing, though batch 1 was planned"):
        checkpoint.inspect(files, location)


def test_damaged_metadata_is_named(files, location):
    """Truncated metadata are reported."""
    write(files)
    files.write("metadata", '{"id"')

    with pytest.raises(CheckpointError, match="/metadata is damaged"):
        checkpoint.inspect(files, location)


@pytest.mark.parametrize("text", ["", "v1", "v1\n{", 'v1\n{"x":1}\n{}'])
def test_torn_offsets_are_named_with_the_repair(files, location, text):
    """The message names the file to delete, and why that is safe."""
    write(files, range(3), range(2))
    files.write("offsets/2", text)

    with pytest.raises(CheckpointError, match="offsets/2 is damaged: delete it and its checksum .2.crc"):
        checkpoint.inspect(files, location)


@pytest.mark.parametrize("text", ["", "v1"])
def test_torn_commit_is_named_with_the_repair(files, location, text):
    """A torn commit, at which Spark would always fail, is reported with the repair."""
    write(files, range(4), range(4))
    files.write("commits/3", text)

    with pytest.raises(CheckpointError, match=r"commits/3 is damaged: delete it and its checksum \.3\.crc"):
        checkpoint.inspect(files, location)


def test_offsets_at_the_end_of_a_batch(files):
    """Offsets are returned by topic and partition."""
    write(files, range(3))

    assert checkpoint.offsets(files, 2) == {"ml": {0: 20, 1: 2}}
    assert checkpoint.offsets(files, 7) == {}


def test_checkpoint_of_another_topic_is_refused(files, location):
    """A checkpoint with another topic's offsets is refused."""
    checkpoint.require_topic(files, location, "ml")
    files.write("offsets/0", 'v1\n{"batchTimestampMs":5}\n{"ml":{"0":7}}')

    checkpoint.require_topic(files, location, "ml")
    with pytest.raises(CheckpointError, match="is that of the topic 'ml', not of 'clicks': give each stream"):
        checkpoint.require_topic(files, location, "clicks")


def test_offsets_torn_in_their_last_line_are_named_with_the_repair(files, location):
    """A torn last line, the one with the topic's offsets, is reported."""
    files.write("offsets/0", 'v1\n{"batchTimestampMs":5}\n{"ml":{"0"')

    with pytest.raises(CheckpointError, match="offsets/0 is damaged: delete it and its checksum .0.crc"):
        checkpoint.require_topic(files, location, "ml")


def test_lease_names_its_holder_while_the_work_lasts_and_an_orderly_end_afterwards(files, location):
    """The lease names its holder during the run, and is replaced after a clean shutdown."""
    with checkpoint.hold(files, location, os.getpid()) as past:
        assert past.clean
        assert lease.holder(files) == os.getpid()
        assert not checkpoint.inspect(files, location).clean
    assert lease.holder(files) is None
    assert checkpoint.inspect(files, location).clean


def test_batch_that_came_up_while_the_job_was_stopping_needs_no_comparison(files, location):
    """A batch that was planned but not written before a clean shutdown is not a replay."""
    with checkpoint.hold(files, location, os.getpid()):
        write(files, range(12), range(11))

    assert checkpoint.inspect(files, location).last_replayed == -1


def test_orderly_end_before_the_suspect_batch_has_run_again_settles_nothing(files, location):
    """A clean shutdown before the replay has run does not clear the suspicion of an earlier kill."""
    write(files, range(12), range(11))
    files.write(lease.LEASE, json.dumps({"host": "elsewhere", "pid": 1, "birth": "b 1"}))

    with checkpoint.hold(files, location, os.getpid()):
        pass
    assert lease.holder(files) is None
    assert checkpoint.inspect(files, location).last_replayed == 12

    with checkpoint.hold(files, location, os.getpid()):
        write(files, range(13), range(13))
    assert checkpoint.inspect(files, location).last_replayed == -1


def test_what_was_written_is_looked_for_from_its_first_attempt_on(files, location):
    """The time of the first attempt is kept over a repair and a second failure."""
    write(files, range(13), range(12))
    with suppress(RuntimeError), checkpoint.hold(files, location, os.getpid()):
        raise RuntimeError
    files.write("offsets/12", 'v1\n{"batchTimestampMs":5000}\n{"ml":{"0":120}}')
    with suppress(RuntimeError), checkpoint.hold(files, location, os.getpid()):
        raise RuntimeError

    state = checkpoint.inspect(files, location)
    assert (state.since, state.last_replayed) == (1012, 13)

    write(files, range(15), range(14))  # all suspect batches are committed, and another batch fails
    state = checkpoint.inspect(files, location)
    assert (state.since, state.last_replayed) == (1014, 15)


@pytest.fixture
def clock(monkeypatch):
    """A fixed clock that can be set, in seconds since the epoch."""
    shown = [0.0]
    monkeypatch.setattr(checkpoint.time, "time", lambda: shown[0])
    return shown


def test_stream_that_died_before_its_first_batch_looks_back_to_its_own_beginning(files, location, clock):
    """The comparison starts at the stream's own beginning and excludes records of earlier streams."""
    for clock[0] in (50.0, 70.0):
        with suppress(RuntimeError), checkpoint.hold(files, location, os.getpid()):
            write(files)
            raise RuntimeError
        state = checkpoint.inspect(files, location)
        assert (state.planned, state.last_replayed, state.since) == (-1, 0, 50_000)


def test_stream_that_ended_in_order_before_its_first_batch_begins_anew(files, location, clock):
    """After a clean shutdown without any batch, the next run's beginning counts."""
    clock[0] = 50.0
    with checkpoint.hold(files, location, os.getpid()):
        write(files)
    assert checkpoint.inspect(files, location).last_replayed == -1
    clock[0] = 70.0
    with suppress(RuntimeError), checkpoint.hold(files, location, os.getpid()):
        raise RuntimeError

    assert checkpoint.inspect(files, location).since == 70_000


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_damaged_lease_is_no_orderly_end_and_nobodys(files, location, text):
    """A damaged lease counts as no clean shutdown, and has no holder."""
    write(files, range(12), range(12))
    files.write(lease.LEASE, text)

    assert lease.holder(files) is None
    assert checkpoint.inspect(files, location).last_replayed == 12


def test_log_that_changed_after_an_orderly_end_is_suspect(files, location):
    """If the log changed after a clean shutdown, its last batch may have been written."""
    with checkpoint.hold(files, location, os.getpid()):
        write(files, range(11), range(11))
    write(files, range(12), range(12))

    assert checkpoint.inspect(files, location).last_replayed == 12


def test_lease_stays_after_a_fault(files, location):
    """After a fault the lease stays, so that the next start compares the outputs."""
    with pytest.raises(RuntimeError), checkpoint.hold(files, location, os.getpid()):
        raise RuntimeError

    assert not checkpoint.inspect(files, location).clean


def test_second_job_is_refused_while_the_first_lives(files, location, monkeypatch):
    """A second job is refused while the first one runs."""
    monkeypatch.setattr(lease, "PATIENCE", 0.3)

    with (
        checkpoint.hold(files, location, os.getpid()),
        pytest.raises(CheckpointError, match=f"in use by process {os.getpid()} on this machine"),
        checkpoint.hold(files, location, os.getppid()),
    ):
        pass


def test_of_two_that_start_in_the_same_moment_one_is_refused(location, monkeypatch):
    """One of two jobs is refused even if neither sees the other's lease."""
    inspect, end = checkpoint.inspect, threading.Event()

    def slow(*given):
        time.sleep(0.5)
        return inspect(*given)

    monkeypatch.setattr(checkpoint, "inspect", slow)
    monkeypatch.setattr(lease, "PATIENCE", 0.3)
    outcomes = []

    def start(process):
        try:
            with checkpoint.hold(folders.LocalFolder(location), location, process):
                outcomes.append("runs")
                end.wait(20)
        except CheckpointError:
            outcomes.append("refused")
            end.set()

    starts = [threading.Thread(target=start, args=(process,)) for process in (os.getpid(), os.getppid())]
    for one in starts:
        one.start()
    for one in starts:
        one.join()

    assert sorted(outcomes) == ["refused", "runs"]


@pytest.fixture
def other_job(location):
    """A process that holds the lock of a checkpoint until it is killed."""
    code = """
import sys, time
from streamscore.stream.folders import LocalFolder
with LocalFolder(sys.argv[1]).locked(lambda: sys.exit("not free")):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, location], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_job_under_another_host_name_is_seen_by_its_lock(location, other_job, monkeypatch):
    """The lock shows a job under another host name, whose process cannot be inspected."""
    monkeypatch.setattr(lease, "PATIENCE", 0.3)
    files = folders.LocalFolder(location)
    foreign = json.dumps({"host": "elsewhere", "pid": 7, "birth": "b"})
    files.write(lease.LEASE, foreign)

    with (
        pytest.raises(CheckpointError, match=r"is in use by process 7 on 'elsewhere': stop that job, or choose"),
        checkpoint.hold(files, location, os.getpid()),
    ):
        pass
    assert files.read(lease.LEASE) == foreign
    other_job.kill()
    with checkpoint.hold(files, location, os.getpid()):
        assert lease.holder(files) == os.getpid()


def test_lock_is_held_until_the_job_ends(location):
    """The lock is held for the whole run, and released after any end."""
    files = folders.LocalFolder(location)

    def held():
        with files.locked(lambda: pytest.fail("held")):
            pass

    with suppress(RuntimeError), checkpoint.hold(files, location, os.getpid()):
        with pytest.raises(pytest.fail.Exception):
            held()
        raise RuntimeError
    held()


def test_job_without_a_lease_yet_is_waited_for(location, other_job, monkeypatch):
    """A job that holds the lock but has no lease yet is waited for."""
    monkeypatch.setattr(lease, "PATIENCE", 0.3)

    with (
        pytest.raises(CheckpointError, match=r"is in use by another job: stop that job, or choose"),
        checkpoint.hold(folders.LocalFolder(location), location, os.getpid()),
    ):
        pass
    assert other_job.poll() is None


def test_file_system_without_locks_is_used_without_them(location, monkeypatch):
    """Without locks the lease of this machine's processes still counts."""

    def flock(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(folders.fcntl, "flock", flock)
    monkeypatch.setattr(lease, "PATIENCE", 0.3)
    files = folders.LocalFolder(location)

    with (
        checkpoint.hold(files, location, os.getpid()),
        pytest.raises(CheckpointError, match=f"in use by process {os.getpid()} on this machine"),
        checkpoint.hold(files, location, os.getppid()),
    ):
        pass


def test_start_waits_for_a_dying_holder(files, location):
    """A start waits for the JVM of a killed job, which runs for a moment longer."""
    dying = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])
    birth = processes.birth(dying.pid)
    files.write(lease.LEASE, json.dumps({"host": socket.gethostname(), "pid": dying.pid, "birth": birth}))

    with checkpoint.hold(files, location, os.getpid()):
        assert not psutil.pid_exists(dying.pid) or psutil.Process(dying.pid).status() == psutil.STATUS_ZOMBIE
    dying.wait()


@pytest.mark.parametrize("content", [{"host": "elsewhere", "pid": 1, "birth": "b"}, {"pid": os.getpid(), "birth": "b"}])
def test_process_of_another_machine_or_a_recycled_pid_holds_nothing(files, content):
    """A lease from another machine, or with a recycled PID, has no holder."""
    files.write(lease.LEASE, json.dumps({"host": socket.gethostname(), **content}))

    assert lease.holder(files) is None


def test_models_in_force_are_known_for_each_batch(files):
    """The models of each batch are recorded; the record of a batch that is planned again replaces later ones."""
    first, second, third = ([{"name": "lr", "uri": f"models:/lr/{n}", "version": str(n)}] for n in (1, 2, 3))
    assert notes.recorded_models(files, 0) is None
    notes.record_models(files, 0, first)
    notes.record_models(files, 5, second)
    notes.record_models(files, 9, second)
    notes.record_models(files, 7, third)

    assert [notes.recorded_models(files, batch) for batch in (0, 4, 5, 6, 7, 9)] == [
        first, first, second, second, third, third,
    ]  # fmt: skip


def test_damaged_record_of_the_models_is_named(files):
    """The message names the damaged record and the effect of its deletion."""
    files.write(notes.MODELS, "[{")

    with pytest.raises(CheckpointError, match="models.json in the checkpoint is damaged: delete it, and a batch"):
        notes.recorded_models(files, 0)


def test_status_tells_whether_a_job_holds_the_checkpoint(location):
    """`streamscore status` reports the job that holds the checkpoint."""
    words = ("kafka.bootstrap_servers=127.0.0.1:1", "elasticsearch.enabled=false", f"stream.checkpoint={location}")
    command = ["status", *(part for word in words for part in ("--set", word))]
    before = CliRunner().invoke(cli.app, command)
    content = {"host": socket.gethostname(), "pid": os.getpid(), "birth": processes.birth(os.getpid())}
    folders.open_folder(location).write(lease.LEASE, json.dumps(content))
    during = CliRunner().invoke(cli.app, command)

    assert f"score_stream   no process of this machine, checkpoint {location}\n" in before.output
    assert f"score_stream   process {os.getpid()}, checkpoint {location}\n" in during.output
    assert before.exit_code == during.exit_code == 1  # because there is no broker


@pytest.mark.parametrize("committed", [True, False])
def test_offsets_of_the_batch_in_flight_are_told(location, make_config, committed):
    """The doctor names them, whether or not a batch before it was committed: one of them may be what cannot be read."""
    folder = Path(location)
    for name in ("offsets", "commits", "sources/0"):
        (folder / name).mkdir(parents=True)
    (folder / "metadata").write_text('{"id": "a-query"}')
    recorded = '{"batchTimestampMs": 1700000000000}'
    first, planned = '{"clicks":{"0":10,"1":5}}', '{"clicks":{"0":40,"1":5,"2":7}}'
    if committed:
        (folder / "offsets" / "0").write_text(f"v1\n{recorded}\n{first}")
        (folder / "commits" / "0").write_text("v1\n{}")
    else:  # the file as Spark's Kafka source writes it
        (folder / "sources" / "0" / "0").write_bytes(b"\0v1\n" + first.encode())
    (folder / "offsets" / str(int(committed))).write_text(f"v1\n{recorded}\n{planned}")
    config = make_config(f"stream.checkpoint={location}")

    notes_of_doctor = [text for status, text in doctor._checkpoint(config) if status == "note"]
    (note,) = [text for text in notes_of_doctor if "was planned and not committed" in text]
    assert note.endswith(". It reads partition 0 of clicks from offset 10 to 39")
