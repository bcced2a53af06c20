"""The alert rule: a model's accuracy is below the baseline over enough labelled events."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final

from streamscore.config import Config
from streamscore.kibana import formula, panels
from streamscore.schema import TIME

NAME: Final = "streamscore: a model is worse than guessing"

_FIXED: Final = {"rule_type_id": ".es-query", "consumer": "stackAlerts"}
"""Fields that an existing rule cannot change."""


def supported(version: tuple[int, int]) -> bool:
    """Return whether a Kibana version has ES|QL rules with one alert per row: 8.19, and 9.1 and later."""
    return version >= (8, 19) and version != (9, 0)


def rule_id(space: str) -> str:
    """Return the rule's id, a UUID as Kibana requires, which differs between spaces because an id is global."""
    digest = hashlib.sha256(f"streamscore {space}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def build(config: Config) -> dict[str, Any]:
    """Return the body that creates the rule."""
    return {**_FIXED, **changeable(config), "actions": []}


def changeable(config: Config) -> dict[str, Any]:
    """Return the part of the rule that an import overwrites; its actions belong to the users."""
    settings = config.kibana.alert
    return {
        "name": NAME,
        "tags": ["streamscore"],
        "schedule": {"interval": "1m"},
        "params": {
            "searchType": "esqlQuery",
            "esqlQuery": {"esql": query(config)},
            "timeField": TIME,
            "timeWindowSize": settings.window_minutes,
            "timeWindowUnit": "m",
            "threshold": [0],
            "thresholdComparator": ">",
            "size": 100,
            "aggType": "count",
            "groupBy": "row",
            # The window slides, so events of the previous check still count.
            "excludeHitsFromPreviousRun": False,
        },
    }


def query(config: Config) -> str:
    """Return the ES|QL query with one row per model below the baseline; the rule adds the time window.

    The query reads the sums of the quality index, so it does not depend on the share of events with documents. The
    baseline is that of the labels 0 and 1, so models with more classes are excluded.
    """
    settings, baseline, accuracy = config.kibana.alert, panels.BASELINE_FORMULA, panels.ACCURACY_FORMULA
    summed = dict.fromkeys([*formula.fields(accuracy), *formula.fields(baseline)])
    steps = [
        f"FROM {config.elasticsearch.quality_index}",
        f"WHERE {panels.one_length(config).esql} AND {panels.TWO_CLASSES.esql}",
        f"STATS {', '.join(f'{field} = SUM({field})' for field in summed)} BY model",
        f"EVAL accuracy = {formula.esql(accuracy)}, baseline = {formula.esql(baseline)}",
        f"WHERE labelled >= {settings.min_labelled} AND accuracy < baseline - {settings.margin}",
        "KEEP model, accuracy, baseline, labelled",
    ]
    return "\n| ".join(steps)
