"""The doctor reports no fault on a healthy installation, and each seeded fault with its remedy."""

import json
import os
import re
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamscore import score_stream
from streamscore.cli import doctor
from streamscore.clients import elasticsearch, kafka
from streamscore.errors import StreamscoreError
from streamscore.local import java
from streamscore.stream import folders, lease
from streamscore.system import processes


@pytest.fixture(scope="module")
def scored(spark, make_own, small_models, produce, tmp_path_factory):
    """A configuration with a scored topic, a checkpoint and an index."""
    models = f"models=[{{name: lr, uri: {small_models['lr']}}}]"
    config = make_own("doctor", tmp_path_factory.mktemp("doctor"), models, "stream.available_now=true")
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, ["{}"] * 20)
    score_stream.check(config)
    score_stream.run(spark, config)
    return config


@pytest.fixture
def config(scored, tmp_path):
    """The same configuration with a copy of the checkpoint, to be damaged."""
    copy = tmp_path / "checkpoint"
    shutil.copytree(scored.stream.checkpoint, copy)
    return changed(scored, "stream", checkpoint=str(copy))


def changed(config, section, **values):
    """Return a configuration with other values in a section."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def faults(config):
    """Return the texts of the reported faults."""
    return [f"{finding.subject}: {finding.text}" for finding in doctor.examine(config) if finding.status == "fault"]


def test_all_is_well(config):
    """Every subject is checked, and none has a fault."""
    found = list(doctor.examine(config))

    assert [finding for finding in found if finding.status == "fault"] == []
    assert {finding.subject for finding in found} >= {
        "python", "java", "jars", "user", "memory", "disk", "kafka", "elasticsearch", "models", "checkpoint",
    }  # fmt: skip


def absent_broker(config, _):
    """No server at the address."""
    return changed(config, "kafka", bootstrap_servers="127.0.0.1:1"), "kafka: no Kafka broker answers at 127.0.0.1:1"


def absent_topic(config, _):
    """A missing topic, which looks like a topic that an ACL hides."""
    names = config.kafka.topics.model_copy(update={"input": "absent"})
    message = r"kafka: no topic 'absent', or this user may not see it \(ACL Describe\); there are .*`streamscore seed`"
    return changed(config, "kafka", topics=names), message


def absent_elasticsearch(config, _):
    """No server at the address."""
    return changed(config, "elasticsearch", url="http://127.0.0.1:1"), "elasticsearch: no Elasticsearch answers"


def serving(config, status, answer):
    """Return a configuration with a server that always sends the same answer."""

    class Elasticsearch(BaseHTTPRequestHandler):
        def do_GET(self):
            """Send the answer."""
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=8")
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Elasticsearch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return changed(config, "elasticsearch", url=f"http://127.0.0.1:{server.server_port}")


def elasticsearch_nine(config, _):
    """A version that the connector refuses, but only in the first batch."""
    answer = {"status": "green", "timed_out": False, "version": {"number": "9.1.0"}}
    return serving(config, 200, answer), "elasticsearch: .* is version 9.1.0; .* 8.x only"


def elasticsearch_seven(config, _):
    """A version that refuses the client's headers, but not the connector."""
    return serving(config, 400, {"error": {"type": "media_type_header_exception"}}), "is version before 8; .* 8.x only"


def user_without_a_privilege(config, _):
    """Elasticsearch names the missing privilege; the message refers to the user's setting, not to the password's."""
    reason = "action [cluster:monitor/health] is unauthorized for user [u],\n  this is granted by [monitor]"
    answer = {"error": {"type": "security_exception", "reason": reason}}
    message = (
        r"refuses this user an action \(403\): action .* for user \[u\], this is granted by \[monitor\]. The jobs need"
    )
    return serving(config, 403, answer), f"elasticsearch: .* {message} .* `manage` on {config.elasticsearch.index}, "


def user_of_a_gateway(config, _):
    """A gateway refuses the user without a reason."""
    return serving(config, 403, None), r"refuses this user an action \(403\): it does not say which. The jobs need"


def wrong_password(config, _):
    """Elasticsearch refuses the password."""
    return serving(config, 401, {}), r"refuses the credentials \(401\): see elasticsearch.user, .password and .api_key$"


def other_mapping(config, _):
    """An index that cannot hold the outcomes."""
    name = f"{config.elasticsearch.index}-other"
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.create(index=name, mappings={"properties": {"correct": {"type": "text"}}})
    return changed(config, "elasticsearch", index=name), "elasticsearch: the index .* cannot hold .* correct is text"


def alias_of_two(config, _):
    """An alias of two indices: a replay could write to another index than the first attempt."""
    alias = f"{config.elasticsearch.index}-alias"
    with elasticsearch.client(config.elasticsearch) as client:
        for number in (1, 2):
            client.indices.create(index=f"{alias}-{number}", aliases={alias: {}})
    return changed(
        config, "elasticsearch", index=alias
    ), "elasticsearch: .* is an alias of 2 indices .*: a replayed batch"


def absent_model(config, _):
    """A missing model folder."""
    models = (config.models[0].model_copy(update={"uri": "/nowhere"}),)
    return config.model_copy(update={"models": models}), "models: the model 'lr': no folder at /nowhere"


def absent_registered_model(config, _):
    """A name that is not in the registry."""
    models = (config.models[0].model_copy(update={"uri": "models:/nobody@champion"}),)
    return config.model_copy(update={"models": models}), "models: models:/nobody@champion: no such model"


