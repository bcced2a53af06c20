"""The dashboard as saved objects (JSON lines) for Kibana 8.9 to 9.4, and the data views for every Kibana."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from streamscore.config import Config
from streamscore.kibana import lens, panels
from streamscore.kibana.panels import Grid, Panel
from streamscore.schema import TIME

OLDEST: Final = (8, 9)
"""Oldest supported Kibana, the version of the Lens objects: Kibana never imports objects of newer versions."""

_CORE_VERSION: Final = "8.8.0"
_TYPE_VERSIONS: Final = {"index-pattern": "8.0.0", "visualization": "8.0.0", "lens": "8.9.0", "dashboard": "8.7.0"}
_NO_QUERY: Final = json.dumps({"query": {"language": "kuery", "query": ""}, "filter": []})


def build(config: Config, prefix: str) -> list[dict[str, Any]]:
    """Return the data views, the charts, the text and the dashboard.

    Args:
        config: the configuration with the models and indices to show.
        prefix: prefix of every object's id.
    """
    charts = panels.panels(config)
    text = _object("visualization", f"{prefix}-text", _text(), [])
    shown = [_chart(panel, prefix) for panel in charts]
    return [*data_views(config, prefix), text, *shown, _dashboard(prefix, charts)]


def data_views(config: Config, prefix: str) -> list[dict[str, Any]]:
    """Return one data view per index, each of which matches its own index only."""
    indices = config.elasticsearch
    return [
        _object(
            "index-pattern",
            _data_view_id(prefix, index),
            {
                "title": index,
                "name": index,
                "timeFieldName": TIME,
                "fields": "[]",
                "fieldFormatMap": "{}",
                "runtimeFieldMap": "{}",
                "typeMeta": "{}",
            },
            [],
        )
        for index in (indices.index, indices.rejected_index, indices.status_index, indices.quality_index)
    ]


def lines(objects: Sequence[dict[str, Any]]) -> str:
    """Return objects in Kibana's import format: one JSON text per line."""
    return "".join(f"{json.dumps(entry, sort_keys=True, ensure_ascii=False)}\n" for entry in objects)


def _data_view_id(prefix: str, index: str) -> str:
    return f"{prefix}-{index}"


def _object(kind: str, name: str, attributes: dict[str, Any], references: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "id": name,
        "type": kind,
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": _CORE_VERSION,
        "typeMigrationVersion": _TYPE_VERSIONS[kind],
    }


def _chart(panel: Panel, prefix: str) -> dict[str, Any]:
    references = [
        {"type": "index-pattern", "id": _data_view_id(prefix, layer.index), "name": lens.reference_name(layer)}
        for layer in panel.layers
    ]
    return _object("lens", f"{prefix}-{panel.name}", lens.attributes(panel), references)


def _text() -> dict[str, Any]:
    parameters = {"fontSize": 12, "openLinksInNewTab": False, "markdown": panels.TEXT}
    return {
        "title": "What this shows",
        "description": "",
        "visState": json.dumps({"title": "What this shows", "type": "markdown", "params": parameters, "aggs": []}),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": {"searchSourceJSON": _NO_QUERY},
    }


def _dashboard(prefix: str, charts: Sequence[Panel]) -> dict[str, Any]:
    placed = [_placed("text", "visualization", panels.TEXT_GRID, titled=False)]
    placed += [_placed(panel.name, "lens", panel.grid, titled=panel.chart != "metric") for panel in charts]
    references = [
        {
            "type": panel["type"],
            "id": f"{prefix}-{panel['panelIndex']}",
            "name": f"{panel['panelIndex']}:{panel['panelRefName']}",
        }
        for panel in placed
    ]
    options = {"useMargins": True, "syncColors": False, "syncCursor": True, "syncTooltips": False}
    attributes = {
        "title": panels.TITLE,
        "description": panels.DESCRIPTION,
        "panelsJSON": json.dumps(placed),
        "optionsJSON": json.dumps(options | {"hidePanelTitles": False}),
        "timeRestore": True,
        "timeFrom": panels.FROM,
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": panels.REFRESH_MS},
        "kibanaSavedObjectMeta": {"searchSourceJSON": _NO_QUERY},
        "version": 1,
    }
    return _object("dashboard", prefix, attributes, references)


def _placed(name: str, kind: str, grid: Grid, *, titled: bool) -> dict[str, Any]:
    return {
        "type": kind,
        "gridData": {"x": grid.x, "y": grid.y, "w": grid.w, "h": grid.h, "i": name},
        "panelIndex": name,
        "embeddableConfig": {"enhancements": {}, "hidePanelTitles": not titled},
        "panelRefName": f"panel_{name}",
        "version": "8.9.0",
    }
