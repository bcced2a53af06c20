"""The report of a run as a single HTML file, with inline charts, no script and no network access."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import timezone
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markupsafe import Markup

from streamscore import __version__
from streamscore.config import Config, TimeRange
from streamscore.dashboard import curves, key_figures, markup, svg
from streamscore.dashboard.comparisons import Card
from streamscore.dashboard.figures import REFERENCES, SHOWN, ModelFigures, Snapshot, in_order, span, stripes
from streamscore.dashboard.palette import stylesheet
from streamscore.dashboard.queries import moment
from streamscore.dashboard.reader import Reader
from streamscore.errors import ConfigError, InputError
from streamscore.quality.evaluation import FIGURES
from streamscore.quality.figures import BASELINE
from streamscore.system.files import write_atomically

TIMEOUT: Final = 120.0
"""Seconds that Elasticsearch may take for one request."""

_ZONE: Final = timezone.utc  # a report is passed on, and its times must mean the same everywhere
_LOW: Final = (440, 260)


def write(config: Config, time_range: TimeRange, out: Path) -> int:
    """Write the report; after an error an existing file is unchanged.

    Args:
        config: the configuration.
        time_range: the time range of the report, up to now.
        out: the file to write.

    Returns:
        The file's size in bytes.

    Raises:
        InputError: there is no event to report.
        ServerError: Elasticsearch cannot be reached, or refuses.
        ConfigError: the file cannot be written.
    """
    return _put(out, compose(config, read(config, time_range, round(time.time() * 1_000))))


def read(config: Config, time_range: TimeRange, now: int) -> Snapshot:
    """Read the figures.

    Args:
        config: names the server and the indices.
        time_range: the time range, which ends now.
        now: the current time, in epoch milliseconds.

    Raises:
        InputError: there is no event in the time range.
        ServerError: Elasticsearch cannot be reached, or refuses.
    """
    with contextlib.closing(Reader(config, TIMEOUT)) as reader:
        snapshot = reader.read(time_range, now)
    if not snapshot.events:
        settings, period = config.elasticsearch, "" if time_range == "all" else f" of the last {time_range}"
        raise InputError(
            f"there is nothing to report: the index {settings.quality_index!r} at {settings.url} holds no event"
            f"{period}. `streamscore score` writes them; --range all goes back to the first one"
        )
    return snapshot


def compose(config: Config, snapshot: Snapshot) -> str:
    """Return the report as HTML.

    Args:
        config: the configuration.
        snapshot: the figures.
    """
    models = in_order(snapshot.models, [model.name for model in config.models])
    dots = markup.model_dots([model.name for model in models])
    first, last = snapshot.window.start, snapshot.read_at
    if snapshot.period is not None:
        first, last = max(first, snapshot.period.first), snapshot.until or last
    drawn = curves.calibration(models, dots)
    html = markup.render(
        "report.html",
        read_at=_utc(snapshot.read_at),
        stylesheet=Markup(stylesheet()),  # noqa: S704 (ours)
        title=Markup(MarkdownIt("commonmark", {"html": False}).render(config.dashboard.title)),  # noqa: S704 (it escapes HTML)
        synthetic=snapshot.stream.synthetic,
        awaited=markup.awaited(snapshot),
        first=_utc(first),
        last=_utc(last),
        kpis=_kpis(snapshot, models, dots),
        models=[_model(model, snapshot, dots[model.name]) for model in models],
        charts=[(FIGURES[figure].name, _over_time(figure, snapshot, dots)) for figure in SHOWN],
        comparisons=[_comparison(config, snapshot, card, dots) for card in snapshot.comparisons],
        roc=curves.roc(models, dots),
        calibration=drawn,
        uncalibrated=curves.uncalibrated(models) if drawn else [],
        throughput=_throughput(snapshot),
        reasons=markup.reasons(snapshot.rejected),
        versions=markup.versions(snapshot, list(dots), dots, _ZONE),
        version=__version__,
        index=config.elasticsearch.quality_index,
        url=config.elasticsearch.url,
        baseline=BASELINE,
    )
    return f"{html.strip()}\n"


def _kpis(snapshot: Snapshot, models: Sequence[ModelFigures], dots: dict[str, str]) -> Markup:
    mean = None
    if snapshot.versions and snapshot.stream.latest is not None:
        first = min(version.first for version in snapshot.versions)
        end = max(version.last for version in snapshot.versions) + snapshot.stream.latest.milliseconds
        mean = sum(bucket.events for bucket in snapshot.throughput) * 1_000 / max(1_000, end - first)
    text = "–" if mean is None else markup.rate(mean)
    rate = key_figures.KeyFigure(
        "rate", "events per second", text, mean, "from the first batch to the last, pauses included"
    )
    always = [key_figures.of_events(snapshot), rate, key_figures.of_rejected(snapshot)]
    return key_figures.html([*always, *key_figures.of_labels(snapshot), *key_figures.of_models(models, dots)])


def _model(model: ModelFigures, snapshot: Snapshot, dot: str) -> dict[str, Markup]:
    return {
        "heading": markup.heading(model.name, snapshot.version(model.name), dot),
        "donut": svg.donut(model),
        "outcomes": markup.outcomes(model),
        "figures": markup.table(model.name, snapshot),
        "confusion": markup.confusion(model),
    }


def _comparison(config: Config, snapshot: Snapshot, card: Card, dots: dict[str, str]) -> tuple[Markup, Markup | None]:
    """Return a comparison's table, and the chart of its difference over time, if there is one."""
    table = markup.comparison(card.compared, config.compare.margin, snapshot.min_labelled)
    return table, curves.difference_over_time(card, dots, _ZONE)


