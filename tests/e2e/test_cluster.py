"""The package away from this repository: a wheel as a zip, executors in processes of their own."""

import shutil
import subprocess
import sys

from streamscore import index, seed_topic, submit, topics


def test_zipped_wheel_scores_on_local_cluster(spark, own, trained, jars, as_file, shell, root, tmp_path):
    """The launcher copied alone, the package by --py-files, two executors: the same outcomes as anywhere."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "seed.limit=2000", "spark.master=null")
    seed_topic.check(config)
    seed_topic.run(spark, config)
    (wheel,) = (root / "dist").glob("*.whl")
    shutil.copy(wheel, tmp_path / "streamscore.zip")
    shutil.copy(root / "jobs" / "score_stream.py", tmp_path / "launcher.py")
    environment = submit.prepare(config)
    done = subprocess.run(
        [
            "spark-submit",
            *("--master", "local-cluster[2,1,1024]"),
            *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"),
            *("--jars", ",".join(map(str, jars)), "--py-files", str(tmp_path / "streamscore.zip")),
            *(str(tmp_path / "launcher.py"), "--config", as_file(config), "--available-now"),
        ],
        cwd=tmp_path,
        env={**environment, "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert index.count(config.elasticsearch) == 4000
    assert topics.extent(config.kafka, config.kafka.topics.predictions).records == 4000
