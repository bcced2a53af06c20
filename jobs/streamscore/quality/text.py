"""Figures as text, the same everywhere: page, report, terminal, log, command line and notebooks."""

from __future__ import annotations

from typing import Final, Literal

from streamscore.quality.estimates import BinnedEstimate, BoundedValue, Estimate
from streamscore.quality.evaluation import FIGURES, Evaluation

UNDEFINED: Final = "–"
"""Shown where a figure is undefined."""

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
"""Units of time and their lengths in milliseconds."""

Verdict = Literal["better", "worse", "off"]
"""What may be coloured: a figure that is better or worse than that of a model that knows nothing, or a calibration
ratio that is off 1."""


def value(evaluation: Evaluation, name: str) -> str:
    """Return a figure alone, with two decimals of a percentage or four of another number."""
    figure = evaluation.figures[name]
    if figure is None:
        return UNDEFINED
    return f"{figure.value:.2%}" if FIGURES[name].is_share else f"{figure.value:.4f}"


def described(evaluation: Evaluation, name: str) -> str:
    """Return a figure with its bound, its interval, and a word if the interval is too wide for a verdict."""
    figure, parts = evaluation.figures[name], [value(evaluation, name)]
    if isinstance(figure, BinnedEstimate):
        parts.append(f"± {figure.bound:.4f}")
    if isinstance(figure, BoundedValue):
        parts.append(f"({figure.lower:.4f} to {figure.upper:.4f})")
    ends = interval(evaluation, name)
    if ends is not None:
        parts.append(f"[{ends[0]}, {ends[1]}]")
    if evaluation.is_uncertain(name):
        parts.append("wide")
    return " ".join(parts)


def interval(evaluation: Evaluation, name: str) -> tuple[str, str] | None:
    """Return the ends of a figure's interval, in its unit, which is not repeated; None if it has no interval."""
    figure = evaluation.figures[name]
    if not isinstance(figure, Estimate) or figure.low is None or figure.high is None:
        return None
    return _end(name, figure.low), _end(name, figure.high)


def verdict(evaluation: Evaluation, name: str) -> Verdict | None:
    """Return what the whole interval of a figure allows to say; None if it allows nothing, or is too wide."""
    side = evaluation.compare(name)
    if side == "unclear" or evaluation.is_uncertain(name):
        return None
    if name == "calibration_ratio":
        return "off"
    return "better" if side == "above" else "worse"


def duration(milliseconds: float | None) -> str:
    """Return a time in its largest unit of which it has one at least."""
    if milliseconds is None:
        return UNDEFINED
    size, unit = next((each for each in _UNITS if abs(milliseconds) >= each[0]), (1, "ms"))
    return f"{milliseconds / size:,.1f} {unit}"


def _end(name: str, number: float) -> str:
    """Return an end of an interval, in the unit of the figure, which is not repeated."""
    return f"{100 * number:.2f}" if FIGURES[name].is_share else f"{number:.4f}"
