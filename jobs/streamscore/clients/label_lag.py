"""How long labels take, and how many events have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import elasticsearch
from streamscore.config import Config
from streamscore.quality.windows import RANGES
from streamscore.schema import TIME

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

PERCENTS: Final = (50, 90, 99)
"""The percentiles of the lag that are shown."""

_COMPRESSION: Final = 1_000
"""Size of Elasticsearch's sketch (t-digest): large enough that each percentile is off by less than 1 %."""


Lags = Mapping[int, float | None]
"""Percentiles of the lag in milliseconds, by percent."""


def lags(server: Client, config: Config, time_range: str, now: int) -> Lags:
    """Return percentiles of the time from an event to its label, in milliseconds, over the events of a time range.

    An event counts once, by the outcome of one of its models; None without labels.

    Args:
        server: the client.
        config: names the index.
        time_range: one of ``windows.RANGES``, which ends now.
        now: the current time, in epoch milliseconds.

    Raises:
        ServerError: the server cannot be reached, or refuses.
    """
    length = RANGES[time_range]
    since = [] if length is None else [{"range": {TIME: {"gte": now - length}}}]
    of_topic = {"term": {"topic": config.kafka.topics.input}}
    body: dict[str, Any] = {
        "size": 0,
        "track_total_hits": False,
        "query": {"bool": {"filter": [of_topic, *since]}},
        "aggs": {
            "models": {
                "terms": {"field": "model", "size": 1},
                "aggs": {
                    "lag": {
                        "percentiles": {
                            "field": "label_lag_ms",
                            "percents": list(PERCENTS),
                            "tdigest": {"compression": _COMPRESSION},
                        }
                    }
                },
            }
        },
    }
    (answer,), _ = elasticsearch.search(server, config.elasticsearch, [(config.elasticsearch.labelled_index, body)])
    found = answer.get("aggregations", {}).get("models", {}).get("buckets", [])
    values = found[0]["lag"]["values"] if found else {}
    return {percent: values.get(f"{percent:.1f}") for percent in PERCENTS}
