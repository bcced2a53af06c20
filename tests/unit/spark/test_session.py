"""The session is created once, reused if it exists, and stopped only by its creator."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession

from streamscore import score_stream, seed_topic, train_models
from streamscore.config import CONF_DIR
from streamscore.local import java
from streamscore.spark import session
from streamscore.spark.settings import log_file, spark_settings
from streamscore.stream.stop import StopRequest


@pytest.fixture
def databricks(monkeypatch):
    """Make this process look like one on Databricks."""
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")


def test_session_that_exists_is_used_and_adapted(spark, make_config):
    """An existing session gets changeable settings, and keeps its master and its JVM's options."""
    before = {name: spark.conf.get(name, None) for name in ("spark.master", "spark.driver.extraJavaOptions")}
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")

    made = score_stream.JOB.create_session(make_config("spark.master=local[7]", "spark.shuffle_partitions=2"))

    assert made._jsparkSession.equals(spark._jsparkSession)
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert {name: spark.conf.get(name, None) for name in before} == before


@pytest.mark.usefixtures("databricks")
def test_nothing_is_asked_of_databricks_that_it_does_not_grant(spark, make_config, monkeypatch):
    """On Databricks the session is fetched without our options, also in a thread without an active one."""
    asked = []
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(SparkSession.Builder, "config", lambda *given, **named: asked.append((given, named)))
    monkeypatch.setattr(SparkSession.Builder, "master", lambda *given: asked.append(given))

    made = score_stream.JOB.create_session(make_config("spark.shuffle_partitions=2"))

    assert made._jsparkSession.equals(spark._jsparkSession)
    assert asked == []


def test_checkpoint_on_a_volume_keeps_the_platform_s_file_manager(make_config, monkeypatch):
    """On Databricks a checkpoint in /Volumes, an object store, keeps the default file manager."""
    name = "spark.sql.streaming.checkpointFileManagerClass"
    config = make_config("stream.checkpoint=/Volumes/main/streamscore/checkpoints/score_stream")

    assert name in score_stream.JOB.settings(config)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    assert name not in score_stream.JOB.settings(config)


def test_long_generated_methods_are_compiled(spark):
    """The JVM compiles generated methods above its default limit, as those of a dozen models."""
    beans = spark._jvm.java.lang.management.ManagementFactory
    kind = spark._jvm.java.lang.Class.forName("com.sun.management.HotSpotDiagnosticMXBean")

    assert beans.getPlatformMXBean(kind).getVMOption("DontCompileHugeMethods").getValue() == "false"


@pytest.mark.parametrize("master", ["null", "yarn", "local-cluster[2,1,1024]"])
def test_where_executors_have_their_own_options_no_method_is_too_long(make_config, master):
    """Where executors have their own JVM options, Spark splits methods at the JVM's limit."""
    name = "spark.sql.codegen.hugeMethodLimit"

    assert spark_settings(make_config(f"spark.master={master}"), "score_stream")[name] == "8000"
    assert name not in spark_settings(make_config("spark.master=local[2]"), "score_stream")


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]"])
def test_session_on_one_machine_listens_there_only(make_config, master):
    """A session on one machine listens on loopback unless the configuration overrides it."""
    local = spark_settings(make_config(f"spark.master={master}"), "score_stream")
    settings = spark_settings(make_config("spark.conf={spark.ui.enabled: 'true'}"), "score_stream")
    cluster = spark_settings(make_config("spark.master=local-cluster[2,1,1024]"), "score_stream")

    assert local["spark.driver.bindAddress"] == local["spark.driver.host"] == "127.0.0.1"
    assert local["spark.ui.enabled"] == "false"
    assert settings["spark.ui.enabled"] == "true"
    assert "spark.driver.host" not in cluster


def test_workers_are_the_python_of_the_driver(spark):
    """Not the python3 of the path, which may be of another version."""
    (worker,) = spark.range(1, numPartitions=1).rdd.map(lambda _: __import__("sys").executable).collect()

    assert worker == sys.executable


