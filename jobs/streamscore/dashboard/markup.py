"""The parts of the page and of the report that are text and tables, as HTML; whatever comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from html import escape

from streamscore.config import Elasticsearch
from streamscore.dashboard.figures import ModelFigures, Snapshot
from streamscore.dashboard.palette import MODELS
from streamscore.dashboard.queries import moment
from streamscore.dashboard.reader import View
from streamscore.quality import figures


def count(number: float) -> str:
    """Return a number with separators between its thousands."""
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """Return a number of events per second, with two digits if it is small: 0.2 is not 0."""
    return count(per_second) if per_second >= 10 else f"{per_second:.2g}"  # noqa: PLR2004 (two digits)


def percent(share: float | None) -> str:
    """Return a share as a percentage, or a dash."""
    return "–" if share is None else f"{share:.2%}"


def clock(at: int, zone: tzinfo, now: int) -> str:
    """Return a time of day, with its date if that is not today's; both arguments are epoch milliseconds."""
    local, today = moment(at).astimezone(zone), moment(now).astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local.day} {local:%b %Y %H:%M:%S}"


def ago(milliseconds: int) -> str:
    """Return how long ago something was, in words."""
    seconds = max(0, milliseconds) // 1_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def status(view: View, zone: tzinfo, now: int) -> str:
    """Say whether the figures are live, of which time they are, and whether the events are made up."""
    snapshot = view.snapshot
    parts = []
    if view.fault is not None:
        what = "Elasticsearch refuses to answer" if view.fault.refused else "Elasticsearch is away"
        state, name = "away", f"{what} since {clock(view.fault.since, zone, now)}"
        parts.append("The page tries again by itself.")
    elif snapshot is not None and snapshot.extent is not None and snapshot.quiet:
        state, name = "quiet", "quiet"
        newest = snapshot.extent.last
        parts.append(
            f"The last event came {ago(now - newest)}."
            if newest <= now
            else "The last event is dated ahead of this machine's clock."
        )
    elif snapshot is not None and snapshot.extent is not None:
        state, name = "live", "catching up with older events" if snapshot.behind else "live"
    else:
        state, name = "quiet", "no events yet"
    if snapshot is not None:
        if snapshot.extent is not None:
            start = max(snapshot.window.start, snapshot.extent.first)
            first, last = clock(start, zone, now), clock(snapshot.extent.last, zone, now)
            parts.append(f"Events from {first} to {last}.")
        parts.append(f"Read at {clock(snapshot.read_at, zone, now)}.")
        if snapshot.pending:
            parts.append(f"Still counting: {count(snapshot.pending)} documents to go.")
    badge = synthetic_badge() if snapshot is not None and snapshot.stream.synthetic else ""
    fault = f'<p class="ss-fault" data-testid="fault">{escape(view.fault.reason)}</p>' if view.fault else ""
    return (
        f'<div class="ss" data-testid="status" data-state="{state}"><div class="ss-status">'
        f'<span class="ss-pill ss-{state}">{name}</span>{badge}<span class="ss-muted">{" ".join(parts)}</span></div>'
        f"{fault}</div>"
    )


def synthetic_badge() -> str:
    """Say that the events were made up."""
    return '<span class="ss-pill ss-made-up" data-testid="synthetic">synthetic data</span>'


def kpis(snapshot: Snapshot, models: Sequence[ModelFigures], dots: Mapping[str, str]) -> str:
    """Return the page's row of key figures; ``dots`` has the colour of each model."""
    latest, per_second = snapshot.stream.latest, snapshot.stream.rate(snapshot.read_at)
    pace = kpi(
        "rate",
        "events per second",
        "–" if per_second is None else rate(per_second),
        per_second,
        "no batch was reported" if latest is None else f"last batch {ago(snapshot.read_at - latest.at)}",
    )
    lag = kpi(
        "lag",
        "lag",
        "–" if latest is None else count(latest.lag),
        None if latest is None else latest.lag,
        "waiting in Kafka after the last batch",
    )
    return kpi_row([kpi_events(snapshot), pace, lag, kpi_rejected(snapshot), *kpi_accuracies(models, dots)])


def kpi_row(cells: Sequence[str]) -> str:
    """Return key figures side by side."""
    return f'<div class="ss ss-kpis" data-testid="kpis">{"".join(cells)}</div>'


