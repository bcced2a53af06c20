"""Check everything that score_stream depends on; report each fault with its remedy; change nothing."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from streamscore import models
from streamscore.clients import elasticsearch, labels, topic_records
from streamscore.clients import kafka as kafka_client
from streamscore.config import Config
from streamscore.errors import ServerError, StreamscoreError
from streamscore.local import artifacts, java
from streamscore.spark import maven
from streamscore.spark.settings import is_on_one_machine
from streamscore.stream import checkpoint, folders, lease, ownership
from streamscore.system.paths import is_local
from streamscore.system.processes import memory_limit

GIB: Final = 1 << 30
CLOCK_SECONDS: Final = 30.0
"""Largest clock difference; above it, `event_time` and the recovery of a crashed batch are unreliable."""
BESIDES_HEAP: Final = 700 << 20
"""Memory that the JVM takes beside its heap, and Python with it, in bytes."""

_ACCEPT: Final = "To accept that, start with a new --checkpoint and --new-checkpoint"


class Finding(NamedTuple):
    """The result of a check; the text of a fault ends with its remedy."""

    subject: str
    status: Literal["ok", "note", "fault"]
    text: str


def examine(config: Config) -> Iterator[Finding]:
    """Run all checks and yield their findings; a check that cannot run is a fault."""
    for subject, check in _CHECKS.items():
        try:
            for status, text in check(config):
                yield Finding(subject, status, text)
        except StreamscoreError as error:
            yield Finding(subject, "fault", str(error))
        except (OSError, ValueError) as error:  # a folder without permission, a damaged file
            yield Finding(subject, "fault", f"cannot be read: {error}")


Findings = Iterator[tuple[Literal["ok", "note", "fault"], str]]


def _python(_config: Config) -> Findings:
    import pyspark

    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 10) <= sys.version_info < (3, 14):
        yield "fault", f"Python {version}: streamscore is tested on 3.10 to 3.13; use one of them"
    elif pyspark.__version__ != maven.SPARK_VERSION:
        yield (
            "fault",
            f"pyspark {pyspark.__version__}: the jars are for {maven.SPARK_VERSION}; install that version",
        )
    else:
        yield "ok", f"{version}, pyspark {pyspark.__version__}"


def _java(_config: Config) -> Findings:
    yield "ok", str(java.find())


def _jars(config: Config) -> Findings:
    missing = [path.name for path in artifacts.spark_jar_paths(config.local.artifacts_dir) if not path.is_file()]
    if missing:
        yield "note", f"{len(missing)} jars are missing ({missing[0]} …): `streamscore jars` fetches them"
        return
    locked = artifacts.locked_hashes()
    artifacts.verify(config.local.artifacts_dir, [name for name in locked if name.startswith("spark/")], locked)
    yield "ok", f"{len(artifacts.spark_jar_paths(config.local.artifacts_dir))}, verified"


def _user(_config: Config) -> Findings:
    try:
        yield "ok", pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        text = f"uid {os.getuid()} is not in /etc/passwd, and Java does not start Spark for a user without a name"
        yield "fault", f"{text}: use another user, or start the container by its own entry point, which names it"


def _memory(config: Config) -> Findings:
    limit = memory_limit()
    text = f"{limit / GIB:.1f} GiB"
    if is_on_one_machine(config) and limit < config.spark.driver_bytes + BESIDES_HEAP:
        needed = f"the heap (spark.driver_memory, {config.spark.driver_memory}) and {BESIDES_HEAP / GIB:.1f} GiB more"
        text = f"{text}, but the job takes {needed}; beyond the limit it is killed with code 137 and no message"
        yield "fault", f"{text}: give this container or machine more, or lower spark.driver_memory"
    else:
        yield "ok", text


def _disk(config: Config) -> Findings:
    existing = next(path for path in (config.state_dir, *config.state_dir.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / GIB:.1f} GiB free at {config.state_dir}"
    if free < GIB:
        yield "fault", f"{text}: Kafka and Elasticsearch stop when a disk is full; make room or set state_dir elsewhere"
    else:
        yield ("note" if free < 5 * GIB else "ok"), text


def _kafka(config: Config) -> Findings:
    kafka = config.kafka
    existing = kafka_client.names(kafka)
    yield "ok", f"answers at {kafka.bootstrap_servers}"
    topics = kafka.topics
    outputs = dict.fromkeys((topics.predictions, topics.rejected), ("Read", "Write"))
    kafka_client.require_allowed(kafka, {topics.input: ("Read",), **outputs})
    if kafka.topics.input not in existing:
        names = ", ".join(existing) or "none"
        text = f"no topic {kafka.topics.input!r}, or this user may not see it (ACL Describe); there are {names}"
        yield "fault", f"{text}. {kafka_client.NO_INPUT}"
        return
    held = topic_records.extent(kafka, kafka.topics.input)
    yield "ok", f"topic {kafka.topics.input}: {len(held.end)} partitions, {held.records:,} events"
    missing = [name for name in (kafka.topics.predictions, kafka.topics.rejected) if name not in existing]
    if missing:
        yield "note", f"the topics {', '.join(missing)} will be created by the first run"


def _elasticsearch(config: Config) -> Findings:
    settings = config.elasticsearch
    if not settings.enabled:
        yield "ok", "switched off by elasticsearch.enabled"
        return
    version = elasticsearch.health(settings)
    yield "ok", f"{version} answers at {settings.url}"
    absent = elasticsearch.compare(settings)
    for block in elasticsearch.blocks(settings):
        yield "fault", str(block)
    for fault in elasticsearch.template_faults(settings, absent):
        yield "fault", fault
    if absent:
        yield "note", f"the indices {', '.join(absent)} will be created by the first run"
    difference = elasticsearch.clock(settings) - time.time()
    if abs(difference) > CLOCK_SECONDS:
        yield "fault", f"its clock is {difference:+.0f} s off this machine's: synchronise them (NTP)"


def _checkpoint(config: Config) -> Findings:
    location = config.stream.checkpoint
    if not is_local(location):
        yield "note", f"{location} is on a file system that only Spark reaches; the job checks it when it starts"
        return
    files = folders.open_folder(location)
    past = checkpoint.inspect(files, location)
    holder = lease.holder(files)
    if holder is not None:
        yield "note", f"{location} is in use by process {holder}: a job is running"
    if past.is_new:
        yield "ok", f"{location} is new: the first run begins at the {config.stream.starting_offsets} offsets"
        return
    yield "ok", f"{location}: batch {past.committed} is committed"
    if past.planned > past.committed and holder is None:
        planned = checkpoint.planned_offsets(files, past)
        reads = "; ".join(
            f"partition {partition} of {topic} from offset {begin} to {end - 1}"
            for (topic, partition), (begin, end) in planned.items()
        )
        text = f"batch {past.planned} was planned and not committed: the next start replays it without duplicates"
        yield "note", f"{text}. It reads {reads}" if reads else text
        yield from _largest(config, {partition: between for (_, partition), between in planned.items()})


def _largest(config: Config, ranges: Mapping[int, tuple[int, int]]) -> Findings:
    """Name the largest message of a batch, which may be larger than the JVM's memory."""
    try:
        found = topic_records.largest(config.kafka, config.kafka.topics.input, ranges)
    except ServerError:  # the check of Kafka reports it
        return
    if found is not None and found[2] > config.message.max_bytes:
        partition, offset, size = found
        text = f"the batch's message at offset {offset} of partition {partition} has {size:,} bytes"
        remedy = f"`streamscore score --skip {partition}:{offset}` passes over it"
        yield "note", f"{text}. If the job ends with code 50 or 52 at every start, {remedy}"


