"""Charts as inline SVG, which scales, uses the colours of its page and needs no script."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from markupsafe import Markup, escape

from streamscore.dashboard.figures import ModelFigures
from streamscore.dashboard.palette import Theme, plain_colours
from streamscore.dashboard.queries import moment
from streamscore.quality.windows import DAY, INTERVALS, MINUTE

LEFT: Final = 46
RIGHT: Final = 22
TOP: Final = 12
BOTTOM: Final = 40
"""Margins of a plot, in SVG units."""
_IMAGE_STYLE: Final = (
    "<style>text{font:11px 'Source Sans 3','Source Sans Pro',system-ui,sans-serif;fill:var(--muted)}"
    ".ss-grid{stroke:var(--line)}.ss-line{fill:none;stroke-width:2;stroke-linejoin:round}</style>"
)
"""The rules of ``style.css`` for plots, for a drawing outside the page's styles."""
RADIUS: Final = 72
THICKNESS: Final = 26


@dataclass(frozen=True)
class Line:
    """A line of a plot, with a gap at each point without a y value."""

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: str
    dashed: bool = False
    dots: bool = False
    filled: bool = False
    band: Sequence[tuple[float, float | None, float | None]] = ()
    """Band around the line: x, lower and upper y; a gap where a y is None."""
    bars: Sequence[tuple[float, float, float]] = ()
    """Vertical bars: x, lower and upper y."""


@dataclass(frozen=True)
class Axis:
    """An axis: its two ends, and its ticks with their labels."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str = ""


def donut(model: ModelFigures) -> Markup:
    """Draw a model's outcomes as a ring around its accuracy."""
    side = 2 * RADIUS + THICKNESS + 4
    parts = {"correct": model.correct, "incorrect": model.incorrect, "unlabelled": model.unlabelled}
    arcs, begin = [], 0.0
    for name, number in parts.items():
        share = 100 * number / model.events if model.events else 0.0
        arcs.append(
            f'<circle r="{RADIUS}" pathLength="100" fill="none" stroke="var(--{name})" stroke-width="{THICKNESS}" '
            f'stroke-dasharray="{share:.3f} 100" stroke-dashoffset="{-begin:.3f}" transform="rotate(-90)">'
            f"<title>{name}: {number:,}</title></circle>"
        )
        begin += share
    accuracy = "–" if model.accuracy is None else f"{model.accuracy:.1%}"
    return Markup(  # noqa: S704 (numbers and constants; the name is escaped)
        f'<svg class="ss-donut" role="img" aria-label="{escape(model.name)}: accuracy {accuracy}" '
        f'viewBox="{-side / 2} {-side / 2} {side} {side}">{"".join(arcs)}'
        f'<text class="ss-big" text-anchor="middle" y="4">{accuracy}</text>'
        '<text class="ss-tick" text-anchor="middle" y="24">accuracy</text></svg>'
    )


