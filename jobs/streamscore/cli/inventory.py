"""The configured models as people look at them: which there are, whether the gate lets them pass, and their aliases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from streamscore import models
from streamscore.config import Config, Model
from streamscore.errors import ConfigError, StreamscoreError
from streamscore.launch import submit
from streamscore.local import artifacts
from streamscore.models import registry
from streamscore.models.gate import Inspected
from streamscore.spark import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Entry(NamedTuple):
    """A configured model; without a version, ``note`` says why there is none."""

    model: Model
    version: str | None
    metrics: dict[str, float]
    note: str
    is_fault: bool = False


def entries(config: Config) -> Iterator[Entry]:
    """Yield every configured model with what its manifest says; no JVM is started."""
    for model in config.models:
        if not models.readable_without_spark(model):
            yield Entry(model, None, {}, "on a file system that only Spark reaches")
            continue
        try:
            version, found = models.inspect(config, model)
        except StreamscoreError as error:
            yield Entry(model, None, {}, str(error), is_fault=True)
        else:
            manifest = found.manifest
            yield Entry(model, version, manifest.metrics if manifest else {}, "" if manifest else "no manifest")


def chosen(config: Config, target: str, *, unsigned: bool) -> Model:
    """Return the configured model of a name or an address, or, for another address, an entry as it would be.

    Args:
        config: the configuration.
        target: the name or the address.
        unsigned: whether to accept it without a manifest, whatever its entry says.
    """
    found = next((model for model in config.models if target in {model.name, model.uri}), None)
    model = found or Model(name="model", uri=target)
    return model.model_copy(update={"trust": "unsigned"}) if unsigned else model


def check(config: Config, model: Model, *, files_only: bool) -> Iterator[tuple[str, str]]:
    """Take a model through the gate and yield what is found, a subject and a text at a time.

    Args:
        config: the configuration.
        model: the model.
        files_only: stop where a JVM would be needed.

    Raises:
        ModelError: it is refused.
    """
    spark = None if files_only and models.readable_without_spark(model) else _session(config)
    try:
        version, found = models.inspect(config, model, spark)
        yield "version", version
        yield from _described(found)
        if files_only or spark is None:
            return
        served = models.load_one(spark, config, model)
        yield "loads", f"{served.size:,} features, {served.classes} classes"
        if found.manifest is None:
            yield "predicts", "it runs; without golden rows nothing says what it should predict"
        else:
            yield "predicts", f"{len(found.manifest.golden)} golden rows reproduce"
    finally:
        if spark is not None:
            spark.stop()


def promote(config: Config, name: str, version: str) -> str:
    """Move a configured model's alias to a version that the first part of the gate lets pass, and say so.

    Raises:
        ModelError: the version is refused or absent, or the model's address has no alias.
    """
    model = _configured(config, name)
    candidate = registry.version_of(model.uri, version)
    models.inspect(config, model.model_copy(update={"uri": candidate}))
    before, now = registry.promote(config, model.uri, version)
    return f"{model.uri}: version {before or 'none'} -> {now}"


def rollback(config: Config, name: str) -> str:
    """Move a configured model's alias back to the version before, and say so.

    Raises:
        ModelError: there is none, or the model's address has no alias.
    """
    model = _configured(config, name)
    before, now = registry.rollback(config, model.uri)
    return f"{model.uri}: version {before} -> {now}"


def _configured(config: Config, name: str) -> Model:
    for model in config.models:
        if model.name == name:
            return model
    raise ConfigError(f"no model {name!r} in the configuration; there are {', '.join(m.name for m in config.models)}")


def _described(found: Inspected) -> Iterator[tuple[str, str]]:
    manifest = found.manifest
    yield "files", f"{len(found.hashes)}, {found.size:,} bytes, {'as in the manifest' if manifest else 'no manifest'}"
    yield "stages", ", ".join(stage.class_name.rpartition(".")[2] for stage in found.stages)
    yield "reads", ", ".join(found.inputs)
    if manifest is None:
        return
    versions = manifest.versions
    yield "trained", f"streamscore {versions.streamscore}, Spark {versions.spark}, Java {versions.java}"
    for subject, told in (("metrics", manifest.metrics), ("origin", manifest.origin)):
        if told:
            yield subject, described(told)


def described(values: dict[str, float] | dict[str, str]) -> str:
    """Return names with their values, numbers to four digits, in one line."""
    return ", ".join(f"{name} {value if isinstance(value, str) else f'{value:.4f}'}" for name, value in values.items())


def _session(config: Config) -> SparkSession:
    """Return a session of this process, of the same Spark as the jobs': checking one model takes no cluster."""
    os.environ.update(submit.prepare(config))
    if config.spark.master is None:
        config = config.model_copy(update={"spark": config.spark.model_copy(update={"master": "local[*]"})})
    return session.create(config, "models", artifacts.spark_jar_paths(config.local.artifacts_dir))
