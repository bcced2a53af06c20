"""Spark's web UI, REST API and event log show no secret of a session, a reader or a writer."""

import json
import os
import re
import subprocess
import sys

import pytest

from streamscore.config.sections import SECRET_KEY
from streamscore.local import java
from streamscore.spark.settings import spark_settings

SECRETS = {
    "ssl.keystore.key": "hidden-1",
    "ssl.key.password": "hidden-2",
    "ssl.truststore.password": "hidden-3",
    "sasl.jaas.config": 'a.Module required username="u" password="hidden-4";',
    "basic.auth.user.info": "hidden-5",
    "sasl.oauthbearer.client.secret": "hidden-6",
}
"""Secret options of Kafka's clients, each with a value."""

PROGRAM = """
import json, os, sys, urllib.request
from pathlib import Path
from streamscore import config
from streamscore.sinks import elasticsearch, topics
from streamscore.spark import session, sources

overrides, jars = json.loads(sys.argv[1]), [Path(jar) for jar in json.loads(sys.argv[2])]
settings = config.load("local", overrides)
spark = session.create(settings, "score_stream", jars=jars)
record = spark.createDataFrame([("t", "k", "v")], "topic string, key string, value string")
document = spark.createDataFrame([("a", "a")], "document_id string, event_id string")
stream = sources.events(spark, settings.kafka, "t", settings.stream)
for act in (
    lambda: topics.write_topic(record, settings.kafka),
    lambda: sources.topic(spark, settings.kafka, "t").collect(),
    lambda: elasticsearch.write_index(document, settings.elasticsearch, "i"),
    lambda: stream.writeStream.format("kafka").options(**sources.kafka_options(settings.kafka), topic="t")
        .option("checkpointLocation", settings.state_dir / "checkpoint").start().awaitTermination(10),
):
    try:
        act()
    except Exception as error:  # nothing answers
        print(type(error).__name__, file=sys.stderr)
page = spark.sparkContext.uiWebUrl
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
name = f"{page}/api/v1/applications/{spark.sparkContext.applicationId}"
for address in (f"{name}/environment", f"{name}/sql?details=true", f"{page}/SQL/", f"{page}/environment/",
                *(f"{page}/SQL/execution/?id={number}" for number in range(4))):
    try:
        print(ask(address).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, address, file=sys.stderr)
spark.stop()
print(*(path.read_text() for path in (settings.state_dir / "events").rglob("*") if path.is_file()))
"""


@pytest.fixture(scope="module")
def shown(jars, addresses, tmp_path_factory):
    """Spark's output about a session that reads and writes with secrets, without any server."""
    folder = tmp_path_factory.mktemp("redaction")
    (folder / "events").mkdir()
    names = {name: re.sub(r"\W", "_", name).upper() for name in SECRETS}
    overrides = [
        *addresses,
        f"state_dir={folder}",
        "kafka.bootstrap_servers=127.0.0.1:9",
        "elasticsearch.url=http://127.0.0.1:9",
        "elasticsearch.user=u",
        "elasticsearch.password=${env:ES_PASSWORD}",
        *(f"kafka.options.{name}=${{env:{variable}}}" for name, variable in names.items()),
        *(f"kafka.options.{name}=1000" for name in ("default.api.timeout.ms", "max.block.ms", "request.timeout.ms")),
        "kafka.options.delivery.timeout.ms=2000",
        "spark.master=local[1]",
        "spark.conf.spark.ui.enabled=true",
        "spark.conf.spark.ui.port=0",
        "spark.conf.spark.eventLog.enabled=true",
        f"spark.conf.spark.eventLog.dir=file://{folder}/events",
        "spark.conf.spark.eventLog.compress=false",
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(overrides), json.dumps(list(map(str, jars)))],
        env={
            **java.environment(java.find()),
            **{names[name]: secret for name, secret in SECRETS.items()},
            "ES_PASSWORD": "hidden-7",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_secret_is_shown(shown):
    """The output has the options' names, but not their values."""
    assert "kafka.ssl.keystore.key" in shown
    assert "es.net.http.auth.pass" in shown
    assert set(re.findall(r"hidden-\d", shown)) == set()


@pytest.mark.parametrize("key", ["spark.redaction.regex", "spark.sql.redaction.options.regex"])
def test_what_the_configuration_takes_for_a_secret_is_one_to_spark_too(make_config, key):
    """Spark redacts every option that the configuration treats as a secret."""
    assert SECRET_KEY.pattern.removeprefix("(?i)") in spark_settings(make_config(), "score_stream")[key]
