"""The texts and tables of the page and of the report, as HTML.

The templates escape all values, so no caller escapes: arguments are plain texts, and the functions return HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from streamscore.clients.comparison_reader import Compared
from streamscore.config import Elasticsearch
from streamscore.dashboard.figures import SHOWN, ModelFigures, Snapshot
from streamscore.dashboard.palette import MODELS
from streamscore.dashboard.queries import moment
from streamscore.dashboard.reader import View
from streamscore.quality import comparison_text, figures, text
from streamscore.quality import confusion as counts
from streamscore.quality.estimates import BinnedEstimate
from streamscore.quality.evaluation import FIGURES, Evaluation

VERSIONS: Final = 3
"""Most versions of a model whose figures are shown, the latest first."""

_VERDICTS: Final = {
    "accuracy": {"above": "above the baseline", "below": "below the baseline"},
    "rig": {"above": "better than the rate alone", "below": "worse than the rate alone"},
    "auc": {"above": "better than chance", "below": "worse than chance"},
    "calibration_ratio": {"above": "predicts too many", "below": "predicts too few"},
}
"""Texts for a figure whose whole interval lies on one side of its reference."""


def count(number: float) -> str:
    """Return a number with thousands separators."""
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """Return a number of events per second, with two significant digits below 10: 0.2 is not shown as 0."""
    return count(per_second) if per_second >= 10 else f"{per_second:.2g}"  # noqa: PLR2004 (two digits)


def percent(share: float | None) -> str:
    """Return a share as a percentage, or a dash."""
    return "–" if share is None else f"{share:.2%}"


def clock(at: int, zone: tzinfo, now: int) -> str:
    """Return a time of day, with the date unless it is today.

    Args:
        at: the time, in epoch milliseconds.
        zone: the time zone to show it in.
        now: the current time, in epoch milliseconds.
    """
    local, today = moment(at).astimezone(zone), moment(now).astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local.day} {local:%b %Y %H:%M:%S}"


def ago(milliseconds: int) -> str:
    """Return an age in words."""
    seconds = max(0, milliseconds) // 1_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def render(template: str, **values: Any) -> Markup:
    """Return a template filled with values, which are escaped unless they are HTML already."""
    return Markup(_templates.get_template(template).render(**values))  # noqa: S704 (the template has escaped the values)


def part(macro: str, *values: Any) -> Markup:
    """Return the output of a macro of ``parts.html``, which escapes the values unless they are HTML already."""
    filled: Markup = getattr(_templates.get_template("parts.html").module, macro)(*values)
    return filled


def status(view: View, zone: tzinfo, now: int) -> Markup:
    """Return the status line: whether the figures are live, their time range, and whether events are synthetic.

    Args:
        view: the latest figures and faults.
        zone: the viewer's time zone.
        now: the current time, in epoch milliseconds.
    """
    snapshot = view.snapshot
    sentences = []
    if view.fault is not None:
        what = "Elasticsearch refuses to answer" if view.fault.refused else "Elasticsearch is away"
        state, name = "away", f"{what} since {clock(view.fault.since, zone, now)}"
        sentences.append("The page tries again by itself.")
    elif snapshot is not None and snapshot.period is not None and snapshot.quiet:
        state, name = "quiet", "quiet"
        newest = snapshot.period.last
        sentences.append(
            f"The last event came {ago(now - newest)}."
            if newest <= now
            else "The last event is dated ahead of this machine's clock."
        )
    elif snapshot is not None and snapshot.period is not None:
        state, name = "live", "catching up with older events" if snapshot.behind else "live"
    else:
        state, name = "quiet", "no events yet"
    if snapshot is not None:
        if snapshot.period is not None:
            start = max(snapshot.window.start, snapshot.period.first)
            first, last = clock(start, zone, now), clock(snapshot.until or now, zone, now)
            sentences.append(f"Events from {first} to {last}.")
        sentences.append(f"Read at {clock(snapshot.read_at, zone, now)}.")
    synthetic = snapshot is not None and snapshot.stream.synthetic
    fault = view.fault.reason if view.fault else None
    return part("status", state, name, synthetic, sentences, awaited(snapshot), fault)


def awaited(snapshot: Snapshot | None) -> str | None:
    """Return how much of the time range is in no figure yet; None if all of it is."""
    if snapshot is None or not snapshot.awaited:
        return None
    length = text.duration(len(snapshot.awaited) * snapshot.window.interval)
    return (
        f"Hatched, and in no figure yet: {length} of events, of which fewer than "
        f"{snapshot.attribution.min_coverage:.0%} have a label by now."
    )


def title(words: str) -> Markup:
    """Return the title of a card."""
    return part("title", words)


def note(sentence: str) -> Markup:
    """Return a sentence instead of a chart or table."""
    return part("note", sentence)


def heading(name: str, version: str, colour: str) -> Markup:
    """Return the heading of a model's card.

    Args:
        name: name of the model.
        version: the last version; empty if unknown.
        colour: CSS colour of the model.
    """
    return part("heading", name, version, colour)


def outcomes(model: ModelFigures) -> Markup:
    """Return the table beside a model's donut."""
    rows = [
        (name, number, figures.share(number, model.events))
        for name, number in (
            ("correct", model.correct),
            ("incorrect", model.incorrect),
            ("unlabelled", model.unlabelled),
        )
    ]
    return part("outcomes", model, rows)