def _past(config: Config) -> Findings:
    """Compare the checkpoint with the topic and the index, as the job does at its start."""
    location = config.stream.checkpoint
    if not is_local(location):
        return
    files = folders.open_folder(location)
    past = checkpoint.inspect(files, location)
    checkpoint.require_topic(files, location, config.kafka.topics.input)
    ownership.require_known(config, past)
    scored = checkpoint.offsets(files, past.committed).get(config.kafka.topics.input, {})
    held = topic_records.extent(config.kafka, config.kafka.topics.input)
    for partition, offset in scored.items():
        end = held.end.get(partition, 0)
        if offset > end:
            text = f"partition {partition} ends at {end}, but {offset} was scored already: the topic was recreated"
            yield "fault", f"{text}. {_ACCEPT}"
    ownership.require_same_topic(config, files)
    ownership.require_unexpired(config, files, past.committed)


def _models(config: Config) -> Findings:
    for model in config.models:
        if not models.readable_without_spark(model):
            yield "note", f"{model.name}: {model.uri} is on a file system that only Spark reaches"
            continue
        try:
            version, inspected = models.inspect(config, model)
        except StreamscoreError as error:
            yield "fault", str(error)
        else:
            signed = "with a manifest" if inspected.manifest is not None else "without a manifest, as its entry allows"
            yield "ok", f"{model.name}: {model.uri} is version {version}, {signed}"


def _labels(config: Config) -> Findings:
    """Check what label_stream needs; nothing is said where there is no topic of labels."""
    topic, settings = config.kafka.topics.labels, config.elasticsearch
    try:
        if not settings.enabled or topic not in kafka_client.names(config.kafka):
            return
    except ServerError:  # the check of Kafka reports it
        return
    held = topic_records.extent(config.kafka, topic)
    yield "ok", f"topic {topic}: {len(held.end)} partitions, {held.records:,} labels"
    if labels.compare(settings):
        yield "note", "the indices of late labels will be created by the first `streamscore label`"
    if config.labels.match == "key" and labels.has_field(settings, config.kafka.topics.input, "key") is False:
        yield (
            "fault",
            f"no outcome in {settings.index} has a key: set labels.match to event_id, or give the events keys",
        )
    if settings.documents < 1:
        yield "note", f"elasticsearch.documents is {settings.documents}: labels of the other events find no outcome"


_CHECKS: Final[dict[str, Callable[[Config], Findings]]] = {
    "python": _python,
    "java": _java,
    "jars": _jars,
    "user": _user,
    "memory": _memory,
    "disk": _disk,
    "kafka": _kafka,
    "elasticsearch": _elasticsearch,
    "models": _models,
    "checkpoint": _checkpoint,
    "past": _past,
    "labels": _labels,
}
