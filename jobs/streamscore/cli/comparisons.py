"""``streamscore compare``: which of the models is better on the same events, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from streamscore.clients import comparison_reader, elasticsearch
from streamscore.clients.comparison_reader import Compared
from streamscore.config import Config
from streamscore.errors import ConfigError, InputError
from streamscore.quality import comparison_text, figures, paired
from streamscore.quality.estimates import Estimate
from streamscore.quality.text import UNDEFINED

LEGEND: Final = "[low, high]: interval that holds at every look; positive: the challenger is better"
"""Legend of the table."""


def read(config: Config, challenger: str | None = None, *, every: bool = False) -> list[Compared]:
    """Return the latest comparison of each challenger, or all, the latest first.

    Args:
        config: the configuration.
        challenger: only those of this model.
        every: also those of versions that were replaced.

    Raises:
        ConfigError: Elasticsearch is not configured.
        InputError: no events of two models were compared, or none of this challenger.
        ServerError: Elasticsearch cannot be reached, or refuses.
    """
    settings = config.elasticsearch
    if not settings.enabled:
        raise ConfigError(
            "the comparisons are kept in Elasticsearch, and elasticsearch.enabled is false: those of a run are in the "
            "log of `streamscore score`"
        )
    with elasticsearch.client(settings) as server:
        found = comparison_reader.all_of(server, settings)
    if not found:
        raise InputError(
            f"{settings.quality_index!r} at {settings.url} compares no models: `streamscore score` with two or more "
            "models compares them on the same events"
        )
    shown = found if every else comparison_reader.current(found)
    chosen = [each for each in shown if challenger in {None, each.pair.challenger}]
    if not chosen:
        others = ", ".join(sorted({each.pair.challenger for each in shown}))
        raise InputError(f"no challenger {challenger!r} was compared; there are {others}")
    return chosen


def table(found: Sequence[Compared], margin: float) -> Table:
    """Return comparisons as a table with one column each.

    Args:
        found: the comparisons, at least one.
        margin: largest difference in accuracy that does not matter.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    shown.add_column("against the champion", no_wrap=True)
    for each in found:
        shown.add_column(Text(comparison_text.versions(each.pair)), overflow="fold")
    compared = [each.comparison for each in found]
    rows = {
        "events with a label": [f"{each.sums.events:,}" for each in compared],
        "challenger right": [_percent(each.sums.challenger_right, each.sums.events) for each in compared],
        "champion right": [_percent(each.sums.champion_right, each.sums.events) for each in compared],
        "both right": [f"{each.sums.both_right:,}" for each in compared],
        "only the challenger right": [f"{each.sums.only_challenger:,}" for each in compared],
        "only the champion right": [f"{each.sums.only_champion:,}" for each in compared],
        "difference, points": [comparison_text.difference(each) for each in compared],
        "log loss, lower by": [_difference(paired.log_loss_difference(each.sums, each.alpha)) for each in compared],
        "Brier score, lower by": [_difference(paired.brier_difference(each.sums, each.alpha)) for each in compared],
        "p at every look": [f"{each.evidence.p_value:.2g}" for each in compared],
        "verdict": [comparison_text.verdict(each, margin) for each in compared],
        "": [comparison_text.progress(each, margin) for each in compared],
    }
    for name, cells in rows.items():
        shown.add_row(name, *cells)
    return shown


def _percent(part: int, whole: int) -> str:
    share = figures.share(part, whole)
    return UNDEFINED if share is None else f"{share:.2%}"


def _difference(found: Estimate | None) -> str:
    if found is None:
        return UNDEFINED
    ends = "" if found.low is None or found.high is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.value:+.4f}{ends}"


def as_json(each: Compared, margin: float) -> dict[str, Any]:
    """Return a comparison as --json prints it.

    Args:
        each: the comparison.
        margin: largest difference in accuracy that does not matter.
    """
    return {**each.comparison.to_json(each.pair, margin), "topic": each.topic}
