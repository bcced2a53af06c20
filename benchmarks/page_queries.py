"""How long Elasticsearch works for one refresh of the live page, whatever the number of events.

    streamscore up
    python benchmarks/page_queries.py --millions 50 --hours 24

It writes the statistics of so many events into an index of its own at elasticsearch.url, reads the page's figures again
and again as an open page does, while the last windows change, prints the server's own times, and deletes the index.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from streamscore import config as configuration
from streamscore.clients import elasticsearch
from streamscore.config import Config
from streamscore.dashboard.figures import Snapshot
from streamscore.dashboard.reader import Reader
from streamscore.quality.statistic import of_rows
from streamscore.quality.windows import HOUR, RANGES

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

MODELS = (("lr", "3"), ("svm", "2"))
DOCUMENTS_PER_REQUEST = 500
MOST_ROWS = 100_000
"""A statistic of more events has the same bins: its counts are multiplied instead."""
REFRESHES = 40


def main() -> None:
    """Fill, measure, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="local", metavar="NAME|FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--millions", type=float, default=50.0, help="events that the statistics are of")
    parser.add_argument("--hours", type=float, default=24.0, help="time in which they came")
    arguments = parser.parse_args()
    name = "benchmark-page"
    own = [f"elasticsearch.{key}={name}{end}" for key, end in (("index", ""), ("rejected_index", "-rejected"))]
    own += [f"elasticsearch.{key}_index={name}-{key}" for key in ("status", "quality")]
    config = configuration.load(arguments.config, [*arguments.set, *own])
    elasticsearch.delete(config.elasticsearch)
    elasticsearch.ensure(config.elasticsearch)
    try:
        fill(config, round(arguments.millions * 1e6), round(arguments.hours * HOUR))
        for time_range in RANGES:
            measure(config, time_range)
    finally:
        elasticsearch.delete(config.elasticsearch)


def fill(config: Config, events: int, span: int) -> None:
    """Write the statistics of all windows of the time before this moment (milliseconds)."""
    started, end = time.monotonic(), now()
    lines: list[dict[str, Any]] = []
    written = 0
    with elasticsearch.client(config.elasticsearch, 120) as client:
        for seconds in config.quality.windows:
            length = 1_000 * seconds
            per_window = max(1, events * length // span)
            source = statistic(min(per_window, MOST_ROWS))
            for begin in range((end - span) // length * length, end, length):
                lines += documents(seconds, begin, source)
                written += len(MODELS)
                if len(lines) >= 2 * DOCUMENTS_PER_REQUEST:
                    send(client, config, lines)
                    lines = []
        send(client, config, lines)
        client.indices.refresh(index=config.elasticsearch.quality_index)
    print(f"{events:,} events in {written:,} documents, filled in {time.monotonic() - started:.0f} s")


def statistic(events: int) -> dict[str, Any]:
    """Return the document of a statistic of so many events."""
    chance = np.random.default_rng(events)
    scores = 1 / (1 + np.exp(-chance.normal(-1.3, 1.2, events)))
    labels = (chance.uniform(size=events) < scores).astype(float)
    return of_rows(labels, (scores > 0.5).astype(float), scores, "probability").to_document()


def documents(seconds: int, begin: int, source: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the lines that write both models' statistics of a window, with the one before the last batch."""
    for model, version in MODELS:
        header = {"@timestamp": begin, "seconds": seconds, "topic": "ml", "stream": "s", "batch": 1}
        yield {"index": {"_id": f"s-{model}-{version}-{seconds}-{begin}"}}
        yield header | {"model": model, "model_version": version} | source | {"before": source}


def send(client: Client, config: Config, lines: list[dict[str, Any]]) -> None:
    """Write documents."""
    answer = client.bulk(index=config.elasticsearch.quality_index, operations=lines)
    if answer["errors"]:
        raise SystemExit(f"Elasticsearch refused documents: {answer['items'][0]}")


def measure(config: Config, time_range: str) -> None:
    """Open a page, so to say: print the server's times of its first look, and of the refreshes that follow."""
    source = statistic(1_000)
    with (
        contextlib.closing(Reader(config, 120)) as reader,
        elasticsearch.client(config.elasticsearch, 120) as client,
    ):
        report(f"{time_range}: the first look", [reader.read(time_range, now())])
        later = []
        for _ in range(REFRESHES):
            lines = [
                line
                for seconds in config.quality.windows
                for line in documents(seconds, now() // (1_000 * seconds) * 1_000 * seconds, source)
            ]
            send(client, config, lines)
            client.indices.refresh(index=config.elasticsearch.quality_index)
            later.append(reader.read(time_range, now()))
        report(f"{time_range}: while events come in", later)


def report(what: str, snapshots: list[Snapshot]) -> None:
    """Print a line of the table."""
    took = [snapshot.took for snapshot in snapshots]
    print(f"{what:<35} {len(took):3} refreshes   median {statistics.median(took):6.0f} ms   max {max(took):6.0f} ms")


def now() -> int:
    """Return this moment in epoch milliseconds."""
    return round(time.time() * 1_000)


if __name__ == "__main__":
    main()