def kpi(key: str, name: str, text: str, value: float | None, note: str) -> str:
    """Return a key figure: its name, the number as text and exactly, and a note below; all of it is HTML."""
    exact = "" if value is None else f' data-value="{value}"'
    return (
        f'<div class="ss-kpi" data-testid="kpi-{key}"{exact}><div class="ss-kpi-name">{name}</div>'
        f'<div class="ss-kpi-value">{text}</div><div class="ss-kpi-note">{note}</div></div>'
    )


def kpi_events(snapshot: Snapshot) -> str:
    """Return the number of events."""
    return kpi("events", "events", count(snapshot.events), snapshot.events, f"{count(snapshot.scored)} scored")


def kpi_rejected(snapshot: Snapshot) -> str:
    """Return the number of rejected messages."""
    rejected = snapshot.rejected_total
    share = percent(rejected / snapshot.events if snapshot.events else None)
    return kpi("rejected", "rejected", count(rejected), rejected, f"{share} of the events")


def kpi_accuracies(models: Sequence[ModelFigures], dots: Mapping[str, str]) -> list[str]:
    """Return the accuracy of each model, against the majority-class baseline of the same events."""
    return [
        kpi(
            f"accuracy-{escape(model.name)}",
            f"{_dot(dots[model.name])}accuracy of {escape(model.name)}",
            percent(model.accuracy),
            model.accuracy,
            _against(model.accuracy, model.baseline),
        )
        for model in models
    ]


def heading(name: str, version: str, dot: str) -> str:
    """Return the heading of a model's card."""
    small = f'<small data-testid="version-{escape(name)}">version {escape(version)}</small>' if version else ""
    return f'<div class="ss ss-heading" data-testid="model-{escape(name)}">{_dot(dot)}{escape(name)}{small}</div>'


def outcomes(model: ModelFigures) -> str:
    """Return the table beside a model's donut."""
    rows = []
    for name, number in (
        ("correct", model.correct),
        ("incorrect", model.incorrect),
        ("unlabelled", model.unlabelled),
    ):
        share = percent(number / model.events if model.events else None)
        rows.append(
            f'<tr><td>{_dot(f"var(--{name})")}{name}</td><td data-testid="{escape(model.name)}-{name}" '
            f'data-value="{number}">{count(number)}</td><td class="ss-muted">{share}</td></tr>'
        )
    rows.append(
        f'<tr class="ss-total"><td>scored</td><td data-testid="{escape(model.name)}-scored" '
        f'data-value="{model.events}">{count(model.events)}</td><td></td></tr>'
    )
    return f'<div class="ss"><table class="ss-rows">{"".join(rows)}</table></div>'