def plot(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    label: str,
    size: tuple[int, int] = (900, 300),
    marks: Sequence[tuple[str, float]] = (),
    stripes: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Draw lines over two axes; every text in them is escaped.

    Args:
        lines: the lines, the first one below the others.
        x: the horizontal axis.
        y: the vertical axis.
        label: description of the plot for screen readers.
        size: width and height; only their ratio matters.
        marks: vertical lines, each a text and its x value.
        stripes: the begins and ends, as x values, of stripes that hatch what does not count.
    """
    width, height = size
    right, bottom = width - RIGHT, height - (BOTTOM if x.title else BOTTOM - 16)

    def across(value: float) -> float:
        return LEFT + (value - x.low) / ((x.high - x.low) or 1) * (right - LEFT)

    def up(value: float) -> float:
        return bottom - (value - y.low) / ((y.high - y.low) or 1) * (bottom - TOP)

    parts = []
    for value, text in y.ticks:
        place = up(value)
        parts.append(f'<path class="ss-grid" d="M{LEFT} {place:.1f}H{right}"/>')
        parts.append(_text(LEFT - 7, place + 4, text, "end"))
    parts += [_text(across(value), bottom + 17, text, "middle") for value, text in x.ticks]
    parts += [_text((LEFT + right) / 2, height - 6, x.title, "middle")] if x.title else []
    for begin, end in stripes:
        first, last = max(LEFT, across(begin)), min(right, across(end))
        if first < last:
            parts.append(f'<path class="ss-stripe" d="M{first:.1f} {TOP}H{last:.1f}V{bottom}H{first:.1f}Z"/>')
    for line in lines:
        for run in _runs(line.band):
            there = "L".join(f"{across(at):.1f} {up(high):.1f}" for at, _, high in run)
            back = "L".join(f"{across(at):.1f} {up(low):.1f}" for at, low, _ in reversed(run))
            parts.append(f'<path d="M{there}L{back}Z" fill="{line.colour}" opacity=".16"/>')
        for at, low, high in line.bars:
            bar = f"M{across(at):.1f} {up(low):.1f}V{up(high):.1f}"
            parts.append(f'<path class="ss-line" d="{bar}" stroke="{line.colour}" opacity=".55"/>')
        parts += _drawn(line, [(across(at), None if value is None else up(value)) for at, value in line.points], bottom)
    for text, at in marks:
        parts.append(f'<path class="ss-mark" d="M{across(at):.1f} {TOP}V{bottom}"/>')
        parts.append(_text(across(at) + 5, TOP + 9, text, "start"))
    drawing = (
        f'<svg class="ss-plot" style="min-width:{width * 0.64:.0f}px" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )
    return Markup(f'<div class="ss-scroll">{drawing}</div>{_legend(lines)}')  # noqa: S704 (every text is escaped)


def as_images(chart: Markup, theme: Theme) -> Markup:
    """Return a chart with its drawings as images with fixed colours, for a page that removes inline SVG.

    Args:
        chart: the result of ``plot``.
        theme: the background.
    """
    html = re.sub(r"<svg([^>]*)>(.*?)</svg>", lambda found: _image(found[1], found[2], theme), chart, flags=re.DOTALL)
    return Markup(f'<div class="ss">{html}</div>')  # noqa: S704 (every text is escaped)


def linear(low: float, high: float, form: str, title: str = "", most: int = 6) -> Axis:
    """Return an axis with ticks at round numbers.

    Args:
        low: the smallest value.
        high: the largest value.
        form: format of the ticks' labels, such as ``.0%``.
        title: text beside the axis.
        most: largest number of ticks.
    """
    span = (high - low) or 1.0
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    values = [round(position * step, 10) for position in range(first, math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high, [(value, format(value, form)) for value in values], title)


def clock(low: int, high: int, zone: tzinfo, most: int = 8) -> Axis:
    """Return a time axis with ticks at round times.

    Args:
        low: the earliest time, in epoch milliseconds.
        high: the latest time, in epoch milliseconds.
        zone: the time zone of the ticks' labels.
        most: largest number of ticks.
    """
    step = next((step for step in INTERVALS if (high - low) / step <= most), INTERVALS[-1])
    days = {moment(at).astimezone(zone).date() for at in (low, high)}
    hours = "%H:%M" if len(days) == 1 else "%d %b %H:%M"
    form = "%d %b" if step >= DAY else hours if step >= MINUTE else "%H:%M:%S"
    values = range(low + -low % step, high + 1, step)
    return Axis(low, high, [(value, f"{moment(value).astimezone(zone):{form}}") for value in values])


def _drawn(line: Line, places: Sequence[tuple[float, float | None]], bottom: float) -> list[str]:
    runs: list[list[tuple[float, float]]] = [[]]
    for across, up in places:
        if up is None:
            runs.append([])
        else:
            runs[-1].append((across, up))
    parts = []
    for run in filter(None, runs):
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in run)
        if line.filled:
            area = f"M{run[0][0]:.1f} {bottom}L{path}L{run[-1][0]:.1f} {bottom}Z"
            parts.append(f'<path d="{area}" fill="{line.colour}" opacity=".18"/>')
        dash = ' stroke-dasharray="6 5"' if line.dashed else ""
        parts.append(f'<path class="ss-line" d="M{path}" stroke="{line.colour}"{dash}/>')
        if line.dots:
            parts += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{line.colour}"/>' for across, up in run]
    return parts


def _image(attributes: str, content: str, theme: Theme) -> str:
    """Return a drawing as an image, with the drawing's description for screen readers."""
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg"{attributes}>{_IMAGE_STYLE}{content}</svg>'
    colours = plain_colours(theme)
    drawing = re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], drawing)
    data = base64.b64encode(drawing.encode()).decode()
    outside = re.sub(r' (viewBox|role)="[^"]*"', "", attributes).replace("aria-label=", "alt=")
    return f'<img{outside} src="data:image/svg+xml;base64,{data}">'


def _runs(band: Sequence[tuple[float, float | None, float | None]]) -> list[list[tuple[float, float, float]]]:
    """Return the parts of a band between its gaps."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for at, low, high in band:
        if low is None or high is None:
            runs.append([])
        else:
            runs[-1].append((at, low, high))
    return [run for run in runs if run]


def _legend(lines: Sequence[Line]) -> str:
    entries = []
    for line in lines:
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        stroke = f'<path class="ss-line" d="M0 3H22" stroke="{line.colour}"{dash}/>'
        entries.append(f'<span><svg viewBox="0 0 22 6" width="22" height="6">{stroke}</svg>{escape(line.name)}</span>')
    return f'<div class="ss-legend">{"".join(entries)}</div>'


def _text(across: float, up: float, text: str, anchor: str) -> str:
    return f'<text class="ss-tick" x="{across:.1f}" y="{up:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
