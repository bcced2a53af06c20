"""The package away from this repository: a wheel as a zip, executors in processes of their own with a packed Python."""

import shutil
import subprocess
import sys
import tarfile

import pytest

from streamscore import index, seed_topic, submit, topics


@pytest.fixture
def environment(tmp_path):
    """An environment with Python and nothing else, packed; whoever runs it leaves the file `ran` behind."""
    packed = tmp_path / "packed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(packed)], check=True)
    (site_packages,) = packed.glob("lib/python*/site-packages")
    (site_packages / "sitecustomize.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    with tarfile.open(tmp_path / "environment.tar.gz", "w:gz") as archive:
        archive.add(packed, arcname=".")
    shutil.rmtree(packed)
    return tmp_path / "environment.tar.gz"


def test_zipped_wheel_and_packed_python_score_on_local_cluster(
    spark, own, trained, jars, environment, as_file, root, tmp_path
):
    """The launcher copied alone, --py-files, --archives, two executors: the same outcomes as anywhere."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "seed.limit=2000", "spark.master=null")
    seed_topic.check(config)
    seed_topic.run(spark, config)
    (wheel,) = (root / "dist").glob("*.whl")
    shutil.copy(wheel, tmp_path / "streamscore.zip")
    shutil.copy(root / "jobs" / "score_stream.py", tmp_path / "launcher.py")
    done = subprocess.run(
        [
            "spark-submit",
            *("--master", "local-cluster[2,1,1024]"),
            *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"),
            *("--jars", ",".join(map(str, jars)), "--py-files", str(tmp_path / "streamscore.zip")),
            *("--archives", f"{environment}#environment"),
            *("--conf", "spark.pyspark.python=./environment/bin/python"),
            *("--conf", f"spark.pyspark.driver.python={sys.executable}"),
            *(str(tmp_path / "launcher.py"), "--config", as_file(config), "--available-now"),
        ],
        cwd=tmp_path,
        env=submit.prepare(config),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert index.count(config.elasticsearch) == 4000
    assert topics.extent(config.kafka, config.kafka.topics.predictions).records == 4000
    assert (tmp_path / "ran").exists()
