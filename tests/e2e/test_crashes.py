"""The guarantees under kills of the real processes and outages of the real servers, checked by the oracle."""

import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import oracle
import psutil
import pytest
from jobs import Job, environment

from streamscore import score_stream
from streamscore.clients import kafka, topic_records
from streamscore.launch import submit
from streamscore.local import stack

POINTS = [
    *("entry", "rejected-half", "rejected", "index-half", "index", "quality-half", "quality"),
    *("records-half", "records", "committed"),
]
KILLS = [
    *((point, "kill-group", 1 + number % 2) for number, point in enumerate(POINTS)),
    *((point, "kill-group", 2) for point in ("entry", "rejected", "index", "records")),
    *(
        (point, "kill-python", 2)
        for point in ("rejected-half", "index-half", "quality-half", "records-half", "committed")
    ),
]
EVENTS_PER_RUN = 300
STOPS = [
    (0.0, signal.SIGTERM),
    (0.4, signal.SIGTERM),
    (0.9, signal.SIGINT),
    (1.5, signal.SIGINT),
    (2.2, signal.SIGTERM),
    (3.0, signal.SIGTERM),
]


class World:
    """A job with its configuration, the ledger of its messages, and its runs."""

    def __init__(self, config, file, seed):
        self.config = config
        self.ledger = oracle.Ledger(seed)
        self.jobs = []
        self._file = file
        self._words = submit.command(score_stream.JOB, config, ["--config", file])
        self._base = submit.prepare(config)

    def send(self, count):
        """Send a number of messages and record them in the ledger."""
        oracle.send(self.config, self.ledger.next_messages(count))

    def start(self, fault=None, *arguments):
        """Start the job, with or without a fault."""
        armed = {"STREAMSCORE_TEST_FAULTS": "1", "STREAMSCORE_FAULT": fault} if fault else {}
        self.jobs.append(Job([*self._words, *arguments], env={**environment(), **self._base, **armed}))
        return self.jobs[-1]

    def start_by_hand(self, *arguments):
        """Start the job as from a terminal."""
        self.jobs.append(Job(["streamscore", "score", *arguments, "--config", self._file]))
        return self.jobs[-1]

    def finish(self):
        """Let the job score the remaining messages."""
        last = self.start(None, "--available-now")
        assert last.wait() == 0, last.output

    def judge(self, spark, small_models):
        """Check all outputs against the ledger."""
        judgement = oracle.judge(spark, self.config, self.ledger, small_models)
        assert oracle.faults(judgement) == {}, f"seed {self.ledger.seed}: {judgement}"


@pytest.fixture
def world(make_own, small_models, as_file, tmp_path, jars):
    """Return a function that makes a world with small batches; remaining jobs are killed after the test."""
    made = []

    def make(seed):
        config = make_own(
            f"t{uuid.uuid4().hex[:8]}",
            tmp_path / str(seed),
            oracle.listed(small_models),
            "stream.max_events_per_batch=100",
            "stream.trigger_seconds=0",
            "kafka.partitions=2",
            "spark.driver_memory=1g",
        )
        kafka.ensure(config.kafka, config.kafka.topics.input)
        score_stream.check(config)
        made.append(World(config, as_file(config, f"{seed}.yml"), seed))
        return made[-1]

    yield make
    for job in (job for one in made for job in one.jobs):
        if job.lives:
            job.kill()


def side_by_side(live, worlds, *arguments):
    """Run the scenarios of all worlds in parallel, because the start of a job does not use two cores."""
    with ThreadPoolExecutor(len(worlds)) as pool:
        list(pool.map(live, worlds, *arguments))


def killed(world, kills):
    """Run the job once per kill, and once without."""
    for point, action, nth in kills:
        world.send(EVENTS_PER_RUN)
        job = world.start(f"{point}:{action}:{nth}")
        code = job.wait()
        assert code != 0, f"{point}:{action}:{nth}\n{job.output}"
        assert "Traceback" not in job.output, job.output
    world.finish()


