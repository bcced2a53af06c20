"""What is known about a model's version before its alias is moved there: is it better than the present one?"""

from __future__ import annotations

from streamscore.cli import inventory
from streamscore.clients import comparison_reader, elasticsearch
from streamscore.clients.comparison_reader import Compared
from streamscore.config import Config
from streamscore.errors import ModelError, ServerError
from streamscore.models import registry
from streamscore.quality import comparison_text
from streamscore.system.console import log


def compared(config: Config, name: str, version: str, *, required: bool) -> Compared | None:
    """Return how a version of a model compares with the present one; None if the two were not compared.

    Args:
        config: the configuration.
        name: the model's name in the configuration.
        version: the version in the registry, served under whatever name.
        required: whether the comparison is needed; otherwise an Elasticsearch that does not answer is only reported.

    Raises:
        ConfigError: no configured model has this name.
        ModelError: the model's address has no alias.
        ServerError: the registry does not answer, or, if required, Elasticsearch.
    """
    uri = inventory.configured(config, name).uri
    candidate = registry.version_of(uri, version)
    if not config.elasticsearch.enabled:
        return None
    try:
        addresses = (registry.resolve(config, uri).uri, candidate)
    except ModelError:  # the alias points nowhere yet
        return None
    try:
        with elasticsearch.client(config.elasticsearch) as server:
            found = comparison_reader.all_of(server, config.elasticsearch)
    except ServerError as error:
        if required:
            raise
        log.warning("%s", error)
        return None
    return next((each for each in found if (each.champion_uri, each.challenger_uri) == addresses), None)


def described(config: Config, found: Compared | None, name: str, version: str) -> str:
    """Return in one line how a version compares with the present one.

    Args:
        config: the configuration.
        found: the comparison, if any.
        name: the model's name in the configuration.
        version: the version.
    """
    if found is None:
        return f"no comparison: version {version} of {name} did not score the same events as the present one"
    return comparison_text.line(found.pair, found.comparison, config.compare.margin)


def require_better(config: Config, found: Compared | None, name: str, version: str) -> None:
    """Require the verdict that a version is better than the present one.

    Args:
        config: the configuration.
        found: the comparison, if any.
        name: the model's name in the configuration.
        version: the version.

    Raises:
        ModelError: there is no such verdict.
    """
    if found is None or found.comparison.result(config.compare.margin) != "better":
        candidate = registry.version_of(inventory.configured(config, name).uri, version)
        raise ModelError(
            f"--if-better: there is no verdict that version {version} of {name} is better than the present one. Serve "
            f"it beside the present one, as a model of its own with the uri {candidate}, until there is one"
        )
