"""``streamscore labels``: what became of the labels that arrive after their events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from streamscore.clients import elasticsearch, label_lag, quality_reader
from streamscore.clients import labels as client
from streamscore.config import Config, TimeRange
from streamscore.errors import ConfigError
from streamscore.quality import figures, text

LEGEND: Final = (
    "received = matched + duplicate + superseded + pending + expired + rejected, over all time\n"
    "coverage: labelled ÷ scored, of labels that came with the events or later; lag: from the event to its late label"
)
"""Legend of the tables."""


class Coverage(NamedTuple):
    """How many events of a version of a model have a label."""

    model: str
    version: str
    scored: int
    labelled: int

    @property
    def share(self) -> float | None:
        """Labelled ÷ scored; None if nothing was scored."""
        return figures.coverage(self.labelled, self.scored)


class State(NamedTuple):
    """What is known of late labels."""

    counts: Mapping[str, int]
    coverage: list[Coverage]
    lags: Mapping[int, float | None]
    """Percentiles of the lag, in milliseconds."""


def read(config: Config, time_range: TimeRange) -> State:
    """Return what became of all labels, and coverage and lag of the events of a time range.

    Args:
        config: the configuration.
        time_range: how far back to go.

    Raises:
        ConfigError: Elasticsearch is not configured.
        ServerError: Elasticsearch cannot be reached, or refuses.
    """
    if not config.elasticsearch.enabled:
        raise ConfigError("late labels are kept in Elasticsearch, and elasticsearch.enabled is false")
    now = round(time.time() * 1_000)
    with elasticsearch.client(config.elasticsearch) as server:
        counts = client.counts(server, config.elasticsearch, config.kafka.topics.labels)
        statistics = quality_reader.of_range(server, config, time_range, now)
        lags = label_lag.lags(server, config, time_range, now)
    coverage = [Coverage(*of, statistic.scored, statistic.labelled) for of, statistic in statistics.items()]
    return State(counts, coverage, lags)


def tables(state: State) -> list[Table]:
    """Return the tables: counts, coverage by version, and lag."""
    counts, coverage, lag = (Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False) for _ in range(3))
    counts.add_column("labels")
    counts.add_column("count", justify="right")
    for name, count in state.counts.items():
        counts.add_row(name, f"{count:,}")
    for heading in ("model", "scored", "labelled", "coverage"):
        coverage.add_column(heading, justify="left" if heading == "model" else "right")
    for each in state.coverage:
        share = text.UNDEFINED if each.share is None else f"{each.share:.2%}"
        coverage.add_row(Text(f"{each.model} {each.version}"), f"{each.scored:,}", f"{each.labelled:,}", share)
    for percent in state.lags:
        lag.add_column(f"lag p{percent}", justify="right")
    lag.add_row(*map(text.duration, state.lags.values()))
    return [counts, coverage, lag]


def as_json(state: State, time_range: TimeRange) -> dict[str, Any]:
    """Return the output of --json, which the command's help describes.

    Args:
        state: what was read.
        time_range: the time range of coverage and lag.
    """
    return {
        "range": time_range,
        "counts": dict(state.counts),
        "models": [
            {
                "name": each.model,
                "version": each.version,
                "scored": each.scored,
                "labelled": each.labelled,
                "coverage": each.share,
            }
            for each in state.coverage
        ],
        "lag_ms": {f"p{percent}": lag for percent, lag in state.lags.items()},
    }
