"""A panel as a Lens chart, the saved object of Kibana 8.9 to 9.4."""

from __future__ import annotations

from typing import Any

from streamscore.kibana import formula
from streamscore.kibana.panels import GroupBy, Layer, Metric, Panel
from streamscore.schema import TIME

TERMS = 20
"""Most values of a field in a chart: models, labels, reasons."""


def attributes(panel: Panel) -> dict[str, Any]:
    """Return the attributes of the panel's saved object."""
    query = " AND ".join(condition.kql for condition in panel.where)
    visualization_type, visualization = _visualization(panel)
    return {
        "title": panel.title,
        "description": "",
        "visualizationType": visualization_type,
        "state": {
            "datasourceStates": {"formBased": {"layers": {layer.name: _layer(layer) for layer in panel.layers}}},
            "visualization": visualization,
            "query": {"language": "kuery", "query": query},
            "filters": [],
        },
    }


def reference_name(layer: Layer) -> str:
    """Return the name of a layer's data view among the object's references, as Lens expects it."""
    return f"indexpattern-datasource-layer-{layer.name}"


def _layer(layer: Layer) -> dict[str, Any]:
    columns: dict[str, Any] = {group.name: _group_column(group, layer) for group in layer.groups}
    for metric in layer.metrics:
        columns |= _metric_columns(metric, " AND ".join(condition.kql for condition in layer.where))
    return {"columnOrder": list(columns), "columns": columns, "incompleteColumns": {}}


def _group_column(group: GroupBy, layer: Layer) -> dict[str, Any]:
    column: dict[str, Any] = {"label": group.label, "customLabel": True, "isBucketed": True}
    if group.kind == "time":
        parameters: dict[str, Any] = {"interval": "auto", "includeEmptyRows": True, "dropPartials": False}
        return column | {
            "operationType": "date_histogram",
            "dataType": "date",
            "scale": "interval",
            "sourceField": TIME,
            "params": parameters,
        }
    column |= {"dataType": group.type, "scale": "ordinal"}
    ranked = _ranked(layer)
    order = {"type": "column", "columnId": ranked.name} if ranked else {"type": "alphabetical"}
    parameters = {
        "size": TERMS,
        "orderBy": order,
        "orderDirection": "desc" if ranked else "asc",
        "otherBucket": False,
        "missingBucket": False,
        "parentFormat": {"id": "terms"},
    }
    return column | {"operationType": "terms", "sourceField": group.field, "params": parameters}


def _ranked(layer: Layer) -> Metric | None:
    """Return the metric to sort by, largest first: a count, or the newest time, which keeps new versions in sight."""
    first = layer.metrics[0]
    if first.operation == "count" and len(layer.groups) == 1:
        return first
    return next((metric for metric in layer.metrics if metric.operation == "max"), None)


def _metric_columns(metric: Metric, kql: str) -> dict[str, Any]:
    """Return the columns of a metric; a formula has one for each of its sums, and two of its own.

    Args:
        metric: the metric.
        kql: filter of a formula's documents, in addition to the panel's; empty: none.
    """
    column: dict[str, Any] = {
        "label": metric.label,
        "customLabel": True,
        "dataType": "date" if metric.number == "date" else "number",
        "isBucketed": False,
        "scale": "ratio",
    }
    style = {} if metric.number == "date" else {"format": _format(metric)}
    if metric.formula is not None:
        return _formula_columns(metric, metric.formula, column | {"params": style}, kql)
    parameters: dict[str, Any] = dict(style)
    if metric.operation == "count":
        column |= {"operationType": "count", "sourceField": "___records___"}
        parameters["emptyAsNull"] = False
    elif metric.operation == "last":
        column |= {
            "operationType": "last_value",
            "sourceField": metric.field,
            "filter": {"language": "kuery", "query": f"{metric.field}: *"},
        }
        parameters |= {"sortField": TIME, "showArrayValues": False}
    else:
        column |= {"operationType": metric.operation, "sourceField": metric.field}
        if metric.operation == "sum":
            parameters["emptyAsNull"] = False
    return {metric.name: column | {"params": parameters}}