def confusion(model: ModelFigures) -> Markup:
    """Return a model's confusion table: a row per label, a column per prediction, shaded by the share of its row."""
    condensed = counts.condensed(model.confusion)
    if not condensed:
        return note("No event with a label yet.")
    totals, classes = counts.label_counts(condensed), counts.classes(condensed)
    rows = []
    for label in classes:
        numbers = [(prediction, condensed.get((label, prediction), 0)) for prediction in classes]
        cells = [(prediction, number, figures.share(number, totals[label]) or 0.0) for prediction, number in numbers]
        rows.append((label, cells))
    return part("confusion", model, classes, rows, counts.OTHER)


class Row(NamedTuple):
    """A figure's row of the table."""

    key: str
    name: str
    value: float | None
    text: str
    interval: str
    """The 95 % interval with the bound of the bins, or why the figure is undefined; empty without either."""
    tone: str
    """CSS class: ``above`` (better than the reference), ``below`` (worse, or off target), or empty."""
    verdict: str
    """Side of the reference on which the whole interval lies; empty if it lies on both."""
    is_uncertain: bool


def table(name: str, snapshot: Snapshot) -> Markup:
    """Return the table of a model's figures with their intervals, by version, the latest first.

    Args:
        name: the model.
        snapshot: the figures.
    """
    versions = [version for version in snapshot.by_version if version.name == name][::-1]
    shown = [(version, [row(version, key) for key in SHOWN]) for version in versions[:VERSIONS]]
    return part("figures", name, shown, len(versions) - len(shown), snapshot.min_labelled)


def row(model: ModelFigures, key: str) -> Row:
    """Return a figure of a model as text.

    Args:
        model: the model.
        key: name of the figure, one of ``figures.SHOWN``.
    """
    evaluation = model.evaluation
    figure, verdict = evaluation.figures[key], text.verdict(evaluation, key)
    return Row(
        key,
        FIGURES[key].name,
        None if figure is None else figure.value,
        text.value(evaluation, key),
        _why_not(model) if figure is None else _interval(evaluation, key),
        "" if verdict is None else "above" if verdict == "better" else "below",
        "" if verdict is None else _VERDICTS[key][evaluation.compare(key)],
        evaluation.is_uncertain(key),
    )


def _why_not(model: ModelFigures) -> str:
    """Return the reason for an undefined figure; empty if the model's labels are too few, or of one class."""
    if model.labelled < model.min_labelled or model.statistic.positives in {0, model.labelled}:
        return ""
    return "its scores are margins" if model.statistic.score_kind in {"margin", "class_margin"} else ""