def confusion(model: ModelFigures) -> str:
    """Return a model's confusion table: a row per label, a column per prediction, shaded by the share of its row."""
    classes = model.classes
    if not classes:
        return '<p class="ss ss-muted">No event with a label yet.</p>'
    head = "".join(f"<th>predicted {value:g}</th>" for value in classes)
    rows = []
    for label in classes:
        total = sum(model.confusion.get((label, prediction), 0) for prediction in classes)
        cells = []
        for prediction in classes:
            number = model.confusion.get((label, prediction), 0)
            share = number / total if total else 0.0
            hue = "correct" if label == prediction else "incorrect"
            cells.append(
                f'<td data-testid="{escape(model.name)}-{label:g}-{prediction:g}" data-value="{number}" '
                f'style="--hue:var(--{hue});--share:{8 + 42 * share:.0f}%"><b>{count(number)}</b>'
                f"<small>{share:.1%}</small></td>"
            )
        rows.append(f"<tr><th>label {label:g}</th>{''.join(cells)}</tr>")
    return (
        '<div class="ss ss-scroll"><table class="ss-confusion" title="share of the events with that label">'
        f"<tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    )


def reasons(rejected: Mapping[str, int]) -> str:
    """Return the rejected messages by reason, as bars."""
    if not rejected:
        return '<p class="ss ss-muted" data-testid="reasons">No message was rejected.</p>'
    most = max(rejected.values())
    rows = "".join(
        f'<span>{escape(reason)}</span><span class="ss-bar" style="--share:{100 * number / most:.1f}%"></span>'
        f'<span data-testid="reason-{escape(reason)}" data-value="{number}">{count(number)}</span>'
        for reason, number in rejected.items()
    )
    return f'<div class="ss ss-bars" data-testid="reasons">{rows}</div>'


def versions(snapshot: Snapshot, names: Sequence[str], dots: Mapping[str, str], zone: tzinfo) -> str:
    """Return the versions of some models with the times of their first and last batch, and those that are refused."""
    changed = snapshot.changes()
    rank = {name: position for position, name in enumerate(names)}
    rows = []
    for version in sorted(snapshot.versions, key=lambda version: rank.get(version.model, -1)):
        if version.model not in rank:
            continue
        first, last = (clock(at, zone, snapshot.read_at) for at in (version.first, version.last))
        change = ' <span class="ss-above">changed</span>' if version in changed else ""
        rows.append(
            f'<tr data-testid="served-{escape(version.model)}-{escape(version.version)}">'
            f"<td>{_dot(dots[version.model])}{escape(version.model)}</td><td>{escape(version.version)}</td>"
            f'<td data-value="{version.first}">{first}{change}</td><td>{last}</td></tr>'
        )
    refused = "".join(
        f'<p class="ss ss-fault" data-testid="refused">Refused, the one before goes on: {escape(version)}</p>'
        for version in snapshot.stream.refused
    )
    if not rows:
        nothing = "No event was scored." if snapshot.versions else "No batch was reported."
        return f'<p class="ss ss-muted">{nothing}</p>{refused}'
    head = "<tr><th>model</th><th>version</th><th>first batch</th><th>last batch</th></tr>"
    return (
        f'<div class="ss ss-scroll"><table class="ss-rows" data-testid="versions">{head}{"".join(rows)}</table></div>'
        f"{refused}"
    )


def next_steps(settings: Elasticsearch) -> str:
    """Say what to do when there is no event to show."""
    steps = (
        ("streamscore up", "starts Kafka and Elasticsearch on this machine, if you have none"),
        ("streamscore train", "makes two models and a test set"),
        ("streamscore seed --rate 500", "sends the test set to the topic, 500 events a second; leave it running"),
        ("streamscore score", "in another terminal, scores the events of the topic as they come in"),
    )
    items = "".join(f"<li><code>{command}</code> {text}.</li>" for command, text in steps)
    return (
        '<div class="ss ss-card ss-next" data-testid="next-steps"><h3>No event has been scored yet</h3>'
        f"<p>The index <code>{escape(settings.index)}</code> at <code>{escape(settings.url)}</code> holds nothing. "
        f"This page fills by itself when something arrives. To get there:</p><ol>{items}</ol>"
        "<p>Or all of it at once, with made-up events: <code>streamscore demo</code>.</p></div>"
    )


def nothing_in_range(snapshot: Snapshot, zone: tzinfo) -> str:
    """Say that the chosen time range is empty although there are events."""
    last = (
        ""
        if snapshot.extent is None
        else f" The last one came at {clock(snapshot.extent.last, zone, snapshot.read_at)}."
    )
    return (
        '<div class="ss ss-card ss-next" data-testid="nothing-in-range"><h3>No event in this time range</h3>'
        f"<p>{last} Choose a longer time range.</p></div>"
    )


def no_line(min_labelled: int) -> str:
    """Say why there is no accuracy chart."""
    return (
        f'<p class="ss ss-muted" data-testid="no-line">Too few events with a label so far: a point of this chart '
        f"stands for at least {min_labelled} of them (dashboard.min_labelled).</p>"
    )


def origin(settings: Elasticsearch, snapshot: Snapshot) -> str:
    """Say where the figures come from, and what they cost."""
    return (
        f'<p class="ss ss-muted ss-small">From the index {escape(settings.index)} at {escape(settings.url)}, '
        f"which worked {count(snapshot.took)} ms for these figures.</p>"
    )


def model_dots(names: Sequence[str]) -> dict[str, str]:
    """Return the CSS colour of each model, by its place."""
    return {name: f"var(--model-{position % len(MODELS)})" for position, name in enumerate(names)}


def _dot(colour: str) -> str:
    return f'<span class="ss-dot" style="--dot:{colour}"></span>'


def _against(accuracy: float | None, baseline: float | None) -> str:
    points = figures.above_baseline(accuracy, baseline)
    if points is None:
        return "no label yet"
    tone = "above" if points > 0 else "below"
    return f'{figures.BASELINE_SHORT} {percent(baseline)} <span class="ss-{tone}">{points:+.1f}</span>'
