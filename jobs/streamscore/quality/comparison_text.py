"""A comparison as text, the same everywhere: page, report, terminal, log and command line."""

from __future__ import annotations

from typing import Final

from streamscore.quality.comparison import Comparison, Pair, Result
from streamscore.quality.text import UNDEFINED

WORDS: Final[dict[Result | None, str]] = {
    "better": "better",
    "worse": "worse",
    "equal": "equal within {margin:g} points",
    None: "no verdict yet",
}


def difference(comparison: Comparison) -> str:
    """Return the difference in accuracy and its interval, in percentage points with a sign."""
    found = comparison.difference
    if found is None:
        return UNDEFINED
    text = f"{100 * found.value:+.2f}"
    return (
        text if found.low is None or found.high is None else f"{text} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    )


def verdict(comparison: Comparison, margin: float) -> str:
    """Return the verdict in words.

    Args:
        comparison: the comparison.
        margin: largest difference in accuracy that does not matter.
    """
    return WORDS[comparison.result(margin)].format(margin=100 * margin)


def progress(comparison: Comparison, margin: float) -> str:
    """Return after how many events the verdict fell, or how far it still is; empty if there is nothing to say.

    Args:
        comparison: the comparison.
        margin: largest difference in accuracy that does not matter.
    """
    if comparison.evidence.verdict_events is not None:
        return f"after {comparison.evidence.verdict_events:,} events"
    if comparison.result(margin) is not None:
        return ""
    sums = comparison.sums
    if not sums.events:
        return "no event with a label that both scored"
    if len(sums.labels) == 1:
        return "all labels are of one class"
    needed = comparison.events_needed
    if needed is None:
        return "a difference this small takes very many events"
    return f"a difference of this size usually takes some {_rounded(needed):,} events"


def versions(pair: Pair) -> str:
    """Return both versions of a pair."""
    return f"{pair.challenger} {pair.challenger_version} against {pair.champion} {pair.champion_version}"


def line(pair: Pair, comparison: Comparison, margin: float) -> str:
    """Return a comparison in one line.

    Args:
        pair: the versions.
        comparison: the comparison.
        margin: largest difference in accuracy that does not matter.
    """
    how = progress(comparison, margin)
    result = f"{verdict(comparison, margin)} ({how})" if how else verdict(comparison, margin)
    return f"{versions(pair)}: accuracy {difference(comparison)} points on {comparison.sums.events:,} events, {result}"


def _rounded(events: int) -> int:
    """Return a number with two significant digits: the rest would be noise."""
    unit = int(10 ** max(0, len(str(events)) - 2))
    return round(events / unit) * unit
