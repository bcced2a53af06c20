"""Import the dashboard, its data views and the alert rule into a Kibana, in the format of its version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from streamscore.config import Config
from streamscore.errors import ServerError
from streamscore.kibana import alert, dashboards_api, panels, saved_objects
from streamscore.kibana.client import Kibana, json_of

_KINDS: Final = {"index-pattern": "data view", "lens": "chart", "visualization": "text", "dashboard": "dashboard"}

_ACTION_KEYS: Final = frozenset(
    {"id", "group", "params", "frequency", "uuid", "alerts_filter", "use_alert_data_for_template"}
)
"""Fields of an action that an update of a rule accepts; Kibana's answer has more."""


class Change(NamedTuple):
    """A change that the import made."""

    did: str
    kind: str
    title: str

    def __str__(self) -> str:
        return f"{self.did} {self.kind}: {self.title}"


def run(config: Config, *, with_alert: bool = True) -> Iterator[Change]:
    """Import everything; a repeated import updates the objects.

    Yields:
        Each change as soon as it is made.

    Raises:
        ServerError: Kibana cannot be reached, is too old, refuses the credentials or an object.
    """
    with closing(Kibana(config.kibana)) as kibana:
        version, text = kibana.version()
        if version < saved_objects.OLDEST:
            oldest = ".".join(map(str, saved_objects.OLDEST))
            raise ServerError(f"Kibana at {config.kibana.url} is {text}: the dashboard needs {oldest} or later")
        kibana.require_space()
        if version >= dashboards_api.OLDEST:
            yield from _import_objects(kibana, saved_objects.data_views(config, kibana.prefix))
            yield _put_dashboard(kibana, dashboards_api.build(config))
        else:
            yield from _import_objects(kibana, saved_objects.build(config, kibana.prefix))
        if with_alert:
            yield _put_rule(kibana, config, version)


def _import_objects(kibana: Kibana, objects: list[dict[str, Any]]) -> Iterator[Change]:
    file = ("streamscore.ndjson", saved_objects.lines(objects).encode(), "application/ndjson")
    path = "/api/saved_objects/_import"
    answer = json_of(kibana.ask_space("POST", path, params={"overwrite": "true"}, files={"file": file}))
    for done in answer.get("successResults", []):
        did = "updated" if done.get("overwrite") else "created"
        yield Change(did, _KINDS.get(done["type"], done["type"]), done.get("meta", {}).get("title", done["id"]))
    if not answer.get("success"):
        faults = [
            f"{fault['type']} {fault['id']}: {_fault(fault.get('error', {}))}" for fault in answer.get("errors", [])
        ]
        raise ServerError(f"Kibana at {kibana.settings.url} did not import {'; '.join(faults) or 'the objects'}")


def _put_dashboard(kibana: Kibana, body: dict[str, Any]) -> Change:
    answer = kibana.ask_space("PUT", f"/api/dashboards/{kibana.prefix}", json=body)
    return Change("created" if answer.status_code == HTTPStatus.CREATED else "updated", "dashboard", panels.TITLE)


def _put_rule(kibana: Kibana, config: Config, version: tuple[int, int]) -> Change:
    """Create the rule, or update an existing one but for its actions and its on-off switch."""
    if not alert.supported(version):
        return Change("left out", "alert rule", f"{alert.NAME} (needs Kibana 8.19, or 9.1 or later)")
    path = f"/api/alerting/rule/{alert.rule_id(config.kibana.space)}"
    answer = kibana.ask_space("POST", path, {HTTPStatus.CONFLICT}, json=alert.build(config))
    if answer.status_code != HTTPStatus.CONFLICT:
        return Change("created", "alert rule", alert.NAME)
    actions = json_of(kibana.ask_space("GET", path)).get("actions", [])
    kept = [{key: value for key, value in action.items() if key in _ACTION_KEYS} for action in actions]
    kibana.ask_space("PUT", path, json={**alert.changeable(config), "actions": kept})
    return Change("updated", "alert rule", alert.NAME)


def _fault(error: Mapping[str, Any]) -> str:
    detail = error.get("message") or error.get("references") or ""
    return f"{error.get('type', 'unknown')} {detail}".strip()