class Cluster:
    """A fake session on a cluster, with settings."""

    sparkContext = SimpleNamespace(master="spark://10.0.0.1:7077")  # noqa: N815 (Spark's name)

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self.conf = self

    def isModifiable(self, name):  # noqa: N802 (Spark's name)
        """Return whether a setting can be changed in a running session."""
        return name.startswith("spark.sql.session")

    def set(self, name, value):
        """Change a setting."""
        self._settings[name] = value

    def get(self, name, default):
        """Return a setting."""
        return self._settings.get(name, default)


@pytest.mark.parametrize("job", [score_stream, seed_topic, train_models], ids=lambda job: job.NAME)
def test_cluster_whose_tasks_may_repeat_is_told_before_it_sends(make_config, monkeypatch, caplog, job):
    """A warning names the task settings that cannot be changed and could send records twice."""
    cluster = Cluster(**{"spark.speculation": "false"})
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: cluster)

    assert job.JOB.create_session(make_config()) is cluster
    messages = [record.getMessage() for record in caplog.records if record.name == "streamscore"]
    if job is train_models:
        assert messages == []
    else:
        assert len(messages) == 1
        assert messages[0].startswith("this session lacks spark.task.maxFailures=1: Spark may repeat a task")


def test_session_that_was_there_before_is_not_stopped(spark, make_config):
    """The session of a wheel task or a notebook, which belongs to the platform, keeps running."""
    with session.opened(make_config("spark.shuffle_partitions=2"), "seed_topic"):
        pass

    assert spark.range(3).count() == 3


def test_session_of_our_own_is_stopped(spark, make_config, monkeypatch):
    """A session that the job created is stopped, also after a failure."""
    stopped = []
    ours = SimpleNamespace(sparkContext=spark.sparkContext, stop=lambda: stopped.append(1))
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(session, "create", lambda *_: ours)

    with pytest.raises(ValueError, match="the job"), session.opened(make_config(), "seed_topic"):
        raise ValueError("the job")
    assert stopped == [1]


def test_signal_asks_to_stop_and_its_handler_is_put_back(spark):
    """Python's and the JVM's signals request a stop, and the old handlers are restored."""
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()

    with stop.listening(spark):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_than_the_main_one_can_listen(spark):
    """In another thread, where Python allows no signal handlers, the stream runs and changes no handlers."""
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        try:
            with StopRequest().listening(spark):
                seen.append(signal.getsignal(signal.SIGINT))
        except ValueError as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)

    assert seen == [before]


def jvm_handler(spark):
    """Return the name of the class of the JVM's SIGTERM handler, which is restored at once.

    Never ask with SIG_IGN: a JVM that has once ignored this signal ignores it for good.
    """
    sun = spark.sparkContext._gateway.jvm.sun.misc
    term = sun.Signal("TERM")
    present = sun.Signal.handle(term, sun.SignalHandler.SIG_DFL)
    sun.Signal.handle(term, present)
    return present.getClass().getName()


def test_jvm_s_signals_are_taken_where_it_is_ours_only(spark, monkeypatch):
    """On Databricks, whose JVM also runs other notebooks, the JVM's signal handlers are not changed."""
    before = jvm_handler(spark)

    with StopRequest().listening(spark):
        assert "Proxy" in jvm_handler(spark)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    with StopRequest().listening(spark):
        assert jvm_handler(spark) == before
    assert "Proxy" not in before


def test_time_that_is_up_asks_to_stop_once():
    """The time limit starts at the first wait, after the stream's start, and requests one stop."""
    stop = StopRequest(seconds=0.3)
    time.sleep(0.4)

    assert not stop.wait(0.05)
    time.sleep(0.4)
    assert stop.wait(0)
    time.sleep(1.1)  # a second request would mean an urgent stop in the middle of a batch
    assert stop.wait(0)
    assert not stop.urgent


