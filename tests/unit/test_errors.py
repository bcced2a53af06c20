"""What is told of an error that comes from a JVM: one line, the one that a reader can act on."""

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from streamscore.spark.errors import reason, root_cause


@pytest.fixture
def failed(spark):
    """The error of a task that failed for an error of its own."""
    with pytest.raises((Py4JJavaError, PySparkException)) as caught:
        spark.range(1).selectExpr("assert_true(id > 0, 'id is not above 0')").collect()
    return caught.value


def test_error_of_a_task_is_told_without_the_task(failed):
    """Which attempt of which stage it was helps nobody."""
    for line in (reason(failed), root_cause(failed)):
        assert line.endswith("id is not above 0")
        assert "Lost task" not in line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no such thing", "no such thing"),
        ("a\nat b\nCaused by: c: d\n\t... 3 more\nCaused by: e: f\n\tat g", "e: f"),
        ("Traceback\n  File x\npy4j.protocol.Py4JError: gone\n", "py4j.protocol.Py4JError: gone"),
        (
            "a\nCaused by: org.elasticsearch.hadoop.rest.EsHadoopRemoteException: mapper: strict\nCaused by: b",
            "mapper: strict",
        ),
        ("", "RuntimeError"),
        ("x" * 900, "x" * 500),
    ],
)
def test_cause_is_the_last_of_a_stack_trace(text, line):
    """And Elasticsearch's own words come before everything else."""
    assert root_cause(RuntimeError(text)) == line