def _over_time(figure: str, snapshot: Snapshot, dots: dict[str, str]) -> Markup:
    """Draw a figure of each model over time, with a band for its interval."""
    points = snapshot.lines(figure, list(dots))
    if all(point.value is None for point in points if point.line in dots):
        return markup.no_line(FIGURES[figure].name, snapshot.min_labelled)
    names = [REFERENCES[figure], *dots] if figure in REFERENCES else list(dots)
    lines = []
    for name in names:
        own = [point for point in points if point.line == name]
        lines.append(
            svg.Line(
                name,
                [(point.at, point.value) for point in own],
                dots.get(name, "var(--baseline)"),
                dashed=name not in dots,
                dots=name in dots,
                band=[(point.at, point.low, point.high) for point in own],
            )
        )
    marks = [(text, float(at)) for at, text in snapshot.marks(list(dots))]
    low, high = span(points)
    form = ".1%" if FIGURES[figure].is_share else ".4g"
    time_axis = svg.clock(points[0].at, max(points[-1].at, points[0].at + snapshot.window.interval), _ZONE)
    label = f"{FIGURES[figure].name} of each model over time"
    hatched = stripes(snapshot.awaited, snapshot.window.interval)
    return svg.plot(lines, time_axis, svg.linear(low, high, form), label=label, marks=marks, stripes=hatched)


def _throughput(snapshot: Snapshot) -> Markup:
    if not snapshot.throughput:
        return markup.note("No batch was reported.")
    points = snapshot.events_per_second()
    first, last = points[0][0], points[-1][0]
    line = svg.Line("events per second, scored or rejected", points, "var(--model-0)", filled=True)
    height = svg.linear(0.0, max(rate for _, rate in points) * 1.1 or 1.0, ",.10g")
    time_axis = svg.clock(first, max(last, first + snapshot.batch_window.interval), _ZONE, 5)
    return svg.plot([line], time_axis, height, label="events per second over time", size=_LOW)


def _utc(at: int) -> str:
    return f"{moment(at):%Y-%m-%d %H:%M:%S}"


def _put(out: Path, text: str) -> int:
    """Write the file atomically, and return its size in bytes."""
    content = text.encode()
    try:
        write_atomically(out, content)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from None
    return len(content)
