"""The layout of the live page in Streamlit, which refreshes one fragment at an interval and redraws in place."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from streamscore import config as configuration
from streamscore.config import Config
from streamscore.dashboard import charts, curves, key_figures, markup, svg
from streamscore.dashboard.figures import SHOWN, ModelFigures, Snapshot, in_order
from streamscore.dashboard.palette import Colour, Theme, of_models, stylesheet
from streamscore.dashboard.reader import Reader
from streamscore.quality.evaluation import FIGURES
from streamscore.quality.windows import RANGES

CARDS_PER_ROW = 3
"""Most model cards side by side."""

# Streamlit dims elements before a redraw and shows a spinner, which would flicker every two seconds.
_STEADY = """
[data-stale="true"] { opacity: 1 !important; transition: none !important; }
[data-testid="stStatusWidget"] { display: none; }
[data-testid="stHeader"] { background: transparent; }
[data-testid="stMainBlockContainer"] { padding-top: 2rem; padding-bottom: 2rem; max-width: 1400px; }
.st-key-controls { align-items: flex-start !important; }
[class*="st-key-ring_"] { flex-wrap: wrap; }
[class*="st-key-ring_"] > :last-child { flex: 1 1 14.5rem; min-width: 14.5rem; }
[data-testid="stMarkdownContainer"] h1 { padding: 0; font-size: 1.9rem; }
"""


def show(environment: str, overrides: Sequence[str]) -> None:
    """Lay out the page.

    Args:
        environment: name or file of the configuration, as for ``--config``.
        overrides: ``key=value`` texts.
    """
    config, reader = _prepare(environment, tuple(overrides))
    st.set_page_config(page_title="streamscore", layout="wide")
    st.html(f"<style>{stylesheet()}{_STEADY}</style>")
    st.markdown(config.dashboard.title)
    refreshed = st.fragment(_live, run_every=config.dashboard.refresh_seconds)
    refreshed(config, reader)


@st.cache_resource(show_spinner=False)
def _prepare(environment: str, overrides: tuple[str, ...]) -> tuple[Config, Reader]:
    """Make the reader that all viewers share, so that many viewers query Elasticsearch no more often than one."""
    config = configuration.load(environment, overrides)
    return config, Reader(config, config.dashboard.timeout_seconds)


def _live(config: Config, reader: Reader) -> None:
    """Draw the live fragment, which Streamlit runs again at an interval."""
    zone, now = _zone(), round(time.time() * 1_000)
    place = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom", key="controls"):
        time_range = st.segmented_control(
            "Time range", list(RANGES), default=config.dashboard.time_range, required=True, key="time_range"
        )
        picker = st.container(width=380)
    max_age = round(config.dashboard.refresh_seconds * 500)
    view = reader.view(time_range or config.dashboard.time_range, now, max_age)
    place.html(markup.status(view, zone, now))
    snapshot = view.snapshot
    if snapshot is None or snapshot.period is None:
        if snapshot is not None:
            st.html(markup.next_steps(config.elasticsearch))
        return
    models = in_order(snapshot.models, [model.name for model in config.models])
    names = [model.name for model in models]
    chosen = picker.multiselect("Models", names, placeholder="all models", key="models")
    _figures(config, snapshot, [model for model in models if not chosen or model.name in chosen], names, zone)


def _figures(
    config: Config,
    snapshot: Snapshot,
    models: Sequence[ModelFigures],
    names: Sequence[str],
    zone: tzinfo,
) -> None:
    """Draw the figures of ``models``; ``names`` are all models, so that each keeps its colour."""
    if not snapshot.events:
        st.html(markup.nothing_in_range(snapshot, zone))
        return
    theme: Theme = "dark" if st.context.theme.type == "dark" else "light"
    dots, colours = markup.model_dots(names), of_models(names)
    st.html(key_figures.html(key_figures.of_page(snapshot, models, dots)))
    rows = _rows(models)
    for row in rows:
        for model, column in zip(row, st.columns(len(rows[0])), strict=False):
            with column.container(border=True, key=f"model_{model.name}"):
                _card(model, snapshot, dots[model.name], theme)
    _comparisons(config, snapshot, dots, theme, zone)
    with st.container(border=True, key="card_over_time"):
        _over_time(snapshot, {model.name: colours[model.name] for model in models}, theme)
    _curves(models, dots, theme)
    left, right = st.columns(2)
    with left.container(border=True, key="card_rejected"):
        st.html(markup.title("Rejected, by reason"))
        st.html(markup.reasons(snapshot.rejected))
    with right.container(border=True, key="card_versions"):
        st.html(markup.title("Model versions"))
        st.html(markup.versions(snapshot, [model.name for model in models], dots, zone))
    st.html(markup.origin(config.elasticsearch, snapshot))


def _over_time(snapshot: Snapshot, shown: dict[str, Colour], theme: Theme) -> None:
    """Draw the chart over time of the selected figure."""
    st.html(markup.title("Over time"))
    picked = st.segmented_control(
        "Figure",
        SHOWN,
        default=SHOWN[0],
        required=True,
        format_func=lambda key: FIGURES[key].name,
        label_visibility="collapsed",
        key="figure",
    )
    figure = picked or SHOWN[0]
    points = snapshot.lines(figure, list(shown))
    if any(point.value is not None for point in points if point.line in shown):
        marks = snapshot.marks(list(shown))
        chart = charts.over_time(
            figure, points, marks, shown, snapshot.window.interval, theme, hatched=snapshot.awaited
        )
        st.altair_chart(chart, key="over_time")
    else:
        st.html(markup.no_line(FIGURES[figure].name, snapshot.min_labelled))


def _comparisons(config: Config, snapshot: Snapshot, dots: dict[str, str], theme: Theme, zone: tzinfo) -> None:
    """Draw a card for each challenger that is compared with the champion, two to a row."""
    for first in range(0, len(snapshot.comparisons), 2):
        row = snapshot.comparisons[first : first + 2]
        for card, column in zip(row, st.columns(len(snapshot.comparisons[:2])), strict=False):
            pair = card.compared.pair
            with column.container(border=True, key=f"comparison_{pair.champion}_{pair.challenger}"):
                st.html(markup.title("Compared on the same events"))
                st.html(markup.comparison(card.compared, config.compare.margin, snapshot.min_labelled))
                chart = curves.difference_over_time(card, dots, zone)
                if chart is not None:
                    st.html(svg.as_images(chart, theme))


def _curves(models: Sequence[ModelFigures], dots: dict[str, str], theme: Theme) -> None:
    """Draw the ROC curves and the reliability diagram, if the labels allow it."""
    roc, calibration = curves.roc(models, dots), curves.calibration(models, dots)
    if roc is None:
        return
    left, right = st.columns(2)
    with left.container(border=True, key="card_roc"):
        st.html(markup.title("ROC: share of class 1 that is found"))
        st.html(svg.as_images(roc, theme))
    if calibration is None:
        return
    with right.container(border=True, key="card_calibration"):
        st.html(markup.title("Reliability: share that is of class 1"))
        st.html(svg.as_images(calibration, theme))
        left_out = curves.uncalibrated(models)
        if left_out:
            st.html(markup.uncalibrated(left_out))


def _card(model: ModelFigures, snapshot: Snapshot, dot: str, theme: Theme) -> None:
    st.html(markup.heading(model.name, snapshot.version(model.name), dot))
    with st.container(
        horizontal=True, horizontal_alignment="center", vertical_alignment="center", key=f"ring_{model.name}"
    ):
        st.container(width=200).altair_chart(charts.donut(model, theme), key=f"donut_{model.name}")
        st.container().html(markup.outcomes(model))
    st.html(markup.table(model.name, snapshot))
    st.html(markup.confusion(model))


def _rows(models: Sequence[ModelFigures]) -> list[Sequence[ModelFigures]]:
    """Distribute the models over as few rows as possible, of equal length."""
    rows = math.ceil(len(models) / CARDS_PER_ROW)
    length = math.ceil(len(models) / max(1, rows))
    return [models[start : start + length] for start in range(0, len(models), max(1, length))]


def _zone() -> tzinfo:
    """Return the viewer's time zone."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return timezone.utc
