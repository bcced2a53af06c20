"""The promise, under kills of the real processes and outages of the real servers, judged by the oracle."""

import signal
import time

import oracle
import psutil
import pytest
from jobs import Job, environment

from streamscore import score_stream, submit, topics
from streamscore.local import stack

POINTS = ["entry", "rejected-half", "rejected", "index-half", "index", "records-half", "records", "committed"]
KILLS = [
    *((point, "kill-group", 1 + number % 2) for number, point in enumerate(POINTS)),
    *((point, "kill-group", 2) for point in ("entry", "rejected", "index", "records")),
    *((point, "kill-python", 2) for point in ("rejected-half", "index-half", "records-half", "committed")),
]
EVENTS_PER_RUN = 300


@pytest.fixture
def config(own, small_models):
    """A configuration with small batches, and a topic to fill."""
    listed = ", ".join(f"{{name: {name}, uri: {folder}}}" for name, folder in small_models.items())
    config = own(
        f"models=[{listed}]",
        "stream.max_events_per_batch=100",
        "stream.trigger_seconds=0",
        "kafka.partitions=2",
        "spark.driver_memory=1g",
    )
    topics.ensure(config.kafka, config.kafka.topics.input)
    score_stream.check(config)
    return config


@pytest.fixture
def start(config, as_file, jars):
    """Return a function that starts the job, with a fault or without; jobs that are left are killed."""
    jobs = []
    base = submit.prepare(config)
    words = submit.command("score_stream", config, ["--config", as_file(config)])

    def begin(fault=None, *arguments):
        armed = {"STREAMSCORE_TEST_FAULTS": "1", "STREAMSCORE_FAULT": fault} if fault else {}
        jobs.append(Job([*words, *arguments], env={**environment(), **base, **armed}))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.lives:
            job.kill()


def finish(spark, config, ledger, start, small_models):
    """Let the job score what is left and judge everything."""
    last = start(None, "--available-now")
    assert last.wait() == 0, last.output
    judgement = oracle.judge(spark, config, ledger, small_models)
    assert oracle.faults(judgement) == {}, f"seed {ledger.seed}: {judgement}"


@pytest.mark.timeout(1800)
def test_killed_at_every_point_nothing_is_lost_or_doubled(spark, config, start, small_models):
    """Sixteen lives, each ended by a kill at another point: of the process group, or of Python alone."""
    ledger = oracle.Ledger(seed=20261124)
    for point, action, nth in KILLS:
        oracle.send(config, ledger.next_messages(EVENTS_PER_RUN))
        job = start(f"{point}:{action}:{nth}")
        code = job.wait()
        assert code != 0, f"{point}:{action}:{nth}\n{job.output}"
        assert "Traceback" not in job.output, job.output

    finish(spark, config, ledger, start, small_models)


@pytest.mark.timeout(1200)
def test_stopped_at_any_moment_it_ends_in_order(spark, config, start, small_models):
    """SIGTERM at six moments: exit code 0, and not even a replay is needed."""
    ledger = oracle.Ledger(seed=6)
    for moment in (0.0, 0.4, 0.9, 1.5, 2.2, 3.0):
        oracle.send(config, ledger.next_messages(600))
        job = start()
        job.wait_for("scoring the topic")
        time.sleep(moment)
        job.signal(signal.SIGTERM)

        assert job.wait() == 0, job.output
        assert "summary: events" in job.output
        assert "may have been written before" not in job.output

    finish(spark, config, ledger, start, small_models)


def pid_of(servers, name):
    """Return the process ids of a server, the one that was started and its children."""
    (running,) = (server for server in stack.running(servers) if server.name == name)
    leader = psutil.Process(running.pid)
    return [leader.pid, *(child.pid for child in leader.children(recursive=True))]


@pytest.mark.timeout(1200)
def test_outages_of_the_servers_are_waited_for(spark, servers, config, start, small_models):
    """Each server frozen, then killed and started again: the job goes on, nothing is lost or doubled."""
    ledger = oracle.Ledger(seed=7)
    oracle.send(config, ledger.next_messages(300))
    job = start()
    job.wait_until(lambda: topics.extent(config.kafka, config.kafka.topics.predictions).records > 0)
    for name in ("elasticsearch", "kafka"):
        oracle.send(config, ledger.next_messages(1000))
        pids = pid_of(servers, name)
        for pid in pids:
            psutil.Process(pid).suspend()
        time.sleep(4)
        for pid in pids:
            psutil.Process(pid).resume()
    for name in ("elasticsearch", "kafka"):
        oracle.send(config, ledger.next_messages(1000))
        for pid in pid_of(servers, name):
            psutil.Process(pid).kill()
        time.sleep(1)
        stack.up(servers)
        time.sleep(3)
    job.wait_until(lambda: caught_up(config, ledger), 400)
    job.signal(signal.SIGTERM)

    assert job.wait() == 0, job.output
    finish(spark, config, ledger, start, small_models)


def caught_up(config, ledger):
    """Tell whether there is an outcome or a rejected record for every message."""
    names = config.kafka.topics
    outcomes, rejected = (topics.extent(config.kafka, name).records for name in (names.predictions, names.rejected))
    return outcomes >= 2 * len(ledger.good) and rejected >= len(ledger.bad)


@pytest.mark.timeout(900)
def test_supervisor_starts_the_job_again(spark, config, small_models, as_file):
    """`score --restart`: the job is killed twice; a stop ends both."""
    ledger = oracle.Ledger(seed=8)
    oracle.send(config, ledger.next_messages(500))
    job = Job(["streamscore", "score", "--restart", "--config", as_file(config)])
    try:
        for times in (1, 2):
            job.wait_until(lambda times=times: job.output.count("scoring the topic") == times)
            time.sleep(1)
            children = [process for process in job.members()[1:] if "java" in process.name()]
            children[0].kill()
        job.wait_until(lambda: caught_up(config, ledger), 400)
        job.signal(signal.SIGTERM)

        assert job.wait() == 0, job.output
        assert job.output.count("starting it again in") == 2
    finally:
        if job.lives:
            job.kill()
    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}
