"""The live charts, drawn by Altair.

Streamlit redraws a chart in place as long as only its data change. So no other part of a chart may depend on the data:
Vega chooses the ends of the axes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import altair as alt
import pyarrow as pa

from streamscore.dashboard.figures import REFERENCES, ModelFigures, Point, stripes
from streamscore.dashboard.palette import BASELINE as BASELINE_COLOUR
from streamscore.dashboard.palette import OUTCOMES, Colour, Theme
from streamscore.quality.evaluation import FIGURES
from streamscore.quality.figures import ACCURACY

_INK: dict[Theme, str] = {"light": "#1c2430", "dark": "#eef1f5"}
_CLOCK = {
    "seconds": "%H:%M:%S",
    "minutes": "%H:%M",
    "hours": "%H:%M",
    "date": "%d %b",
    "week": "%d %b",
    "month": "%b %Y",
}
_MOMENT = "%d %b %H:%M:%S"
_TIME = pa.timestamp("ms", tz="UTC")


def donut(model: ModelFigures, theme: Theme) -> alt.LayerChart:
    """Draw a model's outcomes as a ring around its accuracy."""
    parts = {"correct": model.correct, "incorrect": model.incorrect, "unlabelled": model.unlabelled}
    data = pa.table(
        {
            "outcome": list(parts),
            "events": list(parts.values()),
            "place": list(range(len(parts))),
            "share": [number / model.events if model.events else 0.0 for number in parts.values()],
        }
    )
    ring = (
        alt.Chart(data)
        .mark_arc(innerRadius=60, outerRadius=86, cornerRadius=3, padAngle=0.015)
        .encode(
            theta=alt.Theta("events:Q", stack=True),
            order=alt.Order("place:Q"),
            color=alt.Color(
                "outcome:N",
                scale=alt.Scale(domain=list(OUTCOMES), range=[_of(colour, theme) for colour in OUTCOMES.values()]),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("outcome:N"),
                alt.Tooltip("events:Q", format=","),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )
    )
    accuracy = "–" if model.accuracy is None else f"{model.accuracy:.1%}"
    label = alt.Chart(pa.table({"accuracy": [accuracy], "name": [ACCURACY]}))
    ink = _INK[theme]
    number = label.mark_text(size=26, fontWeight=600, dy=-6, color=ink).encode(text="accuracy:N")
    name = label.mark_text(size=12, dy=17, color=ink, opacity=0.7).encode(text="name:N")
    chart: alt.LayerChart = alt.layer(ring, number, name).properties(
        height=190, padding={"top": 6, "bottom": 6, "left": 0, "right": 0}
    )
    return chart


def over_time(
    figure: str,
    points: Sequence[Point],
    marks: Sequence[tuple[int, str]],
    colours: Mapping[str, Colour],
    interval: int,
    theme: Theme,
    *,
    hatched: Collection[int] = (),
) -> alt.LayerChart:
    """Draw a figure of each model over time, with a band for its interval and marks for changes of version.

    The figure's reference, for the accuracy the baseline, is a dashed line.

    Args:
        figure: name of the figure, one of ``figures.SHOWN``.
        points: the points of all lines.
        marks: vertical lines, each a time in epoch milliseconds and a text.
        colours: the models to draw, in order, and their colours.
        interval: length of a point's bucket in milliseconds.
        theme: the background.
        hatched: starts of the buckets that are in no figure yet.
    """
    reference = REFERENCES.get(figure)
    names = [*colours, *([reference] if reference else [])]
    shades = [_of(colour, theme) for colour in (*colours.values(), BASELINE_COLOUR)][: len(names)]
    form = ".2%" if FIGURES[figure].is_share else ".4f"
    legend = alt.Legend(
        orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2, symbolSize=250, symbolOpacity=1, offset=4
    )
    axis = alt.Axis(format=".1~%" if FIGURES[figure].is_share else ".4~f", tickCount=6)
    lines = alt.Chart(_point_table(points, interval)).encode(
        x=alt.X("from:T", title=None, axis=alt.Axis(grid=False, labelOverlap=True, tickCount=8, format=_CLOCK)),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, nice=True), axis=axis),
        color=alt.Color(
            "line:N",
            scale=alt.Scale(domain=names, range=shades),
            legend=legend,
        ),
    )
    dashes = alt.StrokeDash(
        "line:N",
        scale=alt.Scale(domain=names, range=[*([1, 0] for _ in colours), [5, 4]][: len(names)]),
        legend=legend,  # the same legend, so that Vega merges the two
    )
    drawn = lines.mark_line(strokeWidth=2, clip=True).encode(strokeDash=dashes)
    # A line does not show a point with gaps on both sides.
    dots = lines.mark_point(filled=True, size=18, opacity=1, clip=True).transform_filter(
        alt.datum.line != (reference or ""),
    )
    band = lines.mark_area(opacity=0.16, clip=True).encode(y="low:Q", y2="high:Q")
    # Larger, invisible points are easier to hit.
    hover = lines.mark_point(size=180, opacity=0).encode(
        tooltip=[
            alt.Tooltip("line:N"),
            alt.Tooltip("value:Q", title=FIGURES[figure].name, format=form),
            alt.Tooltip("low:Q", title="95 % from", format=form),
            alt.Tooltip("high:Q", title="to", format=form),
            alt.Tooltip("labelled:Q", title="events with a label", format=","),
            alt.Tooltip("from:T", format=_MOMENT),
            alt.Tooltip("to:T", format=_MOMENT),
        ]
    )
    layers = [drawn, dots, hover]
    if marks:  # Vega warns of a layer without data
        layers[2:2] = _drawn(marks, theme)
    if any(point.low is not None for point in points):
        layers.insert(0, band)
    if hatched:
        layers.insert(0, _hatching(stripes(hatched, interval), theme))
    chart: alt.LayerChart = alt.layer(*layers).properties(height=300)
    return chart


