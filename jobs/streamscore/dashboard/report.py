"""A page about a run in one file: charts inline, no script, no network; it can be mailed and opens from disk."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timezone
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markupsafe import Markup

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
from streamscore.schema import ScoreKind
from streamscore.system.files import write_atomically

TIMEOUT: Final = 120.0
"""Seconds that Elasticsearch may take for one request."""

_ZONE: Final = timezone.utc  # a file travels; the times in it must mean the same everywhere
_KINDS: Final[Mapping[ScoreKind | None, str]] = {
    "probability": "probabilities",
    "margin": "margins",
    "class_probability": "probabilities",
    None: "no batch reports whether its scores are probabilities",
}
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

    Args:
        settings: the server and the indices.
        time_range: how far back it goes.
        now: this moment, in epoch milliseconds.

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
        searches = [scores.edges(settings, snapshot.window), scores.kinds(settings)]
        (edges_answer, kinds_answer), _ = elasticsearch.search(client, settings, searches)
        # With more classes a score is that of whichever was predicted: it puts the events in no order.
        binary = {model.name for model in snapshot.models if set(model.classes) <= {0.0, 1.0}}
        models = [model for model in scores.read_edges(edges_answer) if model.model in binary]
        searches = [scores.bins(settings, snapshot.window, model) for model in models]
        answers = elasticsearch.search(client, settings, searches)[0] if searches else []
    kinds = score_kinds(snapshot, scores.read_kinds(kinds_answer))
    drawn = [
        scores.curves(model.model, kinds[model.model], scores.read_bins(answer))
        for model, answer in zip(models, answers, strict=True)
    ]
    return snapshot, [curves for curves in drawn if curves is not None]


def score_kinds(
    snapshot: Snapshot, reported: Mapping[tuple[str, str], ScoreKind | None]
) -> dict[str, ScoreKind | None]:
    """Return what the scores of each model are: of all versions that scored; None if one is unknown or they differ.

    Args:
        snapshot: the figures.
        reported: what the scores of each model and version are, as the jobs reported it.
    """
    kinds: defaultdict[str, set[ScoreKind | None]] = defaultdict(set)
    for bucket in snapshot.buckets:
        for tally in bucket.tallies:
            kinds[tally.model].add(reported.get((tally.model, tally.version)))
    return {model: next(iter(of_model)) if len(of_model) == 1 else None for model, of_model in kinds.items()}


def compose(config: Config, snapshot: Snapshot, curves: Sequence[Curves]) -> str:
    """Return the report as HTML.

    Args:
        config: the configuration.
        snapshot: the figures.
        curves: the curves of the models whose scores allow it.
    """
    models = in_order(snapshot.models, [model.name for model in config.models])
    dots = markup.model_dots([model.name for model in models])
    first, last = snapshot.window.start, snapshot.read_at
    if snapshot.period is not None:
        first, last = max(first, snapshot.period.first), snapshot.period.last
    ordered = sorted(curves, key=lambda model: list(dots).index(model.model))
    html = markup.render(
        "report.html",
        read_at=_utc(snapshot.read_at),
        stylesheet=Markup(stylesheet()),  # noqa: S704 (ours)
        title=Markup(MarkdownIt("commonmark", {"html": False}).render(config.dashboard.title)),  # noqa: S704 (it escapes HTML)
        synthetic=snapshot.stream.synthetic,
        first=_utc(first),
        last=_utc(last),
        kpis=_kpis(snapshot, models, dots),
        models=[_model(model, snapshot, dots[model.name]) for model in models],
        accuracy=_accuracy(config, snapshot, models, dots),
        roc=_roc(ordered, dots),
        calibration=_calibration([model for model in ordered if model.calibration], dots),
        uncalibrated=[f"{model.model} ({_KINDS[model.kind]})" for model in ordered if not model.calibration],
        throughput=_throughput(snapshot),
        reasons=markup.reasons(snapshot.rejected),
        versions=markup.versions(snapshot, list(dots), dots, _ZONE),
        version=__version__,
        index=config.elasticsearch.index,
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
    rate = markup.KeyFigure(
        "rate", "events per second", text, mean, "from the first batch to the last, pauses included"
    )
    accuracies = markup.kpi_accuracies(models, dots)
    return markup.kpis([markup.kpi_events(snapshot), rate, markup.kpi_rejected(snapshot), *accuracies])


def _model(model: ModelFigures, snapshot: Snapshot, dot: str) -> dict[str, Markup]:
    return {
        "heading": markup.heading(model.name, snapshot.version(model.name), dot),
        "donut": svg.donut(model),
        "outcomes": markup.outcomes(model),
        "confusion": markup.confusion(model),
    }


def _accuracy(config: Config, snapshot: Snapshot, models: Sequence[ModelFigures], dots: dict[str, str]) -> Markup:
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


def _roc(curves: Sequence[Curves], dots: dict[str, str]) -> Markup | None:
    if not curves:
        return None
    diagonal = svg.Line("guessing", [(0.0, 0.0), (1.0, 1.0)], "var(--baseline)", dashed=True)
    lines = [svg.Line(f"{model.model}: area {model.auc:.3f}", model.roc, dots[model.model]) for model in curves]
    false = svg.linear(0.0, 1.0, ".0%", "share of the events of other classes that are taken for class 1")
    return svg.plot([diagonal, *lines], false, svg.linear(0.0, 1.0, ".0%"), label="ROC curves", size=_SQUARE)


def _calibration(curves: Sequence[Curves], dots: dict[str, str]) -> Markup | None:
    if not curves:
        return None
    ideal = svg.Line("ideal", [(0.0, 0.0), (1.0, 1.0)], "var(--baseline)", dashed=True)
    lines = [
        svg.Line(
            model.model,
            [(point.score, point.share) for point in model.calibration],
            dots[model.model],
            dots=True,
        )
        for model in curves
    ]
    score = svg.linear(0.0, 1.0, ".0%", "mean probability that the model gives")
    return svg.plot([ideal, *lines], score, svg.linear(0.0, 1.0, ".0%"), label="calibration", size=_SQUARE)


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
    """Write the file, whole or not at all, and return its size."""
    content = text.encode()
    try:
        write_atomically(out, content)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from None
    return len(content)
