"""A page about a run in one file: charts inline, no script, no network; it can be mailed and opens from disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import timezone
from html import escape
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

from streamscore import __version__
from streamscore.clients import elasticsearch
from streamscore.config import Config, Elasticsearch, TimeRange
from streamscore.dashboard import markup, scores, svg
from streamscore.dashboard.figures import ModelFigures, Snapshot, accuracy_span, in_order
from streamscore.dashboard.palette import stylesheet
from streamscore.dashboard.queries import moment
from streamscore.dashboard.reader import Reader
from streamscore.dashboard.scores import Curves
from streamscore.errors import ConfigError, InputError
from streamscore.quality.figures import BASELINE
from streamscore.system.files import write_atomically

TIMEOUT: Final = 120.0
"""Seconds that Elasticsearch may take for one request."""

_ZONE: Final = timezone.utc  # a file travels; the times in it must mean the same everywhere
_SQUARE: Final = (440, 380)
_LOW: Final = (440, 260)


def write(config: Config, time_range: TimeRange, out: Path) -> int:
    """Write the report, or leave the file as it was.

    Args:
        config: the configuration.
        time_range: how far back it goes.
        out: the file to write.

    Returns:
        Its size in bytes.

    Raises:
        InputError: there is no event to report.
        ServerError: Elasticsearch cannot be reached, or refuses.
        ConfigError: the file cannot be written.
    """
    snapshot, curves = read(config.elasticsearch, time_range, round(time.time() * 1_000))
    return _put(out, compose(config, snapshot, curves))


def read(settings: Elasticsearch, time_range: TimeRange, now: int) -> tuple[Snapshot, list[Curves]]:
    """Read the figures and, of the models whose scores allow it, the curves.

    Raises:
        InputError: there is no event in the time range.
        ServerError: Elasticsearch cannot be reached, or refuses.
    """
    with contextlib.closing(Reader(settings, TIMEOUT, budget=None)) as reader:
        snapshot = reader.read(time_range, now)
    if not snapshot.events:
        period = "" if time_range == "all" else f" of the last {time_range}"
        raise InputError(
            f"there is nothing to report: the index {settings.index!r} at {settings.url} holds no event{period}. "
            "`streamscore score` writes them; --range all goes back to the first one"
        )
    with elasticsearch.client(settings, TIMEOUT) as client:
        (answer,), _ = elasticsearch.search(client, settings, [scores.spans(settings, snapshot.window)])
        # With more classes a score is that of whichever was predicted: it puts the events in no order.
        binary = {model.name for model in snapshot.models if set(model.classes) <= {0.0, 1.0}}
        spans = [span for span in scores.read_spans(answer) if span.model in binary]
        searches = [scores.bins(settings, snapshot.window, span) for span in spans]
        answers = elasticsearch.search(client, settings, searches)[0] if searches else []
    found = [scores.curves(span, scores.read_bins(answer)) for span, answer in zip(spans, answers, strict=True)]
    return snapshot, [curves for curves in found if curves is not None]


def compose(config: Config, snapshot: Snapshot, curves: Sequence[Curves]) -> str:
    """Return the report as HTML."""
    models = in_order(snapshot.models, [model.name for model in config.models])
    dots = markup.model_dots([model.name for model in models])
    parts = [
        _header(config, snapshot),
        _kpis(snapshot, models, dots),
        f'<div class="ss-models">{"".join(_model(model, snapshot, dots[model.name]) for model in models)}</div>',
        _card("Accuracy over time", _accuracy(config, snapshot, models, dots)),
        _curves(sorted(curves, key=lambda found: list(dots).index(found.model)), dots),
        '<div class="ss-two">',
        _card("Events per second", _throughput(snapshot)),
        '<div class="ss-stack">',
        _card("Rejected, by reason", markup.reasons(snapshot.rejected)),
        _card("Model versions", markup.versions(snapshot, list(dots), dots, _ZONE)),
        "</div></div>",
        _footer(config.elasticsearch),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>streamscore: {_utc(snapshot.read_at)}</title><style>{stylesheet()}</style></head>"
        f'<body class="ss ss-report"><main>{"".join(parts)}</main></body></html>\n'
    )


def _header(config: Config, snapshot: Snapshot) -> str:
    title = MarkdownIt("commonmark", {"html": False}).render(config.dashboard.title)
    first, last = snapshot.window.start, snapshot.read_at
    if snapshot.extent is not None:
        first, last = max(first, snapshot.extent.first), snapshot.extent.last
    badge = markup.synthetic_badge() if snapshot.stream.synthetic else ""
    return (
        f'<header>{title}<div class="ss-status">{badge}<span class="ss-muted" data-testid="period">Events from '
        f"{_utc(first)} to {_utc(last)}. Read at {_utc(snapshot.read_at)}.</span></div></header>"
    )


def _kpis(snapshot: Snapshot, models: Sequence[ModelFigures], dots: dict[str, str]) -> str:
    mean = None
    if snapshot.versions and snapshot.stream.latest is not None:
        first = min(version.first for version in snapshot.versions)
        end = max(version.last for version in snapshot.versions) + snapshot.stream.latest.milliseconds
        mean = sum(bucket.events for bucket in snapshot.throughput) * 1_000 / max(1_000, end - first)
    text = "–" if mean is None else markup.rate(mean)
    rate = markup.kpi("rate", "events per second", text, mean, "from the first batch to the last, pauses included")
    rejected, accuracies = markup.kpi_rejected(snapshot), markup.kpi_accuracies(models, dots)
    return markup.kpi_row([markup.kpi_events(snapshot), rate, rejected, *accuracies])


def _model(model: ModelFigures, snapshot: Snapshot, dot: str) -> str:
    return (
        f'<section class="ss-card">{markup.heading(model.name, snapshot.version(model.name), dot)}'
        f'<div class="ss-ring">{svg.donut(model)}{markup.outcomes(model)}</div>{markup.confusion(model)}</section>'
    )


def _accuracy(config: Config, snapshot: Snapshot, models: Sequence[ModelFigures], dots: dict[str, str]) -> str:
    points = snapshot.lines(config.dashboard.min_labelled, [model.name for model in models])
    if all(point.accuracy is None for point in points):
        return markup.no_line(config.dashboard.min_labelled)
    lines = [
        svg.Line(
            name,
            [(point.at, point.accuracy) for point in points if point.line == name],
            dots.get(name, "var(--baseline)"),
            dashed=name == BASELINE,
            dots=name != BASELINE,
        )
        for name in (BASELINE, *dots)
    ]
    marks = [(text, float(at)) for at, text in snapshot.marks(list(dots))]
    low, high = accuracy_span(points)
    time_axis = svg.clock(points[0].at, max(points[-1].at, points[0].at + snapshot.window.interval), _ZONE)
    return svg.plot(
        lines, time_axis, svg.linear(low, high, ".0%"), label="accuracy of each model over time", marks=marks
    )


def _curves(curves: Sequence[Curves], dots: dict[str, str]) -> str:
    if not curves:
        return ""
    diagonal = svg.Line("guessing", [(0.0, 0.0), (1.0, 1.0)], "var(--baseline)", dashed=True)
    lines = [svg.Line(f"{found.model}: area {found.auc:.3f}", found.roc, dots[found.model]) for found in curves]
    false = svg.linear(0.0, 1.0, ".0%", "share of the events of other classes that are taken for class 1")
    roc = svg.plot([diagonal, *lines], false, svg.linear(0.0, 1.0, ".0%"), label="ROC curves", size=_SQUARE)
    cards = [_card("ROC: share of class 1 that is found", roc)]
    calibrated = [found for found in curves if found.calibration]
    if calibrated:
        ideal = svg.Line("ideal", [(0.0, 0.0), (1.0, 1.0)], "var(--baseline)", dashed=True)
        lines = [
            svg.Line(
                found.model,
                [(group.score, group.share) for group in found.calibration],
                dots[found.model],
                dots=True,
            )
            for found in calibrated
        ]
        score = svg.linear(0.0, 1.0, ".0%", "mean probability that the model gives")
        plot = svg.plot([ideal, *lines], score, svg.linear(0.0, 1.0, ".0%"), label="calibration", size=_SQUARE)
        cards.append(_card("Calibration: share that is of class 1", plot))
    return f'<div class="ss-two">{"".join(cards)}</div>'


def _throughput(snapshot: Snapshot) -> str:
    if not snapshot.throughput:
        return '<p class="ss-muted">No batch was reported.</p>'
    points = snapshot.events_per_second()
    first, last = points[0][0], points[-1][0]
    line = svg.Line("events per second, scored or rejected", points, "var(--model-0)", filled=True)
    height = svg.linear(0.0, max(rate for _, rate in points) * 1.1 or 1.0, ",.10g")
    time_axis = svg.clock(first, max(last, first + snapshot.batch_window.interval), _ZONE, 5)
    return svg.plot([line], time_axis, height, label="events per second over time", size=_LOW)


def _footer(settings: Elasticsearch) -> str:
    return (
        f'<footer class="ss-muted ss-small">Written by streamscore {__version__} from the index '
        f"{escape(settings.index)} at {escape(settings.url)}. All times are UTC. The {BASELINE} is the "
        "accuracy of always predicting the most frequent label.</footer>"
    )


def _card(title: str, content: str) -> str:
    return f'<section class="ss-card"><div class="ss-heading">{escape(title)}</div>{content}</section>'


def _utc(at: int) -> str:
    return f"{moment(at):%Y-%m-%d %H:%M:%S}"


def _put(out: Path, text: str) -> int:
    """Write the file, whole or not at all, and return its size."""
    content = text.encode()
    try:
        write_atomically(out, content)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from None
    return len(content)
