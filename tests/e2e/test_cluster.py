"""The package outside this repository: a zipped wheel, and executors in separate processes, which are killed."""

import shutil
import subprocess
import sys
import time

import oracle
import psutil
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression, OneVsRest

from streamscore import score_stream, seed_topic
from streamscore.clients import elasticsearch, kafka, topic_records
from streamscore.config.models import Model
from streamscore.launch import submit

SUBMIT = [
    "spark-submit",
    *("--master", "local-cluster[2,1,1024]"),
    *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"),
]
NO_PYTHON = [
    *("--conf", "spark.pyspark.python=/no/python/here"),
    *("--conf", f"spark.pyspark.driver.python={sys.executable}"),
]
"""Settings with which an executor that needs a Python worker fails."""


@pytest.fixture
def one_vs_rest(spark, trained, tmp_path):
    """A saved model whose folder PySpark's own reader would read with a Python worker on an executor."""
    _, figures = trained
    rows = spark.read.parquet(str(figures["test_set"])).limit(500)
    folder = tmp_path / "ovr"
    Pipeline(stages=[OneVsRest(classifier=LogisticRegression(maxIter=1))]).fit(rows).save(str(folder))
    return folder


def test_zipped_wheel_scores_on_a_local_cluster_without_python(
    spark, own, trained, one_vs_rest, jars, as_file, root, tmp_path
):
    """A launcher copied alone with --py-files, and two executors without Python, give the usual outcomes."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "seed.limit=2000", "spark.master=null")
    config = config.model_copy(
        update={"models": (*config.models, Model(name="ovr", uri=str(one_vs_rest), trust="unsigned"))}
    )
    seed_topic.check(config)
    seed_topic.run(spark, config)
    (wheel,) = (root / "dist").glob("*.whl")
    shutil.copy(wheel, tmp_path / "streamscore.zip")
    shutil.copy(root / "jobs" / "score_stream.py", tmp_path / "launcher.py")
    done = subprocess.run(
        [
            *SUBMIT,
            *("--jars", ",".join(map(str, jars)), "--py-files", str(tmp_path / "streamscore.zip")),
            *NO_PYTHON,
            *(str(tmp_path / "launcher.py"), "--config", as_file(config), "--available-now"),
        ],
        cwd=tmp_path,
        env=submit.prepare(config),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert elasticsearch.count(config.elasticsearch) == 6000
    assert topic_records.extent(config.kafka, config.kafka.topics.predictions).records == 6000


def executors(running):
    """Return the live executors of a job."""
    found = []
    for process in running.members():
        try:
            if any("CoarseGrainedExecutorBackend" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_killed_executors_lose_and_double_nothing(spark, own, small_models, jars, job, as_file, root, tmp_path):
    """Executors are killed between and during tasks: Spark continues, or a restart finishes the batch."""
    config = own(oracle.listed(small_models), "stream.max_events_per_batch=1500", "spark.master=null")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    ledger = oracle.Ledger(seed=11)
    oracle.send(config, ledger.next_messages(6000))
    score_stream.check(config)
    command = [
        *(*SUBMIT, "--jars", ",".join(map(str, jars))),
        *NO_PYTHON,
        *(str(root / "jobs" / "score_stream.py"), "--config", as_file(config), "--available-now"),
    ]
    # The second batch waits after half of its documents are written; both executors cache its rows.
    waits = {"STREAMSCORE_TEST_FAULTS": "1", "STREAMSCORE_FAULT": "index-half:sleep:2"}
    running = job(command, env={**submit.prepare(config), **waits}, cwd=tmp_path)

    def records():
        return topic_records.extent(config.kafka, config.kafka.topics.predictions).records

    running.wait_until(lambda: records() > 0, 300)  # three JVMs are slow on a busy machine
    running.wait_until(lambda: elasticsearch.count(config.elasticsearch) > records())
    executors(running)[0].kill()
    of_first = records()
    while running.lives and records() == of_first:  # a task that dies with its executor fails the batch and the job
        time.sleep(0.05)
    for other in executors(running)[:1]:
        other.kill()
    code = running.wait()
    if code:
        assert code == 7, running.output
        again = job(command, env=submit.prepare(config), cwd=tmp_path)
        assert again.wait() == 0, again.output

    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}
