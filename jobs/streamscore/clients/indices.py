"""What stands behind the name of an index: what makes it unfit for documents that a replay must find again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.errors import RefusedError, ServerError
from streamscore.schema import ADDED_FIELDS

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_NO_PIPELINE: Final = "_none"
_DISK_FULL: Final = frozenset({"12", "13"})
"""Ids of the blocks that Elasticsearch sets when a disk is full, and takes away by itself when there is room again."""


class Block(NamedTuple):
    """A block that keeps Elasticsearch from writing."""

    place: str
    """What is blocked: ``the index 'ml'`` or ``the cluster``."""
    reason: str
    """Elasticsearch's description."""
    passes: bool
    """Whether Elasticsearch takes the block away by itself."""

    def __str__(self) -> str:
        way_out = (
            "make room on the disks of its nodes"
            if self.passes
            else "take it away (index.blocks.* or cluster.blocks.* set to null; a closed index: _open)"
        )
        return f"{self.place} is blocked: {self.reason}; {way_out}"


def require_one(name: str, found: Mapping[str, Mapping[str, Any]], url: str) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the description of the one index that a name stands for.

    Args:
        name: name of an index or an alias.
        found: Elasticsearch's answer, by index.
        url: the server's address, for the message.

    Raises:
        RefusedError: the name is an alias of several indices.
    """
    if len(found) != 1:
        raise RefusedError(
            f"{name!r} at {url} is an alias of {len(found)} indices ({', '.join(sorted(found))}): a replayed batch "
            "could write a document to two of them. Name one index, or an alias of one"
        )
    ((index, entry),) = found.items()
    return index, entry


def fault(name: str, index: str, entry: Mapping[str, Any]) -> str | None:
    """Return what makes an index unfit, with the way out; None if it is fit.

    Args:
        name: the configured name, which may be an alias.
        index: the name of the index.
        entry: Elasticsearch's description of the index: aliases, mappings, settings.
    """
    settings = entry.get("settings", {}).get("index", {})
    if "data_stream" in entry:
        return (
            f"{name!r} is a data stream, which takes no document twice, so that no batch could be replayed. Name an "
            "index that no template with data_stream matches"
        )
    if name != index and entry.get("aliases", {}).get(name, {}).get("is_write_index"):
        return _rolls_over(name)
    if settings.get("lifecycle", {}).get("rollover_alias") == name:
        return _rolls_over(name)
    return _changed_on_the_way(settings, entry.get("mappings", {}))


def require_fields(name: str, mapping: Mapping[str, Any], wanted: Mapping[str, Any], url: str) -> None:
    """Compare the mapping of an index with the fields of the documents; fields of later versions may be missing.

    Args:
        name: name of the index.
        mapping: its mapping.
        wanted: the fields.
        url: the server's address, for the message.

    Raises:
        ServerError: the index cannot hold the documents.
    """
    found = mapping.get("properties", {})
    wrong = [
        f"{field} is {found.get(field, {}).get('type', 'missing')}, expected {kind['type']}"
        for field, kind in wanted.items()
        if (field in found or field not in ADDED_FIELDS) and found.get(field, {}).get("type") != kind["type"]
    ]
    if wrong:
        raise ServerError(
            f"the index {name!r} at {url} cannot hold what is to be written: {'; '.join(wrong)}. "
            "Choose another (elasticsearch.index, .rejected_index, .status_index, .quality_index), or delete it if "
            "nobody needs it"
        )


def _rolls_over(name: str) -> str:
    return (
        f"{name!r} is a rollover alias (is_write_index): after a rollover a replayed batch would write its documents a "
        "second time, to the next index. Name an index that does not roll over"
    )


def _changed_on_the_way(settings: Mapping[str, Any], mapping: Mapping[str, Any]) -> str | None:
    """Return what would keep documents from arriving as they are sent."""
    for key in ("default_pipeline", "final_pipeline"):
        pipeline = settings.get(key, _NO_PIPELINE)
        if pipeline != _NO_PIPELINE:
            return (
                f"its {key} {pipeline!r} could change, drop or redirect documents. Set index.{key} to null or "
                f"{_NO_PIPELINE!r}"
            )
    if mapping.get("_routing", {}).get("required"):
        return "it requires a routing value, which the documents do not have. Set _routing.required to false"
    if mapping.get("_source", {}).get("enabled") in {False, "false"}:
        return "it does not keep the documents' _source, which later batches add to. Remove _source.enabled"
    return None


def blocks(server: Client, names: list[str]) -> Iterator[Block]:
    """Yield the blocks that keep Elasticsearch from writing to some indices, of which some may be missing."""
    present = server.indices.get_alias(index=names, ignore_unavailable=True).body  # by index, whatever its alias
    found = server.cluster.state(metric="blocks")["blocks"]
    places = {"the cluster": found.get("global", {})}
    places |= {f"the index {name!r}": found.get("indices", {}).get(name, {}) for name in present}
    for place, entries in places.items():
        for number, entry in entries.items():
            if {"write", "metadata_write", "read"} & set(entry["levels"]):
                yield Block(place, entry["description"], number in _DISK_FULL)


def template_fault(server: Client, name: str) -> str | None:
    """Return what a template would make of a missing index that makes it unfit; None if it would be fit.

    Only composable templates are looked at, without their component templates' order: the index itself is checked
    when it is created.
    """
    templates = [
        entry
        for entry in server.indices.get_index_template()["index_templates"]
        if any(fnmatchcase(name, pattern) for pattern in _patterns(entry["index_template"]))
    ]
    if not templates:
        return None
    first = max(templates, key=lambda entry: entry["index_template"].get("priority", 0))
    if "data_stream" in first["index_template"]:
        return of_template(name, f"the template {first['name']!r} makes data streams only")
    made = server.indices.simulate_index_template(name=name).get("template", {})
    reason = fault(name, name, made)
    return (
        None if reason is None else of_template(name, f"the template {first['name']!r} would make it unfit: {reason}")
    )


def of_template(name: str, reason: str) -> str:
    """Return the message about a template that matches the name of an index."""
    return (
        f"the index {name!r} cannot be created: {reason}. Take its name out of the template's index_patterns, or "
        "choose another name"
    )


def _patterns(template: Mapping[str, Any]) -> list[str]:
    patterns = template["index_patterns"]
    return [patterns] if isinstance(patterns, str) else list(patterns)
