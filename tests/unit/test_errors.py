"""Errors of a JVM become the one line that helps the user."""

import io
import logging

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from streamscore.errors import ServerError, mask_credentials
from streamscore.spark.errors import reason, root_cause
from streamscore.system import console


@pytest.fixture
def failed(spark):
    """The error of a failed Spark task."""
    with pytest.raises((Py4JJavaError, PySparkException)) as caught:
        spark.range(1).selectExpr("assert_true(id > 0, 'id is not above 0')").collect()
    return caught.value


def test_error_of_a_task_is_told_without_the_task(failed):
    """The message omits the task, its attempt and its stage."""
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
    """The last cause is reported, unless the trace has a message of Elasticsearch."""
    assert root_cause(RuntimeError(text)) == line


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:pa/ss@host", "http://********@host"),
        ("at http://user:pa/ss@host:5000/x: gone", "at http://********@host:5000/x: gone"),
        ("postgresql+psycopg2://me:p@ss/@db/mlflow", "postgresql+psycopg2://********@db/mlflow"),
        ("s3a://KEY:sec/ret@bucket/dir", "s3a://********@bucket/dir"),
        ("https://token@host/x and https://a:b@c", "https://********@host/x and https://********@c"),
        ("elastic:hunter2@search:9200", "********@search:9200"),
        ("wasbs://x?sig=a%2Fb&sv=1", "wasbs://x?sig=********&sv=1"),
        (
            "postgresql://db/x?user=me&password=p&sslmode=require",
            "postgresql://db/x?user=me&password=********&sslmode=require",
        ),
    ],
)
def test_credentials_of_a_url_are_masked(text, masked):
    """Credentials are masked whatever characters they contain, anywhere in a URL."""
    assert mask_credentials(text) == masked
    assert mask_credentials(masked) == masked
    assert str(ServerError(text)) == masked


@pytest.mark.parametrize(
    "text",
    [
        "models:/streamscore-lr@champion: no such model in the registry at http://127.0.0.1:5000. See me@example.org",
        "file:///data/a@b, /data/a@b, dbfs:/a@b, s3a://bucket/a@b, sqlite:////x/a@b.db",
        "https://host/search?q=a&limit=3",
    ],
)
def test_text_without_credentials_stays(text):
    """At signs of model aliases and paths are not masked."""
    assert mask_credentials(text) == text


def test_log_masks_credentials(monkeypatch):
    """The log masks credentials, also in warnings."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    console.set_up_logging()
    logging.getLogger("streamscore").warning("no answer: %s", RuntimeError("http://user:pa/ss@host"))

    assert stream.getvalue().endswith("no answer: http://********@host\n")
