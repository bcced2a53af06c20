"""How many labels wait for their events, and how many events have a label, at a cost that does not depend on either."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from streamscore.clients import elasticsearch
from streamscore.config import Config
from streamscore.quality import figures
from streamscore.quality.windows import DAY, HOUR, SECOND
from streamscore.schema import TIME

TIMEOUT_SECONDS: Final = 3.0
"""How long the server may take: less than a scrape of Prometheus."""

_MODELS: Final = 1_000


class LabelState(NamedTuple):
    """What the indices say of labels."""

    pending: int
    """Labels that wait."""
    coverage: Mapping[str, float]
    """Labelled ÷ scored, of the events of the last 24 hours, by model, over all of its versions."""


def read(config: Config, stream: str) -> LabelState:
    """Return the state of the labels.

    Args:
        config: names the indices and the input topic.
        stream: identity of the query that reads the labels.

    Raises:
        ServerError: Elasticsearch does not answer within some seconds, or refuses.
    """
    settings = config.elasticsearch
    searches = [(settings.pending_index, _pending(stream)), (settings.quality_index, _coverage(config))]
    with elasticsearch.client(settings, TIMEOUT_SECONDS) as server:
        (waiting, quality), _ = elasticsearch.search(server, settings, searches)
    shares = {
        str(model["key"]): figures.coverage(model["labelled"]["value"], model["scored"]["value"])
        for model in quality.get("aggregations", {}).get("models", {}).get("buckets", [])
    }
    known = {model: share for model, share in shares.items() if share is not None}
    return LabelState(int(waiting["hits"]["total"]["value"]), known)


def _pending(stream: str) -> dict[str, Any]:
    is_done = {"exists": {"field": "resolved_batch"}}
    is_matched = {"exists": {"field": "matched_batch"}}
    return {
        "size": 0,
        "track_total_hits": True,
        "query": {"bool": {"filter": [{"term": {"stream": stream}}], "must_not": [is_done, is_matched]}},
    }


def _coverage(config: Config) -> dict[str, Any]:
    lengths = config.quality.windows
    seconds = max((each for each in lengths if each * SECOND <= HOUR), default=lengths[0])
    since = round(time.time() * 1_000) - DAY
    return {
        "size": 0,
        "track_total_hits": False,
        "query": {
            "bool": {
                "filter": [
                    {"term": {"topic": config.kafka.topics.input}},
                    {"term": {"seconds": seconds}},
                    {"range": {TIME: {"gte": since}}},
                ],
                "must_not": [{"exists": {"field": "pair"}}],
            }
        },
        "aggs": {
            "models": {
                "terms": {"field": "model", "size": _MODELS},
                "aggs": {name: {"sum": {"field": name}} for name in ("scored", "labelled")},
            }
        },
    }
