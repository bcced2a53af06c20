"""How long Elasticsearch works for one refresh of the live page, at N million documents.

    streamscore up
    python benchmarks/page_queries.py --millions 5

It fills indices of its own at elasticsearch.url, reads the page's figures again and again as an open page does, while
documents come in so that no answer is a cached one, prints the server's own times, and deletes the indices.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamscore import config as configuration
from streamscore.clients import elasticsearch
from streamscore.config import Elasticsearch
from streamscore.dashboard.figures import Snapshot
from streamscore.dashboard.reader import BUDGET, Reader
from streamscore.quality.windows import HOUR

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

MODELS = (("lr", "3"), ("svm", "2"))
EVENTS_PER_REQUEST = 5_000
EVENTS_PER_REFRESH = 1_000
REFRESHES = 40


def main() -> None:
    """Fill, measure, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="local", metavar="NAME|FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--millions", type=float, default=5.0, help="documents in the index")
    arguments = parser.parse_args()
    name = "benchmark-page"
    own = [f"elasticsearch.{key}={name}{end}" for key, end in (("index", ""), ("rejected_index", "-rejected"))]
    own.append(f"elasticsearch.status_index={name}-status")
    settings = configuration.load(arguments.config, [*arguments.set, *own]).elasticsearch
    elasticsearch.delete(settings)
    elasticsearch.ensure(settings)
    try:
        fresh = fill(settings, round(arguments.millions * 1e6 / len(MODELS)))
        for time_range in ("all", "1h"):
            measure(settings, time_range, fresh)
        compare(settings, fresh)
    finally:
        elasticsearch.delete(settings)


def fill(settings: Elasticsearch, events: int) -> Iterator[int]:
    """Write the outcomes of six hours and return the numbers of further events."""
    started, end = time.monotonic(), round(time.time() * 1_000)
    with elasticsearch.client(settings, 120) as client:
        client.indices.put_settings(index=settings.index, settings={"refresh_interval": "-1"})
        for first in range(0, events, EVENTS_PER_REQUEST):
            last = min(first + EVENTS_PER_REQUEST, events)
            times = [end - 6 * HOUR + 6 * HOUR * number // events for number in range(first, last)]
            send(client, settings, first, times)
        client.indices.put_settings(index=settings.index, settings={"refresh_interval": settings.refresh_interval})
        client.indices.refresh(index=settings.index)
        while client.indices.stats(index=settings.index)["_all"]["total"]["merges"]["current"]:
            time.sleep(1)
        count = client.count(index=settings.index)["count"]
        segments = client.indices.stats(index=settings.index)["_all"]["total"]["segments"]["count"]
    print(f"{count:,} documents in {segments} segments, filled in {time.monotonic() - started:.0f} s")
    return itertools.count(events, EVENTS_PER_REFRESH)


def add(client: Client, settings: Elasticsearch, fresh: Iterator[int]) -> None:
    """Write the outcomes of some events of this moment, and make them count."""
    send(client, settings, next(fresh), [now()] * EVENTS_PER_REFRESH)
    client.indices.refresh(index=settings.index)


def send(client: Client, settings: Elasticsearch, first: int, times: list[int]) -> None:
    """Write the outcomes of some events."""
    lines = "\n".join(documents(first, times)).encode()
    answer = client.bulk(index=settings.index, body=lines + b"\n")  # type: ignore[arg-type]  # it takes bytes too
    if answer["errors"]:
        raise SystemExit(f"Elasticsearch refused documents: {answer['items'][0]}")


def documents(first: int, times: list[int]) -> Iterator[str]:
    """Return the lines of a bulk request."""
    for number, at in enumerate(times, first):
        label = int(random.random() < 0.256)  # noqa: S311 (no secret)
        for model, version in MODELS:
            score = random.random()  # noqa: S311
            prediction = int(score > 0.7)
            yield f'{{"index":{{"_id":"ml-0-{number}-{model}-{version}"}}}}'
            yield (
                f'{{"@timestamp":{at},"event_id":"ml-0-{number}","model":"{model}","model_version":"{version}",'
                f'"prediction":{prediction},"score":{score:.6f},"label":{label},"correct":{int(prediction == label)}}}'
            )


def measure(settings: Elasticsearch, time_range: str, fresh: Iterator[int]) -> None:
    """Open a page, so to say: print the server's times of its first refreshes, and of those that follow."""
    with contextlib.closing(Reader(settings, 120)) as reader, elasticsearch.client(settings, 120) as client:
        first = [reader.read(time_range, now())]
        while first[-1].pending:
            first.append(reader.read(time_range, now()))
        report(f"{time_range}: the first, {BUDGET:,} documents each", first)
        later = []
        for _ in range(REFRESHES):
            add(client, settings, fresh)
            later.append(reader.read(time_range, now()))
        report(f"{time_range}: while documents come in", later)


def compare(settings: Elasticsearch, fresh: Iterator[int]) -> None:
    """Print the server's times of counting everything at each refresh, which the page avoids."""
    times = []
    for _ in range(5):
        with (
            contextlib.closing(Reader(settings, 120, budget=None)) as reader,
            elasticsearch.client(settings, 120) as client,
        ):
            add(client, settings, fresh)
            times.append(reader.read("all", now()))
    report("all: if everything were counted each time", times)


def report(what: str, snapshots: list[Snapshot]) -> None:
    """Print a line of the table."""
    took = [snapshot.took for snapshot in snapshots]
    print(f"{what:<55} {len(took):3} refreshes   median {statistics.median(took):6.0f} ms   max {max(took):6.0f} ms")


def now() -> int:
    """Return this moment in epoch milliseconds."""
    return round(time.time() * 1_000)


if __name__ == "__main__":
    main()
