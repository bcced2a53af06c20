"""The dashboard for the Dashboards API of Kibana 9.5 and later, in which every chart has an ES|QL query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from streamscore.config import Config
from streamscore.kibana import formula, panels
from streamscore.kibana.panels import Grid, GroupBy, Layer, Metric, Panel
from streamscore.schema import TIME

OLDEST: Final = (9, 5)
"""The first Kibana version whose Dashboards API is stable and accepts our id."""

_ROWS: Final = 10_000
"""Most rows of an ES|QL result."""
_IN_RANGE: Final = f"{TIME} >= ?_tstart AND {TIME} < ?_tend"
_BUCKET: Final = f"BUCKET({TIME}, 75, ?_tstart, ?_tend)"


def build(config: Config) -> dict[str, Any]:
    """Return the body of ``PUT /api/dashboards/{id}`` for the configured models and indices."""
    text = {"type": "markdown", "grid": _grid(panels.TEXT_GRID), "config": {"content": panels.TEXT}}
    charts = [{"type": "vis", "grid": _grid(panel.grid), "config": _config(panel)} for panel in panels.panels(config)]
    return {
        "title": panels.TITLE,
        "description": panels.DESCRIPTION,
        "time_range": {"from": panels.FROM, "to": "now"},
        "refresh_interval": {"pause": False, "value": panels.REFRESH_MS},
        "panels": [text, *charts],
    }


def query(layer: Layer, panel: Panel) -> str:
    """Return a layer's ES|QL query."""
    conditions = " AND ".join([_IN_RANGE, *(condition.esql for condition in (*panel.where, *layer.where))])
    steps = [f"FROM {layer.index}", f"WHERE {conditions}"]
    (metric, *_) = layer.metrics
    if metric.operation == "last":
        steps += [f"SORT {TIME} DESC", "LIMIT 1", f"EVAL {metric.name} = {metric.field}", f"KEEP {metric.name}"]
        return "\n| ".join(steps)
    computed = ", ".join(f"{name} = {function}" for name, function in _aggregates(layer.metrics).items())
    groups = ", ".join(_by(group) for group in layer.groups)
    steps.append(f"STATS {computed} BY {groups}" if groups else f"STATS {computed}")
    formulas = [(metric.name, metric.formula) for metric in layer.metrics if metric.formula is not None]
    if formulas:
        steps.append(f"EVAL {', '.join(f'{name} = {formula.esql(each)}' for name, each in formulas)}")
        shown = {metric.name for metric in layer.metrics}
        steps.append(f"DROP {', '.join(name for name in _aggregates(layer.metrics) if name not in shown)}")
    if layer.groups:
        steps.append(f"LIMIT {_ROWS}")  # Elasticsearch's default limit is a thousand rows
    return "\n| ".join(steps)


def _aggregates(metrics: Sequence[Metric]) -> dict[str, str]:
    """Return the aggregates of the documents by name; the sums of a formula are named like their fields."""
    computed: dict[str, str] = {}
    for metric in metrics:
        if metric.formula is not None:
            computed |= {field: f"SUM({field})" for field in formula.fields(metric.formula)}
        else:
            computed[metric.name] = f"{metric.operation.upper()}({metric.field or '*'})"
    return computed


def _by(group: GroupBy) -> str:
    return _BUCKET if group.kind == "time" else group.field


def _grid(grid: Grid) -> dict[str, int]:
    return {"x": grid.x, "y": grid.y, "w": grid.w, "h": grid.h}


def _config(panel: Panel) -> dict[str, Any]:
    layer = panel.layers[0]
    metrics, groups = [_metric(metric) for metric in layer.metrics], [_group(group) for group in layer.groups]
    titled = {"title": panel.title}
    asked = {"data_source": _source(layer, panel)}
    if panel.chart == "donut":
        styling = {"styling": {"donut_hole": "m"}}
        pie = {"type": "pie", **titled, **asked, "metrics": metrics, **styling}
        return pie | {"group_by": groups} if groups else pie
    if panel.chart == "metric":
        split = {"breakdown_by": groups[0]} if groups else {}
        return {"type": "metric", **asked, "metrics": [{"type": "primary", **metrics[0]}], **split}
    if panel.chart in {"lines", "bars"}:
        return {"type": "xy", **titled, **_axes(panel)}
    table = {"type": "data_table", **titled, **asked, "metrics": metrics}
    if panel.chart == "pivot":
        return table | {"rows": groups[:-1], "split_metrics_by": groups[-1:]}
    return table | {"rows": groups}


def _axes(panel: Panel) -> dict[str, Any]:
    lines = panel.chart == "lines"
    layers = []
    for layer in panel.layers:
        axis, *split = [_group(group) for group in layer.groups]
        layers.append(
            {
                "type": "line" if lines else "bar_horizontal",
                "data_source": _source(layer, panel),
                "x": axis,
                "y": [_metric(metric) for metric in layer.metrics],
                **({"breakdown_by": split[0]} if split else {}),
            }
        )
    untitled = {"title": {"visible": False}}
    if not lines:
        return {"axis": {"x": untitled, "y": untitled}, "legend": {"visibility": "hidden"}, "layers": layers}
    # Kibana treats a time column without this scale as text. "fit": see the same choice in lens.py.
    axis = {"x": untitled | {"scale": "temporal"}, "y": untitled | {"domain": {"type": "fit"}}}
    legend = {"visibility": "visible", "position": "bottom", "layout": {"type": "list"}}
    return {"axis": axis, "legend": legend, "layers": layers}


def _source(layer: Layer, panel: Panel) -> dict[str, str]:
    return {"type": "esql", "query": query(layer, panel)}


def _group(group: GroupBy) -> dict[str, Any]:
    return {"column": _BUCKET if group.kind == "time" else group.name, "label": group.label}


def _metric(metric: Metric) -> dict[str, Any]:
    column: dict[str, Any] = {"column": metric.name, "label": metric.label}
    if metric.number == "percent":
        return column | {"format": {"type": "percent", "decimals": 2}}
    if metric.number == "number":
        return column | {"format": {"type": "number", "decimals": 0}}
    return column
