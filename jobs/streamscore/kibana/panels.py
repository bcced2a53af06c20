"""The panels of the dashboard, as data: the Lens objects and the ES|QL queries are both made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streamscore.config import Config
from streamscore.quality.figures import ACCURACY, BASELINE
from streamscore.schema import TIME

TITLE: Final = "streamscore: how good are the models right now?"
DESCRIPTION: Final = "Predictions of Spark ML models on a Kafka topic, compared with the labels that came along."
FROM: Final = "now-15m"
REFRESH_MS: Final = 5000
COLUMNS: Final = 48
"""Width of Kibana's dashboard grid."""

TEXT: Final = f"""\
# How good are the models right now?

Each message of the input topic is scored by every model and compared with the label that came with it.

- **Correct** and **incorrect** count labelled messages; **unlabelled** ones cannot be judged.
- **{BASELINE.capitalize()}**: the accuracy of always predicting the more frequent label, 0 or 1.
- **Models** says which version scored since when, and whether the messages are synthetic (made up) or real.
"""

Number = Literal["number", "percent", "date"]


@dataclass(frozen=True)
class Metric:
    """A number per group: how it is computed, and how it is written.

    ``last`` is the field's value in the newest document; ``baseline`` is the share of the more frequent of two labels.
    """

    name: str
    label: str
    operation: Literal["count", "sum", "average", "min", "max", "last", "baseline"]
    field: str = ""
    number: Number = "number"


@dataclass(frozen=True)
class GroupBy:
    """What a metric is grouped by: the values of a field, intervals of time, or the three outcomes of a prediction."""

    name: str
    label: str
    kind: Literal["terms", "time", "outcome"]
    type: Literal["string", "number", "boolean"] = "string"

    @property
    def field(self) -> str:
        """The field that decides the group."""
        return {"time": TIME, "outcome": "correct"}.get(self.kind, self.name)


@dataclass(frozen=True)
class Condition:
    """A filter in Kibana's two query languages."""

    kql: str
    esql: str


@dataclass(frozen=True)
class Layer:
    """One query: metrics of an index, by groups."""

    name: str
    index: str
    metrics: tuple[Metric, ...]
    groups: tuple[GroupBy, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Place and size of a panel, in grid units."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Panel:
    """A chart. The first group is a table's rows or a chart's axis; the last one of a ``pivot`` becomes its columns."""

    name: str
    title: str
    chart: Literal["donut", "metric", "lines", "bars", "table", "pivot"]
    layers: tuple[Layer, ...]
    grid: Grid
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One of the three outcomes of a prediction."""

    label: str
    kql: str


OUTCOMES: Final = (
    Outcome("correct", "correct: 1"),
    Outcome("incorrect", "correct: 0"),
    Outcome("unlabelled", "NOT correct: *"),
)

_MODEL: Final = GroupBy("model", "Model", "terms")
_OVER_TIME: Final = GroupBy("time", "Time", "time")
_OUTCOME: Final = GroupBy("outcome", "Outcome", "outcome")
_ACCURACY: Final = Metric("accuracy", ACCURACY.capitalize(), "average", "correct", "percent")
_BASELINE: Final = Metric("baseline", BASELINE.capitalize(), "baseline", "label", "percent")

TEXT_GRID: Final = Grid(0, 0, COLUMNS, 7)


def panels(config: Config) -> list[Panel]:
    """Return the charts of the dashboard for the configured models and indices, from top to bottom."""
    indices = config.elasticsearch
    top = TEXT_GRID.h
    shown = list(_row_of_numbers(config, top))
    top += 5
    donuts = list(_donuts([model.name for model in config.models], indices.index, top))
    shown += donuts
    top = donuts[-1].grid.y + donuts[-1].grid.h
    shown.append(
        Panel(
            "accuracy-over-time",
            f"{_ACCURACY.label} over time, with the {BASELINE}",
            "lines",
            (
                Layer("models", indices.index, (_ACCURACY,), (_OVER_TIME, _MODEL)),
                Layer("baseline", indices.index, (_BASELINE,), (_OVER_TIME,)),
            ),
            Grid(0, top, COLUMNS, 12),
        )
    )
    top += 12
    label = GroupBy("label", "Label", "terms", "number")
    prediction = GroupBy("prediction", "Prediction", "terms", "number")
    reason = GroupBy("reason", "Reason", "terms")
    count = Metric("events", "Events", "count")
    shown += [
        Panel(
            "confusion",
            "Confusion table: label by prediction",
            "pivot",
            (Layer("cells", indices.index, (count,), (_MODEL, label, prediction)),),
            Grid(0, top, 24, 12),
            (Condition("label: *", "label IS NOT NULL"),),
        ),
        Panel(
            "rejected-by-reason",
            "Rejected messages by reason",
            "bars",
            (Layer("reasons", indices.rejected_index, (count,), (reason,)),),
            Grid(24, top, 24, 12),
        ),
        Panel(
            "models",
            "Models",
            "table",
            (Layer("versions", indices.status_index, _VERSIONS, _VERSION_GROUPS),),
            Grid(0, top + 12, COLUMNS, 9),
        ),
    ]
    return shown


def baseline(positive: str) -> str:
    """Return the majority-class baseline of labels 0 and 1 in ES|QL, from an expression for the share of label 1."""
    return f"GREATEST({positive}, 1 - {positive})"


_VERSIONS: Final = (
    Metric("since", "First batch", "min", TIME, "date"),
    Metric("until", "Newest batch", "max", TIME, "date"),
    Metric("scored", "Events", "sum", "events"),
)
_VERSION_GROUPS: Final = (
    GroupBy("models", "Model and version", "terms"),
    GroupBy("synthetic", "Synthetic", "terms", "boolean"),
)


def _row_of_numbers(config: Config, top: int) -> Iterator[Panel]:
    indices = config.elasticsearch
    numbers: Sequence[tuple[str, str, Metric, int]] = (
        ("events", indices.status_index, Metric("total", "Events", "sum", "events"), 7),
        ("rate", indices.status_index, Metric("rate", "Events per second of work", "last", "events_per_second"), 7),
        ("lag", indices.status_index, Metric("behind", "Lag", "last", "lag"), 7),
        ("rejected", indices.rejected_index, Metric("rejected", "Rejected", "count"), 7),
        ("baseline", indices.index, _BASELINE, 7),
    )
    left = 0
    for name, index, metric, width in numbers:
        yield Panel(name, metric.label, "metric", (Layer("number", index, (metric,)),), Grid(left, top, width, 5))
        left += width
    layer = Layer("number", indices.index, (_ACCURACY,), (_MODEL,))
    yield Panel("accuracy", f"{_ACCURACY.label} by model", "metric", (layer,), Grid(left, top, COLUMNS - left, 5))


def _donuts(models: Sequence[str], index: str, top: int) -> Iterator[Panel]:
    """Two donuts share a row; more than two stand three in a row."""
    in_row = min(max(len(models), 2), 3)
    width, height = COLUMNS // in_row, 13
    for number, model in enumerate(models):
        row, column = divmod(number, in_row)
        yield Panel(
            f"outcomes-{model}",
            f"{model}: correct and incorrect",
            "donut",
            (Layer("outcomes", index, (Metric("events", "Events", "count"),), (_OUTCOME,)),),
            Grid(column * width, top + row * height, width, height),
            (Condition(f'model: "{model}"', f'model == "{model}"'),),
        )
