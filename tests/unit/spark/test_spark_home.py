"""The Spark installed with this Python."""

from importlib import metadata

import pyspark
import pytest

from streamscore.errors import SetupError
from streamscore.local import java
from streamscore.spark.spark_home import spark_home


def test_spark_has_its_jars():
    """PySpark's jars exist, with Ivy among them."""
    assert list((spark_home() / "jars").glob("ivy-*.jar"))


def test_python_files_of_another_spark_are_refused(monkeypatch, tmp_path):
    """Another Spark's Python files, as from `PYTHONPATH=$SPARK_HOME/python`, are refused."""
    monkeypatch.setattr(pyspark, "__file__", str(tmp_path / "python" / "pyspark" / "__init__.py"))

    with pytest.raises(SetupError, match="is a part of another Spark: unset PYTHONPATH"):
        spark_home()


def test_java_package_that_a_message_names_is_the_extra_s():
    """The Java package in the message is the one of setup.py."""
    assert f'{java.PACKAGE}; extra == "java"' in metadata.requires("streamscore")