def _hatching(shown: Sequence[tuple[float, float]], theme: Theme) -> alt.Chart:
    """Draw stripes over the whole height where no figure counts yet."""
    table = pa.table(
        {
            "at": pa.array([round(begin) for begin, _ in shown], _TIME),
            "end": pa.array([round(end) for _, end in shown], _TIME),
        }
    )
    chart: alt.Chart = (
        alt.Chart(table).mark_rect(color=_INK[theme], opacity=0.12, clip=True).encode(x="at:T", x2="end:T")
    )
    return chart


def _drawn(marks: Sequence[tuple[int, str]], theme: Theme) -> list[alt.Chart]:
    """Draw a line and a text at each change of version."""
    chart = alt.Chart(_mark_table(marks)).encode(
        x="at:T", tooltip=[alt.Tooltip("change:N", title="new version"), alt.Tooltip("at:T", format=_MOMENT)]
    )
    rule = chart.mark_rule(strokeWidth=1.5, strokeDash=[2, 3], color=_INK[theme], opacity=0.6)
    text = chart.mark_text(align="left", dx=5, dy=9, y=0, color=_INK[theme], opacity=0.8).encode(text="change:N")
    return [rule, text]


def _point_table(points: Sequence[Point], interval: int) -> Any:
    return pa.table(
        {
            "from": pa.array([point.at for point in points], _TIME),
            "to": pa.array([point.at + interval for point in points], _TIME),
            "line": pa.array([point.line for point in points], pa.string()),
            "value": pa.array([point.value for point in points], pa.float64()),
            "low": pa.array([point.low for point in points], pa.float64()),
            "high": pa.array([point.high for point in points], pa.float64()),
            "labelled": pa.array([point.labelled for point in points], pa.int64()),
        }
    )


def _mark_table(marks: Sequence[tuple[int, str]]) -> Any:
    return pa.table(
        {
            "at": pa.array([at for at, _ in marks], _TIME),
            "change": pa.array([text for _, text in marks], pa.string()),
        }
    )


def _of(colour: Colour, theme: Theme) -> str:
    return colour.light if theme == "light" else colour.dark