@pytest.mark.timeout(1800)
def test_killed_at_every_point_nothing_is_lost_or_doubled(spark, world, small_models):
    """Sixteen runs, each killed at another point, as a process group or Python alone, lose and duplicate nothing."""
    worlds = [world(20261124), world(20261125)]
    side_by_side(killed, worlds, [KILLS[::2], KILLS[1::2]])

    for one in worlds:
        one.judge(spark, small_models)


def stopped(world, stops):
    """Run the job once per stop, and once without."""
    for moment, number in stops:
        world.send(600)
        job = world.start() if number == signal.SIGTERM else world.start_by_hand()
        job.wait_for("scoring the topic")
        time.sleep(moment)
        job.signal(number)

        assert job.wait() == 0, job.output
        assert f"{number.name}: finishing the batch in flight" in job.output
        assert "summary: events" in job.output
        assert "may have been written before" not in job.output
    world.finish()


@pytest.mark.timeout(1200)
def test_stopped_at_any_moment_it_ends_in_order(spark, world, small_models):
    """SIGTERM and Ctrl-C at six moments cause a clean shutdown with exit code 0, and no replay."""
    worlds = [world(5), world(6)]
    side_by_side(stopped, worlds, [STOPS[::2], STOPS[1::2]])

    for one in worlds:
        one.judge(spark, small_models)


def pid_of(servers, name):
    """Return the process ids of a server: of its main process and its children."""
    (running,) = (server for server in stack.running(servers) if server.name == name)
    leader = psutil.Process(running.pid)
    return [leader.pid, *(child.pid for child in leader.children(recursive=True))]


@pytest.mark.timeout(1200)
def test_outages_of_the_servers_are_waited_for(spark, servers, world, small_models):
    """The job survives a freeze and a restart of each server; nothing is lost or duplicated."""
    one = world(7)
    one.send(300)
    job = one.start()
    names = one.config.kafka.topics
    job.wait_until(lambda: topic_records.extent(one.config.kafka, names.predictions).records > 0)
    for name in ("elasticsearch", "kafka"):
        one.send(1000)
        pids = pid_of(servers, name)
        for pid in pids:
            psutil.Process(pid).suspend()
        time.sleep(4)
        for pid in pids:
            psutil.Process(pid).resume()
    for name in ("elasticsearch", "kafka"):
        one.send(1000)
        for pid in pid_of(servers, name):
            psutil.Process(pid).kill()
        time.sleep(1)
        stack.up(servers)
        time.sleep(3)
    job.wait_until(lambda: caught_up(one.config, one.ledger), 400)
    job.signal(signal.SIGTERM)

    assert job.wait() == 0, job.output
    one.finish()
    one.judge(spark, small_models)


def caught_up(config, ledger):
    """Return whether every message has an outcome or a rejected record."""
    names = config.kafka.topics
    outcomes, rejected = (
        topic_records.extent(config.kafka, name).records for name in (names.predictions, names.rejected)
    )
    return outcomes >= 2 * len(ledger.good) and rejected >= len(ledger.bad)


@pytest.mark.timeout(900)
def test_supervisor_starts_the_job_again(spark, world, small_models):
    """`score --restart` restarts a job that is killed twice; a stop ends both processes."""
    one = world(8)
    one.send(500)
    job = one.start_by_hand("--restart")
    for times in (1, 2):
        job.wait_until(lambda times=times: job.output.count("scoring the topic") == times)
        time.sleep(1)
        children = [process for process in job.members()[1:] if "java" in process.name()]
        children[0].kill()
    job.wait_until(lambda: caught_up(one.config, one.ledger), 400)
    job.signal(signal.SIGTERM)

    assert job.wait() == 0, job.output
    assert job.output.count("starting it again in") == 2
    one.judge(spark, small_models)