def missing_metadata(config, _):
    """A checkpoint without its identity."""
    (Path(config.stream.checkpoint) / "metadata").unlink()
    return config, "checkpoint: .*/metadata is missing"


def torn_offsets(config, _):
    """Half an entry of the offsets log."""
    (Path(config.stream.checkpoint) / "offsets" / "0").write_text("v1")
    return config, "checkpoint: .*/offsets/0 is damaged: delete it"


def torn_earlier_offsets(config, _):
    """Half an entry of the last committed batch, while a later batch is planned."""
    folder = Path(config.stream.checkpoint) / "offsets"
    (folder / "1").write_text((folder / "0").read_text())
    (folder / "0").write_text("v1\n{}\n{")
    return config, "past: cannot be read: "


def other_checkpoint(config, tmp_path):
    """Another checkpoint than the index's."""
    other = changed(config, "stream", checkpoint=str(tmp_path / "other"))
    return other, "past: the index .* holds outcomes of the topic .* from stream .*--new-checkpoint"


def other_checkpoint_and_no_status_index(config, tmp_path):
    """Another checkpoint, while the status index is missing, which a start would create before it refuses."""
    search = config.elasticsearch.model_copy(update={"status_index": f"{config.elasticsearch.index}-absent"})
    return other_checkpoint(config.model_copy(update={"elasticsearch": search}), tmp_path)


def recreated_topic(config, _):
    """A recreated topic with fewer events than were scored."""
    kafka.delete(config.kafka, config.kafka.topics.input)
    kafka.ensure(config.kafka, config.kafka.topics.input)
    return config, r"past: partition \d ends at 0, but \d+ was scored already: the topic was recreated"


def expired_events(config, _):
    """Events that expired before they were scored."""
    from confluent_kafka import TopicPartition

    path = Path(config.stream.checkpoint) / "offsets" / "0"
    lines = path.read_text().splitlines()
    ends = json.loads(lines[2])
    name = config.kafka.topics.input
    partition, end = next((p, o) for p, o in ends[name].items() if o > 0)
    lines[2] = json.dumps({name: {**ends[name], partition: 0}})
    path.write_text("\n".join(lines))
    client = kafka.admin(config.kafka)
    for future in client.delete_records([TopicPartition(name, int(partition), end)]).values():
        future.result()
    message = (
        f"past: {end} events of the topic '{name}' have expired .*partition {partition} begins at {end}, but 0 is next"
    )
    return config, message


def damaged_jar(config, tmp_path):
    """A file that differs from the lock."""
    folder = tmp_path / "artifacts"
    for group in ("spark", "decoder"):
        (folder / group).mkdir(parents=True)
        for path in (config.local.artifacts_dir / group).iterdir():
            (folder / group / path.name).symlink_to(path)
    victim = next((folder / "spark").iterdir())
    victim.unlink()
    victim.write_bytes(b"x")
    return changed(config, "local", artifacts_dir=folder), f"jars: .*{victim.name} is not the file that was locked"


FAULTS = [
    absent_broker,
    absent_topic,
    absent_elasticsearch,
    elasticsearch_seven,
    elasticsearch_nine,
    user_without_a_privilege,
    user_of_a_gateway,
    wrong_password,
    other_mapping,
    alias_of_two,
    absent_model,
    absent_registered_model,
    missing_metadata,
    torn_offsets,
    torn_earlier_offsets,
    other_checkpoint,
    other_checkpoint_and_no_status_index,
    damaged_jar,
    expired_events,  # these two change the topic, so they come last
    recreated_topic,
]


def test_absent_java_is_found(config, monkeypatch):
    """The finding names the package to install."""

    def none():
        raise StreamscoreError("no Java 17")

    monkeypatch.setattr(java, "find", none)

    assert "java: no Java 17" in faults(config)


def test_wrong_clock_is_found(config, monkeypatch):
    """A clock difference of half a minute is a fault."""
    monkeypatch.setattr(elasticsearch, "clock", lambda _: time.time() + 90)

    assert any("its clock is +90 s off" in text for text in faults(config))


def test_running_job_and_unfinished_batch_are_told(config):
    """A running job and an unfinished batch are notes, not faults."""
    files = folders.open_folder(config.stream.checkpoint)
    (Path(config.stream.checkpoint) / "commits" / "0").unlink()
    texts = [finding.text for finding in doctor.examine(config)]
    assert any("batch 0 was planned and not committed" in text for text in texts)
    birth = processes.birth(os.getpid())
    files.write(lease.LEASE, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "birth": birth}))
    texts = [finding.text for finding in doctor.examine(config)]

    assert any(f"in use by process {os.getpid()}" in text for text in texts)
    assert faults(config) == []


def test_new_checkpoint_that_is_accepted_is_no_fault(config, tmp_path):
    """An accepted new checkpoint is no fault, as for the job."""
    new = changed(config, "stream", checkpoint=str(tmp_path / "other"), new_checkpoint=True)

    assert faults(new) == []


@pytest.mark.parametrize("seeded", FAULTS, ids=lambda fault: fault.__name__)
def test_seeded_fault_is_found(config, tmp_path, seeded):
    """The finding names the fault and a remedy."""
    broken, expected = seeded(config, tmp_path)
    found = faults(broken)

    assert any(re.search(expected, text) for text in found), found
