"""The key figures at the top of the page and of the report, as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streamscore.dashboard import markup
from streamscore.dashboard.figures import ModelFigures, Snapshot
from streamscore.quality import figures, text

if TYPE_CHECKING:
    from markupsafe import Markup


class KeyFigure(NamedTuple):
    """A key figure: its name, the number as short and as exact text, and a note below."""

    key: str
    name: str
    text: str
    value: float | None
    note: str
    colour: str = ""
    """CSS colour of the dot before the name; none if empty."""
    points: float | None = None
    """Percentage points above the baseline, shown after the note."""
    is_clear: bool = False
    """Whether the whole interval lies on that side of the baseline; only then the points are coloured."""


def html(shown: Sequence[KeyFigure]) -> Markup:
    """Return key figures side by side, as HTML."""
    return markup.part("kpis", shown)


def of_page(snapshot: Snapshot, models: Sequence[ModelFigures], dots: Mapping[str, str]) -> list[KeyFigure]:
    """Return the key figures of the page.

    Args:
        snapshot: the figures.
        models: the models to show.
        dots: the CSS colour of each model.
    """
    stream, now = snapshot.stream, snapshot.read_at
    latest, per_second, waiting = stream.latest, stream.rate(now), stream.lag(now)
    pace = KeyFigure(
        "rate",
        "events per second",
        "–" if per_second is None else markup.rate(per_second),
        per_second,
        "no batch was reported" if latest is None else f"last batch {markup.ago(now - latest.at)}",
    )
    lag = KeyFigure(
        "lag",
        "lag",
        "–" if waiting is None else markup.count(waiting),
        waiting,
        "waiting in Kafka after the last batch",
    )
    always = [of_events(snapshot), pace, lag, of_rejected(snapshot)]
    return [*always, *of_labels(snapshot), *of_models(models, dots)]


def of_events(snapshot: Snapshot) -> KeyFigure:
    """Return the number of events."""
    return KeyFigure(
        "events", "events", markup.count(snapshot.events), snapshot.events, f"{markup.count(snapshot.scored)} scored"
    )


def of_rejected(snapshot: Snapshot) -> KeyFigure:
    """Return the number of rejected messages."""
    rejected = snapshot.rejected_total
    share = markup.percent(figures.share(rejected, snapshot.events))
    return KeyFigure("rejected", "rejected", markup.count(rejected), rejected, f"{share} of the events")


def of_models(models: Sequence[ModelFigures], dots: Mapping[str, str]) -> list[KeyFigure]:
    """Return the accuracy of each model, compared with the majority-class baseline of the same events."""
    return [
        KeyFigure(
            f"accuracy-{model.name}",
            f"{figures.ACCURACY} of {model.name}",
            markup.percent(model.accuracy),
            model.accuracy,
            "too few labels yet"
            if model.baseline is None
            else f"{figures.BASELINE_SHORT} {markup.percent(model.baseline)}",
            dots[model.name],
            figures.above_baseline(model.accuracy, model.baseline),
            text.verdict(model.evaluation, "accuracy") is not None,
        )
        for model in models
    ]


def of_labels(snapshot: Snapshot) -> list[KeyFigure]:
    """Return how many events have a label by now, and how long labels take; nothing if none comes late."""
    lags = {percent: lag for percent, lag in snapshot.lags.items() if lag is not None}
    if not lags and snapshot.attribution.window is None:
        return []
    taken = ", ".join(f"p{percent} {text.duration(lag)}" for percent, lag in lags.items())
    note = f"labels take {taken}" if taken else "no label came late"
    return [KeyFigure("coverage", "events with a label", markup.percent(snapshot.coverage), snapshot.coverage, note)]