def _interval(evaluation: Evaluation, key: str) -> str:
    """Return a figure's 95 % interval with the bound of the bins; empty without an interval."""
    figure, ends = evaluation.figures[key], text.interval(evaluation, key)
    interval = "" if ends is None else f"{ends[0]} – {ends[1]}"
    return f"{interval}, bins ± {figure.bound:.4f}" if isinstance(figure, BinnedEstimate) else interval


def comparison(each: Compared, margin: float, min_labelled: int) -> Markup:
    """Return the counts, the difference and the verdict of a comparison.

    Args:
        each: the comparison.
        margin: largest difference in accuracy that does not matter.
        min_labelled: fewest events with a label for which figures are shown.
    """
    result = each.comparison.result(margin)
    tone = {"better": "above", "worse": "below"}.get(result or "", "")
    return part("comparison", each, tone, comparison_text, margin, each.comparison.sums.events < min_labelled)


def reasons(rejected: Mapping[str, int]) -> Markup:
    """Return the rejected messages by reason, as bars."""
    return part("reasons", rejected)


def versions(snapshot: Snapshot, names: Sequence[str], dots: Mapping[str, str], zone: tzinfo) -> Markup:
    """Return the versions of models with the times of their first and last batches, and the refused versions.

    Args:
        snapshot: the figures.
        names: the models, in order.
        dots: the CSS colour of each model.
        zone: the viewer's time zone.
    """
    changes = snapshot.changes()
    rank = {name: position for position, name in enumerate(names)}
    shown = [version for version in snapshot.versions if version.model in rank]
    rows = [
        {
            "model": version.model,
            "version": version.version,
            "colour": dots[version.model],
            "at": version.first,
            "first": clock(version.first, zone, snapshot.read_at),
            "last": clock(version.last, zone, snapshot.read_at),
            "changed": version in changes,
        }
        for version in sorted(shown, key=lambda version: rank[version.model])
    ]
    nothing = "No event was scored." if snapshot.versions else "No batch was reported."
    return part("versions", rows, snapshot.stream.refused(snapshot.read_at), nothing)


def next_steps(settings: Elasticsearch) -> Markup:
    """Return the instructions for the case that there are no events."""
    steps = (
        ("streamscore up", "starts Kafka and Elasticsearch on this machine, if you have none"),
        ("streamscore train", "makes two models and a test set"),
        ("streamscore seed --rate 500", "sends the test set to the topic, 500 events a second; leave it running"),
        ("streamscore score", "in another terminal, scores the events of the topic as they come in"),
    )
    return part("next_steps", settings.quality_index, settings.url, steps)


def nothing_in_range(snapshot: Snapshot, zone: tzinfo) -> Markup:
    """Return the message for a time range without events, although others have some."""
    last = None if snapshot.period is None else clock(snapshot.period.last, zone, snapshot.read_at)
    return part("nothing_in_range", last)


def no_line(figure: str, min_labelled: int) -> Markup:
    """Return the reason why there is no chart over time.

    Args:
        figure: the figure's display name.
        min_labelled: fewest labelled events of a point.
    """
    return part("no_line", figure, min_labelled)


def origin(settings: Elasticsearch, snapshot: Snapshot) -> Markup:
    """Return the source of the figures, and the time that reading them took."""
    return part("origin", settings.quality_index, settings.url, snapshot.took)


def uncalibrated(models: Sequence[str]) -> Markup:
    """Return the models that the reliability diagram omits, with the reasons."""
    return part("uncalibrated", models)


def model_dots(names: Sequence[str]) -> dict[str, str]:
    """Return the CSS colour of each model, by its position."""
    return {name: f"var(--model-{position % len(MODELS)})" for position, name in enumerate(names)}


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"count": count, "percent": percent}