def _formula_columns(metric: Metric, call: formula.Call, column: dict[str, Any], kql: str) -> dict[str, Any]:
    """Return the formula's column and the columns from which Lens computes it, with Lens's own names.

    Args:
        metric: the metric.
        call: the metric's formula.
        column: properties that the columns share, with the format of the result.
        kql: filter of the formula's documents; empty: none.
    """
    text, summed = formula.lens(call, kql), list(formula.sums(call))
    names = [f"{metric.name}X{number}" for number in range(len(summed) + 1)]
    part = column | {"label": f"Part of {text}"}
    chosen = {"filter": {"language": "kuery", "query": kql}} if kql else {}
    one = part | {"operationType": "sum", "params": {"emptyAsNull": False}} | chosen
    params = {"formula": text, "isFormulaBroken": False, **column["params"]}
    tree = formula.tree(call, iter(names), kql)
    return {
        metric.name: column | {"operationType": "formula", "params": params, "references": names[-1:]},
        **{name: one | {"sourceField": each.field} for name, each in zip(names, summed, strict=False)},
        names[-1]: part | {"operationType": "math", "params": {"tinymathAst": tree}, "references": names[:-1]},
    }


def _format(metric: Metric) -> dict[str, Any]:
    if metric.number == "percent":
        return {"id": "percent", "params": {"decimals": 2}}
    return {"id": "number", "params": {"decimals": 0}}


def _visualization(panel: Panel) -> tuple[str, dict[str, Any]]:
    """Return the chart's Lens type and state."""
    layer = panel.layers[0]
    metrics, groups = [metric.name for metric in layer.metrics], [group.name for group in layer.groups]
    single: dict[str, Any] = {"layerId": layer.name, "layerType": "data"}
    if panel.chart == "donut":
        ring = single | {
            "primaryGroups": groups,
            "metrics": metrics,
            "allowMultipleMetrics": len(metrics) > 1,
            "numberDisplay": "percent",
            "percentDecimals": 1,
            "categoryDisplay": "default",
            "legendDisplay": "show",
            "nestedLegend": False,
        }
        return "lnsPie", {"shape": "donut", "layers": [ring]}
    if panel.chart == "metric":
        split = {"breakdownByAccessor": groups[0]} if groups else {}
        return "lnsMetric", single | {"metricAccessor": metrics[0]} | split
    if panel.chart in {"lines", "bars"}:
        return "lnsXY", _axes(panel)
    transposed = groups[-1] if panel.chart == "pivot" else None
    columns = [{"columnId": name, "isTransposed": name == transposed} for name in [*groups, *metrics]]
    return "lnsDatatable", single | {"columns": columns}


def _axes(panel: Panel) -> dict[str, Any]:
    lines = panel.chart == "lines"
    series = "line" if lines else "bar_horizontal"
    layers: list[dict[str, Any]] = []
    for layer in panel.layers:
        axis, *split = [group.name for group in layer.groups]
        layers.append(
            {
                "layerId": layer.name,
                "layerType": "data",
                "seriesType": series,
                "xAccessor": axis,
                "accessors": [metric.name for metric in layer.metrics],
                **({"splitAccessor": split[0]} if split else {}),
            }
        )
    # On an axis from zero, accuracies close to each other would look like one line.
    extent = {"yLeftExtent": {"mode": "dataBounds"}} if lines else {}
    return {
        "preferredSeriesType": series,
        "legend": {"isVisible": lines, "position": "bottom"},
        "valueLabels": "hide" if lines else "show",
        "axisTitlesVisibilitySettings": {"x": False, "yLeft": False, "yRight": False},
        "layers": layers,
        **extent,
    }
