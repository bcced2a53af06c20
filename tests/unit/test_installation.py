"""The Spark beside this Python."""

import pyspark
import pytest

from streamscore.errors import SetupError
from streamscore.installation import spark_home


def test_spark_has_its_jars():
    """Ivy among them, which fetches the others."""
    assert list((spark_home() / "jars").glob("ivy-*.jar"))


def test_python_files_of_another_spark_are_refused(monkeypatch, tmp_path):
    """`export PYTHONPATH=$SPARK_HOME/python`, as many have it in their profile."""
    monkeypatch.setattr(pyspark, "__file__", str(tmp_path / "python" / "pyspark" / "__init__.py"))

    with pytest.raises(SetupError, match="is a part of another Spark: unset PYTHONPATH"):
        spark_home()
