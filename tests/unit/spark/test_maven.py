"""One module holds all Maven coordinates, and the lock, the pins and the package agree with it."""

import re

import pyspark

from streamscore.local import artifacts
from streamscore.spark import maven


def test_spark_version_is_the_installed_one():
    """The coordinates' Spark version is that of the installed PySpark."""
    assert pyspark.__version__ == maven.SPARK_VERSION


def test_lock_has_the_file_of_every_coordinate():
    """The lock has the file of every directly fetched artifact."""
    locked = set(artifacts.locked_hashes())
    jars = {f"spark/{jar.name}-{jar.version}.jar" for jar in maven.SPARK_JARS}
    broker = {f"kafka/{c.name}-{c.version}.jar" for c in (maven.KAFKA_BROKER, maven.KAFKA_LOGGING)}
    search = f"elasticsearch/{maven.ELASTICSEARCH.name}-{maven.ELASTICSEARCH.version}.zip"

    assert jars == {name for name in locked if name.startswith("spark/")}
    assert broker | {search} <= locked


def test_lock_holds_sha256_only():
    """Each line of the lock is a digest of 64 hexadecimal digits and a path."""
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in artifacts.locked_hashes().values())


def test_no_other_file_repeats_a_version(root):
    """No other file contains a version of the coordinates."""
    versions = {jar.version for jar in maven.SPARK_JARS[2:]} | {maven.KAFKA_BROKER.version}
    package = root / "jobs" / "streamscore"
    repeated = [
        f"{path.name}: {version}"
        for path in package.rglob("*.py")
        if path.name != "maven.py"
        for version in versions
        if version in path.read_text(encoding="utf-8")
    ]

    assert repeated == []
