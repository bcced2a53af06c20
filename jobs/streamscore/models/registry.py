"""Registered models in MLflow: find and download versions, and move the alias that says which one serves."""

from __future__ import annotations

import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from streamscore.config import Config
from streamscore.errors import ModelError
from streamscore.models import artifacts
from streamscore.models.mlflow_connection import absent_is_model_error, connected, imported

_URI = re.compile(r"^models:/(?P<name>[^@/]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))$")
_VERSION: Final = re.compile("[0-9]+")
_LATEST: Final = "latest"
_RUN_URI = re.compile(r"^runs:/(?P<run>[0-9a-f]{32})/(?P<path>.+)$")
MODELS: Final = "models:/"
"""Prefix of the address of a registered version or alias."""
SCHEMES: Final = (MODELS, "runs:/")
"""Prefixes of the address of a model in MLflow."""

MANIFEST_TAG: Final = "manifest_sha256"
"""Tag of a version with its manifest's digest. No tag's name contains a dot, which Unity Catalog refuses."""


class Registered(NamedTuple):
    """One version of a model, with an address that always resolves to this version."""

    name: str
    version: str
    uri: str
    manifest_sha256: str | None = None
    """The sha256 of the registered manifest; None if the version was registered without a manifest."""
    source: str = ""
    """Where the version was registered from, as MLflow notes it; empty for a model of a run."""


def import_ahead(config: Config) -> None:
    """Import MLflow, which takes seconds, in a background thread if a model is in the registry."""
    if any(model.uri.startswith(SCHEMES) for model in config.models):
        threading.Thread(target=imported, daemon=True).start()


def is_alias(uri: str) -> bool:
    """Return whether an address may move to another version: it has an alias or a stage, or is the latest version."""
    match = _URI.match(uri)
    return match is not None and not (match["version"] and _VERSION.fullmatch(match["version"]))


def is_version_of(uri: str, alias: str) -> bool:
    """Return whether an address is that of a version of the model of another address."""
    match, other = _URI.match(uri), _URI.match(alias)
    return match is not None and other is not None and match["name"] == other["name"] and not is_alias(uri)


def resolve(config: Config, uri: str) -> Registered:
    """Resolve an address to a version, as MLflow does.

    Args:
        config: the configuration, with the registry's address.
        uri: ``models:/name@alias``, ``models:/name/version``, ``models:/name/latest``, ``models:/name/Stage`` or
            ``runs:/run/path``.

    Raises:
        ModelError: the address has another form, or the model does not exist.
        ServerError: MLflow cannot be reached.
    """
    match, run = _URI.match(uri), _RUN_URI.match(uri)
    with connected(config) as mlflow:
        client = mlflow.MlflowClient()
        with absent_is_model_error(config, uri):
            if run is not None:
                client.get_run(run["run"])
                return Registered(run["path"], run["run"][:12], uri)
            if match is None:
                raise ModelError(
                    f"{uri}: expected models:/name@alias, models:/name/version, models:/name/latest, "
                    "models:/name/Stage or runs:/run/path"
                )
            if match["alias"]:
                return registered(client.get_model_version_by_alias(match["name"], match["alias"]))
            if _VERSION.fullmatch(match["version"]):
                return registered(client.get_model_version(match["name"], match["version"]))
            return _latest(client, uri, match["name"], match["version"])


def _latest(client: Any, uri: str, name: str, suffix: str) -> Registered:
    """Return the latest version of a model, or the latest one in a stage.

    Raises:
        ModelError: there is no such version.
    """
    stages = None if suffix.lower() == _LATEST else [suffix]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated in favour of aliases
        found = client.get_latest_versions(name, stages)
    if not found:
        missing = "no version" if stages is None else f"no version in the stage {suffix!r}"
        raise ModelError(f"{uri}: the model {name!r} has {missing}; an alias has the form models:/{name}@alias")
    return registered(max(found, key=lambda version: int(version.version)))


