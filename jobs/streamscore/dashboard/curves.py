"""The ROC curves, the reliability diagram and the differences of models, for the page and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Final

from streamscore.dashboard import svg
from streamscore.dashboard.comparisons import Card, DifferencePoint
from streamscore.dashboard.figures import ModelFigures
from streamscore.quality import ranking, reliability

if TYPE_CHECKING:
    from markupsafe import Markup

SIZE: Final = (520, 370)
_LOW: Final = (520, 230)

_NO_PROBABILITIES: Final = {
    "margin": "margins",
    "class_probability": "more than two classes",
    "class_margin": "more than two classes",
    None: "scores of different kinds",
}


def roc(models: Sequence[ModelFigures], dots: Mapping[str, str]) -> Markup | None:
    """Draw the ROC curves; None if no model has enough labels of both classes.

    Args:
        models: the models.
        dots: the CSS colour of each.
    """
    lines = []
    for model in models:
        area = model.evaluation.figures["auc"]
        curve = ranking.roc_curve(model.statistic)
        if area is not None and curve is not None:
            lines.append(svg.Line(f"{model.name}: area {area.value:.3f}", curve, dots[model.name]))
    if not lines:
        return None
    diagonal = svg.Line("chance", [(0.0, 0.0), (1.0, 1.0)], "var(--baseline)", dashed=True)
    false = svg.linear(0.0, 1.0, ".0%", "share of the events of class 0 that score higher")
    return svg.plot([diagonal, *lines], false, svg.linear(0.0, 1.0, ".0%"), label="ROC curves", size=SIZE)


def calibration(models: Sequence[ModelFigures], dots: Mapping[str, str]) -> Markup | None:
    """Draw the reliability diagram; None if no model has probabilities and enough labels.

    Each point is a tenth of the events: x is the mean probability, y the share of class 1 with its 95 % interval.

    Args:
        models: the models.
        dots: the CSS colour of each.
    """
    lines, ends = [], []
    for model in models:
        groups = reliability.groups(model.statistic)
        if not is_calibrated(model) or groups is None:
            continue
        bars = [
            (group.predicted, group.observed.low or 0.0, group.observed.high or group.observed.value)
            for group in groups
        ]
        points = [(group.predicted, group.observed.value) for group in groups]
        ends += [end for predicted, _, high in bars for end in (predicted, high)]
        lines.append(svg.Line(_legend(model), points, dots[model.name], dots=True, bars=bars))
    if not lines:
        return None
    end = min(1.0, max(ends) * 1.05)
    form = ".0%" if end > 0.1 else ".1%"  # noqa: PLR2004 (marks of whole percentages)
    ideal = svg.Line("predicted = observed", [(0.0, 0.0), (end, end)], "var(--baseline)", dashed=True)
    across = svg.linear(0.0, end, form, "mean probability that the model gives")
    return svg.plot([ideal, *lines], across, svg.linear(0.0, end, form), label="reliability diagram", size=SIZE)


def difference_over_time(card: Card, dots: Mapping[str, str], zone: tzinfo) -> Markup | None:
    """Draw the difference with its band, which shrinks as events come in; None with fewer than two points.

    Args:
        card: the comparison.
        dots: the CSS colour of each model.
        zone: the time zone of the axis.
    """
    points = card.course
    if len(points) <= 1:
        return None
    # The band begins as wide as can be: the axis shows what is known in the second half, and the rest is cut off.
    known = points[len(points) // 2 :]
    low, high = min(0.0, *(point.low for point in known)), max(0.0, *(point.high for point in known))
    first, last = points[0].at, points[-1].at
    nothing = svg.Line("no difference", [(first, 0.0), (last, 0.0)], "var(--baseline)", dashed=True)
    line = svg.Line(
        "difference in accuracy, in points, up to each time",
        [(point.at, point.value if low <= point.value <= high else None) for point in points],
        dots.get(card.compared.pair.challenger, "var(--ink)"),
        band=[_cut(point, low, high) for point in points],
    )
    across, up = svg.clock(first, last, zone, 5), svg.linear(low, high, "+.2g")
    return svg.plot([nothing, line], across, up, label="difference in accuracy over time", size=_LOW)


def _cut(point: DifferencePoint, low: float, high: float) -> tuple[float, float | None, float | None]:
    """Return the part of a point's band that lies on the axis, if any."""
    if point.high < low or point.low > high:
        return point.at, None, None
    return point.at, max(low, point.low), min(high, point.high)


def uncalibrated(models: Sequence[ModelFigures]) -> list[str]:
    """Return the models that the reliability diagram leaves out, each with the reason."""
    return [
        f"{model.name} ({_NO_PROBABILITIES.get(model.statistic.score_kind, 'too few labels')})"
        for model in models
        if not is_calibrated(model)
    ]


def is_calibrated(model: ModelFigures) -> bool:
    """Return whether a model has probabilities, and enough labels to check their calibration."""
    return model.statistic.score_kind == "probability" and model.labelled >= model.min_labelled


def _legend(model: ModelFigures) -> str:
    error = reliability.expected_calibration_error(model.statistic)
    if error is None:
        return model.name
    return f"{model.name}: calibration error {error.value:.2%}, by chance {error.by_chance:.2%}"
