"""The panels of the dashboard as data, from which both the Lens objects and the ES|QL queries are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streamscore.config import Config
from streamscore.kibana.formula import Call, Sum
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

- **Correct** and **incorrect** count labelled messages; **unlabelled** ones cannot be judged, and **declined**
  ones hold a value that the model cannot take.
- **{BASELINE.capitalize()}**: the accuracy of always predicting the more frequent label, 0 or 1.
- The **confusion table** counts only messages that have documents of their own (`elasticsearch.documents`).
- **Models** says which version scored since when, and whether the messages are synthetic (made up) or real.
"""

Number = Literal["number", "percent", "date"]


@dataclass(frozen=True)
class Metric:
    """A number per group, with its computation and its format.

    ``last`` is the field's value in the newest document; ``formula`` is arithmetic on sums.
    """

    name: str
    label: str
    operation: Literal["count", "sum", "min", "max", "last", "formula"]
    field: str = ""
    number: Number = "number"
    formula: Call | None = None


@dataclass(frozen=True)
class GroupBy:
    """A grouping by the values of a field, or by intervals of time."""

    name: str
    label: str
    kind: Literal["terms", "time"]
    type: Literal["string", "number", "boolean"] = "string"

    @property
    def field(self) -> str:
        """The field that determines the group."""
        return TIME if self.kind == "time" else self.name


@dataclass(frozen=True)
class Condition:
    """A filter in Kibana's two query languages."""

    kql: str
    esql: str


@dataclass(frozen=True)
class Layer:
    """A query for metrics of an index, by groups."""

    name: str
    index: str
    metrics: tuple[Metric, ...]
    groups: tuple[GroupBy, ...] = ()
    where: tuple[Condition, ...] = ()
    """Filters of this layer, in addition to the panel's."""


@dataclass(frozen=True)
class Grid:
    """Position and size of a panel, in grid units."""

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


_MODEL: Final = GroupBy("model", "Model", "terms")
_OVER_TIME: Final = GroupBy("time", "Time", "time")
_CORRECT, _LABELLED, _SCORED, _POSITIVES = (Sum(name) for name in ("correct", "labelled", "scored", "positives"))

ACCURACY_FORMULA: Final = Call("divide", _CORRECT, _LABELLED)
BASELINE_FORMULA: Final = Call(
    "divide", Call("pick_max", _POSITIVES, Call("subtract", _LABELLED, _POSITIVES)), _LABELLED
)
"""The share of the more frequent of the labels 0 and 1, from the sums of the quality index."""

_ACCURACY: Final = Metric("accuracy", ACCURACY.capitalize(), "formula", number="percent", formula=ACCURACY_FORMULA)
_BASELINE: Final = Metric("baseline", BASELINE.capitalize(), "formula", number="percent", formula=BASELINE_FORMULA)
_OUTCOMES: Final = (
    Metric("correct", "correct", "sum", "correct"),
    Metric("incorrect", "incorrect", "sum", "incorrect"),
    Metric("unlabelled", "unlabelled", "formula", formula=Call("subtract", _SCORED, _LABELLED)),
    Metric("declined", "declined", "sum", "declined"),
)
TWO_CLASSES: Final = Condition(
    'NOT score_kind: "class_probability" AND NOT score_kind: "class_margin"',
    'score_kind != "class_probability" AND score_kind != "class_margin"',
)
"""Only of these models ``positives`` is counted, from which the baseline follows."""


def one_length(config: Config) -> Condition:
    """Return the filter of the quality index to windows of the shortest length, which counts each event once."""
    seconds = config.quality.windows[0]
    return Condition(f"seconds: {seconds}", f"seconds == {seconds}")


TEXT_GRID: Final = Grid(0, 0, COLUMNS, 7)


def panels(config: Config) -> list[Panel]:
    """Return the charts of the dashboard for the configured models and indices, from top to bottom."""
    indices, once = config.elasticsearch, one_length(config)
    top = TEXT_GRID.h
    shown = list(_row_of_numbers(config, top))
    top += 5
    donuts = list(_donuts(config, top))
    shown += donuts
    top = donuts[-1].grid.y + donuts[-1].grid.h
    shown.append(
        Panel(
            "accuracy-over-time",
            f"{_ACCURACY.label} over time, with the {BASELINE}",
            "lines",
            (
                Layer("models", indices.quality_index, (_ACCURACY,), (_OVER_TIME, _MODEL)),
                Layer("baseline", indices.quality_index, (_BASELINE,), (_OVER_TIME,), (TWO_CLASSES,)),
            ),
            Grid(0, top, COLUMNS, 12),
            (once,),
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
    indices, once = config.elasticsearch, one_length(config)
    rate = Metric("rate", "Events per second of work", "last", "events_per_second")
    numbers: Sequence[tuple[str, str, Metric, tuple[Condition, ...]]] = (
        ("events", indices.status_index, Metric("total", "Events", "sum", "events"), ()),
        ("rate", indices.status_index, rate, ()),
        ("lag", indices.status_index, Metric("behind", "Lag", "last", "lag"), ()),
        ("rejected", indices.rejected_index, Metric("rejected", "Rejected", "count"), ()),
        ("baseline", indices.quality_index, _BASELINE, (once,)),
    )
    left, width = 0, 7
    for name, index, metric, where in numbers:
        layer = Layer("number", index, (metric,), where=(TWO_CLASSES,) if metric is _BASELINE else ())
        yield Panel(name, metric.label, "metric", (layer,), Grid(left, top, width, 5), where)
        left += width
    layer = Layer("number", indices.quality_index, (_ACCURACY,), (_MODEL,))
    place = Grid(left, top, COLUMNS - left, 5)
    yield Panel("accuracy", f"{_ACCURACY.label} by model", "metric", (layer,), place, (once,))


def _donuts(config: Config, top: int) -> Iterator[Panel]:
    """Yield a donut per model: up to two in a row, or three per row for more models."""
    models = [model.name for model in config.models]
    in_row = min(max(len(models), 2), 3)
    width, height = COLUMNS // in_row, 13
    for number, model in enumerate(models):
        row, column = divmod(number, in_row)
        yield Panel(
            f"outcomes-{model}",
            f"{model}: correct and incorrect",
            "donut",
            (Layer("outcomes", config.elasticsearch.quality_index, _OUTCOMES),),
            Grid(column * width, top + row * height, width, height),
            (one_length(config), Condition(f'model: "{model}"', f'model == "{model}"')),
        )
