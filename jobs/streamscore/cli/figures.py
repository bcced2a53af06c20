"""``streamscore quality``: every figure of every model, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from streamscore.clients import elasticsearch, quality_reader
from streamscore.config import Config, TimeRange
from streamscore.errors import ConfigError, InputError
from streamscore.quality import text
from streamscore.quality.evaluation import FIGURES, Evaluation, evaluate
from streamscore.system.console import VERDICTS

LEGEND: Final = (
    "[low, high]: interval of 95 %; wide: too uncertain for a verdict; –: undefined\n"
    "± bound, (lower to upper): what the bins leave open; green, red: surely above, surely below guessing"
)
"""Legend of the signs in a table."""

_SCORES: Final = {
    "probability": "probabilities",
    "margin": "margins",
    "class_probability": "probabilities of classes",
    "class_margin": "margins of classes",
    None: text.UNDEFINED,
}
_NAME_WIDTH: Final = 24
_COLUMN_WIDTH: Final = 36
"""Widest cells: the name of a figure, and a figure with its bound and its interval."""


class Version(NamedTuple):
    """A version of a model with its figures."""

    model: str
    version: str
    evaluation: Evaluation

    def as_json(self) -> dict[str, Any]:
        """Return the version's part of --json, which the command's help describes."""
        return self.evaluation.to_json(self.model, self.version)


def read(config: Config, time_range: TimeRange, model: str | None) -> tuple[list[Version], int | None]:
    """Return the versions that scored events of a time range, by model and version, with their figures.

    Second: the milliseconds of the time range that do not count yet, since their labels are awaited; None if labels
    are not (``labels.window``).

    Args:
        config: the configuration.
        time_range: how far back to go.
        model: only the versions of this model; None: of all models.

    Raises:
        ConfigError: Elasticsearch is not configured, or no model of this name is configured or has scored.
        InputError: no event of the time range was scored, or none by this model.
        ServerError: Elasticsearch cannot be reached, or refuses.
    """
    settings = config.elasticsearch
    if not settings.enabled:
        raise ConfigError(
            "the statistics of quality are kept in Elasticsearch, and elasticsearch.enabled is false: the figures of a "
            "run are in the log of `streamscore score`"
        )
    with elasticsearch.client(settings) as server:
        found, awaited = quality_reader.counted(server, config, time_range, int(time.time() * 1000))
    versions = [
        Version(*of, evaluate(statistic, config.dashboard.min_labelled))
        for of, statistic in found.items()
        if model in {None, of[0]}
    ]
    if not versions:
        raise _nothing(config, time_range, model, sorted({name for name, _ in found}), awaited)
    return versions, None if config.labels.window is None else awaited


def _nothing(
    config: Config, time_range: TimeRange, model: str | None, others: Sequence[str], awaited: int
) -> Exception:
    """Return the error with the reason why there are no figures."""
    known = sorted({*others, *(each.name for each in config.models)})
    if model is not None and model not in known:
        return ConfigError(f"no model {model!r} is configured or has scored; there are {', '.join(known)}")
    if awaited:
        return InputError(f"{note_of(config, awaited)} Nothing else was scored: see `streamscore labels`")
    place = f"{config.elasticsearch.quality_index!r} at {config.elasticsearch.url}"
    who, when = f" by {model}" if model else "", "" if time_range == "all" else f" of the last {time_range}"
    hint = "has `streamscore score` run?" if time_range == "all" else "--range all goes back to the first"
    return InputError(f"no event{when} was scored{who}, as far as {place} says: {hint}")


def note_of(config: Config, awaited: int) -> str:
    """Return the sentence on the part of the time range that does not count yet.

    Args:
        config: the configuration.
        awaited: its length in milliseconds, not 0.
    """
    return (
        f"{text.duration(awaited)} of the time range are in no figure yet: fewer than "
        f"{config.labels.min_coverage:.0%} of their events have a label by now."
    )


def tables(versions: Sequence[Version], width: int) -> list[Table]:
    """Return the figures as tables with a row per figure and as many versions as columns as fit.

    Args:
        versions: the versions, at least one.
        width: columns of the terminal.
    """
    together = max(1, (width - _NAME_WIDTH) // _COLUMN_WIDTH)
    return [_table(versions[first : first + together]) for first in range(0, len(versions), together)]


def _table(versions: Sequence[Version]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("figure", no_wrap=True)
    for each in versions:
        table.add_column(Text(f"{each.model} {each.version}"), overflow="fold")
    every = [each.evaluation for each in versions]
    table.add_row("scores", *(_SCORES[each.statistic.score_kind] for each in every))
    table.add_row("scored", *(f"{each.statistic.scored:,}" for each in every))
    table.add_row("declined", *(f"{each.statistic.declined:,}" for each in every))
    table.add_row("labelled", *(f"{each.statistic.labelled:,}" for each in every))
    for key, figure in FIGURES.items():
        cells = (Text(text.described(each, key), VERDICTS[text.verdict(each, key)]) for each in every)
        table.add_row(figure.name, *cells)
    return table


def as_json(versions: Sequence[Version], time_range: TimeRange, awaited: int | None = None) -> Mapping[str, Any]:
    """Return the output of --json.

    Args:
        versions: the versions.
        time_range: the time range of the figures.
        awaited: milliseconds of it that do not count yet; None: labels are not awaited.
    """
    waits = {} if awaited is None else {"awaited_ms": awaited}
    return {"range": time_range, **waits, "models": [each.as_json() for each in versions]}