def test_settings_of_a_cluster_that_stop_spark_are_named(tmp_path):
    """The message names the environment variables of a cluster's settings that stop Spark."""
    (tmp_path / "spark-defaults.conf").write_text("spark.eventLog.enabled true\nspark.eventLog.dir file:///nowhere\n")
    program = (
        "from streamscore import config\nfrom streamscore.spark import session\n"
        f"session.create(config.load('local', ['state_dir={tmp_path}']), 'score_stream')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SPARK_CONF_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert re.search(
        "SetupError: Spark did not start: .*nowhere.*; see .*score_stream.spark.log. "
        r"It reads the settings in SPARK_CONF_DIR: are they meant for it\?$",
        done.stderr.strip(),
    )


JOB_AT_THE_END = """
import sys, threading, time
from pyspark.sql import SparkSession
from streamscore import config
from streamscore.spark import session

def jobs(spark):
    return list(spark.sparkContext.statusTracker().getActiveJobsIds())

stop = SparkSession.stop
SparkSession.stop = lambda spark: (print("jobs", jobs(spark)), stop(spark))
settings = config.load("local", [f"state_dir={sys.argv[1]}", "spark.master=local[2]"])
with session.opened(settings, "score_stream") as spark:
    many = spark.range(10**6, numPartitions=5_000)
    threading.Thread(target=many.count, daemon=True).start()
    while not jobs(spark):
        time.sleep(0.1)
"""


def test_session_that_ends_cancels_its_jobs_first(tmp_path):
    """Running jobs are cancelled before the session stops, so that Spark logs no stack traces of late tasks."""
    done = subprocess.run(
        [sys.executable, "-c", JOB_AT_THE_END, str(tmp_path)],
        env={**java.environment(java.find()), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "jobs []\n", done.stderr
    assert "RejectedExecutionException" not in done.stderr
    assert "RejectedExecutionException" not in (tmp_path / "logs" / "score_stream.spark.log").read_text()


@pytest.fixture
def log(spark, make_config, tmp_path):
    """Return a function that logs faults like a starting job, and the log file."""
    jvm, config = spark._jvm, make_config(f"state_dir={tmp_path}/100%d new")
    words = shlex.split(spark_settings(config, "seed_topic")["spark.driver.extraJavaOptions"])
    properties = dict(word.removeprefix("-D").split("=") for word in words if word.startswith("-Dstreamscore."))
    before = {name: jvm.System.setProperty(name, value) for name, value in properties.items()}

    def start(*faults):
        context = jvm.org.apache.logging.log4j.core.LoggerContext("a start")
        context.setConfigLocation(jvm.java.net.URI(f"file://{CONF_DIR}/log4j2.properties"))
        context.start()
        for fault in faults:
            context.getLogger("test").error(fault)
        context.stop()

    yield start, log_file(config, "seed_topic")
    for name, value in before.items():
        jvm.System.setProperty(name, value)


def faults(file):
    """Return the first words of the faults in a log."""
    return [line.split(": ")[1][:7] for line in file.read_text().splitlines()]


def test_log_of_an_earlier_start_is_kept(log):
    """A restarted job keeps the log of the previous run, which explains its fault."""
    start, file = log
    start("fault 1")
    start("fault 2")

    assert faults(file) == ["fault 1", "fault 2"]


def test_long_log_is_put_away(log):
    """A long log is rotated, also during a run; the oldest one is deleted."""
    start, file = log
    start(*(f"fault {number}{' ' * 4_000_000}" for number in range(8)))
    start("fault 8")

    assert {path.name for path in file.parent.iterdir()} == {file.name, f"{file.name}.1"}
    assert faults(file.with_name(f"{file.name}.1")) == ["fault 3", "fault 4", "fault 5"]
    assert faults(file) == ["fault 6", "fault 7", "fault 8"]
