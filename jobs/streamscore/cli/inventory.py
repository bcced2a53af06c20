"""The inventory of models: list and check the configured models, and move their aliases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

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

    from streamscore.config.models import Trust


class Entry(NamedTuple):
    """A configured model; ``note`` has the reason if there is no version."""

    model: Model
    version: str | None
    metrics: dict[str, float]
    note: str
    refused: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the model's part of --json, which the command's help describes."""
        return {
            "name": self.model.name,
            "uri": self.model.uri,
            "version": self.version,
            "metrics": self.metrics,
            "refused": self.refused,
            "note": self.note,
        }

    def row(self) -> tuple[str, str, str]:
        """Return the model's name, its address, and a text with version, metrics and note."""
        version = f"version {self.version}" if self.version else ""
        texts = (version, described(self.metrics), self.note)
        return self.model.name, f"{self.model.uri} ", ", ".join(text for text in texts if text)


def entries(config: Config) -> Iterator[Entry]:
    """Yield every configured model with its version and the metrics of its manifest; no JVM is started."""
    for model in config.models:
        if not models.readable_without_spark(model):
            yield Entry(model, None, {}, "on a file system that only Spark reaches")
            continue
        try:
            version, inspected = models.inspect(config, model)
        except StreamscoreError as error:
            yield Entry(model, None, {}, str(error), refused=True)
        else:
            manifest = inspected.manifest
            yield Entry(model, version, manifest.metrics if manifest else {}, "" if manifest else "no manifest")


def chosen(config: Config, target: str, trust: Trust | None) -> Model:
    """Return the configured model with a name or an address; for any other address, a new entry.

    Args:
        config: the configuration.
        target: the name or the address.
        trust: required proof of the model's files, instead of the entry's; None: the entry's.

    Raises:
        ConfigError: a signature is required, but the configuration has no public key.
    """
    configured = next((model for model in config.models if target in {model.name, model.uri}), None)
    model = configured or Model(name="model", uri=target)
    if trust == "signed" and not config.signatures.public_keys:
        raise ConfigError("signatures.public_keys names no key, so no signature can be verified")
    return model if trust is None else model.model_copy(update={"trust": trust})


def check(config: Config, model: Model, *, files_only: bool) -> Iterator[tuple[str, str]]:
    """Take a model through the gate and yield the findings, each as a subject and a text.

    Unless ``files_only`` is set, this starts a Spark session and runs Spark jobs.

    Args:
        config: the configuration.
        model: the model.
        files_only: check the files only, without a JVM if the files can be read without Spark.

    Raises:
        ModelError: the model is refused.
        ServerError: the registry does not answer.
        SetupError: there is no Java, or a jar is missing.
    """
    spark = None if files_only and models.readable_without_spark(model) else _session(config)
    try:
        version, inspected = models.inspect(config, model, spark)
        yield "version", version
        if model.trust == "signed":
            yield "signature", "of one of the public keys"
        yield from _findings(inspected)
        if files_only or spark is None:
            return
        served = models.load_one(spark, config, model)
        yield "loads", f"{served.size:,} features, {served.classes} classes"
        if inspected.manifest is None:
            yield "predicts", "it runs; without golden rows nothing says what it should predict"
        else:
            yield "predicts", f"{len(inspected.manifest.golden)} golden rows reproduce"
    finally:
        if spark is not None:
            spark.stop()


def promote(config: Config, name: str, version: str) -> str:
    """Move a configured model's alias to a version whose files pass the gate.

    Args:
        config: the configuration.
        name: the model's name in the configuration.
        version: the version in the registry.

    Returns:
        A line of text with the version before and after.

    Raises:
        ConfigError: no configured model has this name.
        ModelError: the version is refused or absent, or the model's address has no alias.
        ServerError: the registry does not answer.
    """
    model = configured(config, name)
    candidate = registry.version_of(model.uri, version)
    models.inspect(config, model.model_copy(update={"uri": candidate}))
    before, after = registry.promote(config, model.uri, version)
    return f"{model.uri}: version {before or 'none'} -> {after}"


def rollback(config: Config, name: str) -> str:
    """Move a configured model's alias back to the previous version and return a line of text with both.

    Raises:
        ConfigError: no configured model has this name.
        ModelError: there is no previous version, or the model's address has no alias.
        ServerError: the registry does not answer.
    """
    model = configured(config, name)
    before, after = registry.rollback(config, model.uri)
    return f"{model.uri}: version {before} -> {after}"


def configured(config: Config, name: str) -> Model:
    """Return the configured model of a name.

    Raises:
        ConfigError: no configured model has this name.
    """
    for model in config.models:
        if model.name == name:
            return model
    raise ConfigError(f"no model {name!r} in the configuration; there are {', '.join(m.name for m in config.models)}")


def _findings(inspected: Inspected) -> Iterator[tuple[str, str]]:
    """Yield the findings from a model's files and manifest."""
    manifest = inspected.manifest
    signed = "as in the manifest" if manifest else "no manifest"
    yield "files", f"{len(inspected.hashes)}, {inspected.size:,} bytes, {signed}"
    yield "stages", ", ".join(stage.class_name.rpartition(".")[2] for stage in inspected.stages)
    yield "reads", ", ".join(inspected.inputs)
    if manifest is None:
        return
    versions = manifest.versions
    yield "trained", f"streamscore {versions.streamscore}, Spark {versions.spark}, Java {versions.java}"
    for subject, values in (("metrics", manifest.metrics), ("origin", manifest.origin)):
        if values:
            yield subject, described(values)


def described(values: dict[str, float] | dict[str, str]) -> str:
    """Return names and values in one line, numbers with four decimal places."""
    return ", ".join(f"{name} {value if isinstance(value, str) else f'{value:.4f}'}" for name, value in values.items())


def _session(config: Config) -> SparkSession:
    """Return a local Spark session with the jobs' jars; the check of a model needs no cluster."""
    os.environ.update(submit.prepare(config))
    if config.spark.master is None:
        config = config.model_copy(update={"spark": config.spark.model_copy(update={"master": "local[*]"})})
    return session.create(config, "models", jars=artifacts.spark_jar_paths(config.local.artifacts_dir))