@contextmanager
def downloaded(config: Config, model: Registered) -> Iterator[Path]:
    """Download a model into a private temporary folder and yield it; the folder is deleted when the context ends.

    Raises:
        ModelError: the run has no such model, its files are out of reach, or it has no Spark flavour.
        ServerError: MLflow or its artifact store cannot be reached.
    """
    # A cluster's executors read the folder too, so it is in the state folder, which is in a volume on Databricks.
    scratch = config.state_dir / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="model-", dir=scratch) as folder:
        with connected(config) as mlflow, artifacts.fetching(model.uri, lambda: _place(mlflow, model)):
            path = Path(mlflow.artifacts.download_artifacts(model.uri, dst_path=folder))
            artifacts.require_files(path)
        artifacts.require_spark(path, model.uri)
        yield path


def _place(mlflow: Any, model: Registered) -> str:
    """Return the address of a model's files, as far as MLflow tells it."""
    if not model.source.startswith(MODELS):
        return model.source
    with suppress(Exception):  # it is for a message about another fault
        return str(mlflow.MlflowClient().get_logged_model(model.source.removeprefix(MODELS)).artifact_location)
    return ""


def exists(config: Config, uri: str) -> bool:
    """Return whether a registry address resolves to a model."""
    try:
        resolve(config, uri)
    except ModelError:
        return False
    return True


def version_of(uri: str, version: str) -> str:
    """Return the address of a version of the model of a ``models:/name@alias`` address.

    Raises:
        ModelError: the address has no alias.
    """
    return f"models:/{_aliased(uri)[0]}/{version}"


def promote(config: Config, uri: str, version: str) -> tuple[str | None, str]:
    """Move the alias of a ``models:/name@alias`` address to a version.

    Args:
        config: the configuration, with the registry's address.
        uri: the address with the alias.
        version: the version to move the alias to.

    Returns:
        The alias's previous version, if any, and its new one.

    Raises:
        ModelError: the address has no alias, or the version does not exist.
        ServerError: MLflow cannot be reached.
    """
    name, alias = _aliased(uri)
    with connected(config) as mlflow, absent_is_model_error(config, f"models:/{name}/{version}"):
        client = mlflow.MlflowClient()
        client.get_model_version(name, version)
        return move_alias(client, name, alias, version), version


def rollback(config: Config, uri: str) -> tuple[str, str]:
    """Move the alias of a ``models:/name@alias`` address back to its previous version.

    `streamscore` records that version when it moves an alias; without a record it is the next lower number.

    Returns:
        The version before the rollback, and the version after it.

    Raises:
        ModelError: the address has no alias, or there is no version to go back to.
        ServerError: MLflow cannot be reached.
    """
    name, alias = _aliased(uri)
    with connected(config) as mlflow, absent_is_model_error(config, uri):
        client = mlflow.MlflowClient()
        present = client.get_model_version_by_alias(name, alias)
        others = {str(found.version) for found in client.search_model_versions(f"name = '{name}'")}
        lower = sorted(int(other) for other in others if int(other) < int(present.version))
        recorded = present.tags.get(_before(alias))
        if recorded not in others and not lower:
            raise ModelError(f"{uri} is version {present.version}, and there is none before it")
        target = recorded if recorded in others else str(lower[-1])
        client.set_registered_model_alias(name, alias, target)
        return str(present.version), target


def move_alias(client: Any, name: str, alias: str, version: str) -> str | None:
    """Move an alias, record the previous version on the new one, and return the previous version.

    Args:
        client: MLflow's client of the registry.
        name: the registered name.
        alias: the alias to move.
        version: where it moves to.
    """
    before = client.get_registered_model(name).aliases.get(alias)
    if before is not None and str(before) != version:
        client.set_model_version_tag(name, version, _before(alias), str(before))
    client.set_registered_model_alias(name, alias, version)
    return None if before is None else str(before)


def _before(alias: str) -> str:
    return f"before_{re.sub('[^0-9A-Za-z]', '_', alias)}"


def _aliased(uri: str) -> tuple[str, str]:
    match = _URI.match(uri)
    if match is None or not match["alias"]:
        raise ModelError(f"{uri}: only an address of the form models:/name@alias has an alias to move")
    return match["name"], match["alias"]


def registered(version: Any) -> Registered:
    """Return a version, from MLflow's own object."""
    return Registered(
        version.name,
        str(version.version),
        f"models:/{version.name}/{version.version}",
        version.tags.get(MANIFEST_TAG),
        str(version.source or ""),
    )
