"""What the scoring job's memory and batch times do under a load that never changes.

    streamscore up
    streamscore train
    python benchmarks/steady.py --minutes 30 --rate 500

Seeds a topic of its own at the rate and scores it into indices of its own, looks at the processes every few seconds,
prints a row per period of time, and deletes its topics and indices. A job that leaks, or slows down as its index
grows, shows here.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pyarrow.parquet as pq

from streamscore import config as configuration
from streamscore.clients import elasticsearch, kafka
from streamscore.config import Config

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

TOPICS = (("input", ""), ("predictions", "-predictions"), ("rejected", "-rejected"))
INDICES = (("index", ""), ("rejected_index", "-rejected"), ("status_index", "-status"))
HEADINGS = ("minutes", "JVM MiB", "Python MiB", "batches", "events", "batch ms", "batch p95", "most lag")
PERIODS = 6
PAGE = 10_000
"""Most documents that Elasticsearch gives at once."""


class Sample(NamedTuple):
    """What was seen at one moment."""

    at: float
    """Epoch seconds."""
    jvm: int
    """Resident bytes of the job's JVM."""
    python: int


class Batch(NamedTuple):
    """A batch, as the job's status index has it."""

    at: float
    milliseconds: int
    events: int
    lag: int


def main() -> None:
    """Load, look, print, delete."""
    arguments = _arguments()
    name = f"steady-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="streamscore-steady-") as folder:
        own = [
            *arguments.set,
            f"stream.checkpoint={folder}/checkpoint",
            *(f"kafka.topics.{topic}={name}{end}" for topic, end in TOPICS),
            *(f"elasticsearch.{key}={name}{end}" for key, end in INDICES),
        ]
        config = configuration.load(arguments.config, own)
        kafka.ensure(config.kafka, config.kafka.topics.input)
        options = ["--config", arguments.config, *(word for text in own for word in ("--set", text))]
        try:
            samples = _run(options, config.seed.source, arguments)
            rows = periods(samples, read_batches(config), samples[0].at)
            if not any(row[HEADINGS.index("events")] for row in rows):
                raise SystemExit("no event was scored: there was no load")
        finally:
            elasticsearch.delete(config.elasticsearch)
            kafka.delete(config.kafka, *(f"{name}{end}" for _, end in TOPICS))
    for row in [HEADINGS, *rows]:
        print("".join(f"{value:>14}" for value in row))
    if arguments.json:
        result = {"minutes": arguments.minutes, "rate": arguments.rate, "columns": HEADINGS, "rows": rows}
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def periods(samples: list[Sample], batches: list[Batch], began: float) -> list[tuple[Any, ...]]:
    """Return a row per period: its end, the median memory in it, its batches, their events, times and largest lag."""
    length = (samples[-1].at - began) / PERIODS
    rows = []
    for number in range(PERIODS):
        start, end = began + number * length, began + (number + 1) * length
        seen = [sample for sample in samples if start <= sample.at <= end]
        ran = [batch for batch in batches if start <= batch.at < end]
        times = sorted(batch.milliseconds for batch in ran) or [0]
        rows.append(
            (
                round((end - began) / 60, 1),
                round(statistics.median(sample.jvm for sample in seen) / 2**20),
                round(statistics.median(sample.python for sample in seen) / 2**20),
                len(ran),
                sum(batch.events for batch in ran),
                round(statistics.median(times)),
                times[int(0.95 * (len(times) - 1))],
                max((batch.lag for batch in ran), default=0),
            )
        )
    return rows


def _run(options: list[str], source: str, arguments: argparse.Namespace) -> list[Sample]:
    """Run the producer and the job for a time, and return what was seen after the first minute, that of warming up."""
    command = [str(Path(sys.executable).with_name("streamscore"))]
    rounds = math.ceil((arguments.minutes + 10) * 60 * arguments.rate / pq.read_metadata(source).num_rows)
    seed = [*command, "seed", *options, "--rate", str(arguments.rate), "--repeat", str(rounds)]
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the program, after the processes that write to it)
    producer = subprocess.Popen(seed, stdout=log, stderr=log)
    job = subprocess.Popen([*command, "score", *options], stdout=log, stderr=log)
    samples: list[Sample] = []
    end = time.time() + 60 * (arguments.minutes + 1)
    try:
        while time.time() < end:
            time.sleep(5)
            if producer.poll() is not None or job.poll() is not None:
                log.seek(0)
                raise SystemExit(log.read().decode())
            samples += [sample for sample in [_look(job.pid)] if end - sample.at < 60 * arguments.minutes]
            if sys.stderr.isatty():
                print(f"\r{(end - time.time()) / 60:.1f} minutes left ", end="", file=sys.stderr)
    finally:
        for process in (producer, job):
            process.send_signal(signal.SIGTERM)
        for process in (producer, job):
            process.wait(120)
    return samples


def _look(pid: int) -> Sample:
    jvm = python = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            size = process.memory_info().rss
            if "java" in process.name():
                jvm += size
            else:
                python += size
        except psutil.NoSuchProcess:
            continue
    return Sample(time.time(), jvm, python)


def read_batches(config: Config) -> list[Batch]:
    """Return the batches of the job, in order."""
    with elasticsearch.client(config.elasticsearch, 60) as client:
        client.indices.refresh(index=config.elasticsearch.status_index)
        hits: list[dict[str, Any]] = []
        after: dict[str, Any] = {}
        while page := _page(client, config.elasticsearch.status_index, after):
            hits += page
            after = {"search_after": page[-1]["sort"]}
    return [
        Batch(hit["sort"][0] / 1_000, *(hit["_source"][name] for name in ("batch_ms", "events", "lag"))) for hit in hits
    ]


def _page(client: Client, name: str, after: Mapping[str, Any]) -> list[dict[str, Any]]:
    order = [{"@timestamp": "asc"}, {"batch": "asc"}]
    found: list[dict[str, Any]] = client.search(index=name, size=PAGE, sort=order, **after)["hits"]["hits"]
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="local", metavar="NAME|FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=500, help="events per second")
    parser.add_argument("--json", help="file for the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
