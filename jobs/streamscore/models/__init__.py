"""Find the configured models, inspect their files, load them, and check that they fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamscore.config import Config, Model
from streamscore.config.fields import Field, ddl
from streamscore.errors import ModelError, ModelLoadError, StreamscoreError
from streamscore.models import checks, columns, gate, registry, saved
from streamscore.models.checks import Example
from streamscore.models.gate import Inspected
from streamscore.models.gate import manifest as manifests
from streamscore.models.gate import signature as signatures
from streamscore.models.gate.files import Files, LocalFiles
from streamscore.models.gate.manifest import MANIFEST
from streamscore.models.gate.remote import HadoopFiles
from streamscore.models.gate.signature import SIGNATURE
from streamscore.scoring import served
from streamscore.scoring.served import ServedModel
from streamscore.spark.errors import reason
from streamscore.system.console import log
from streamscore.system.paths import as_spark_takes, is_local, local_path

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import SparkSession

    from streamscore.models.saved import Classes

_PATTERN = re.compile(r"[,*?\[\]{}\\]")
_ANY_MEMORY = 1 << 50
"""Where a model is signed, its size does not matter: what may be loaded is for the job to say that loads it."""


@dataclass(frozen=True)
class _Found:
    """The location of one version of a model."""

    files: Files
    path: str
    """Address of the model's folder for Spark."""
    origin: str
    """Address of this version."""
    version: str | None
    """The registry's version; None for a plain folder."""
    manifest_sha256: str | None = None
    """The sha256 of the registered manifest; None if unknown."""
    is_registered: bool = False
    """Whether the version is in a model registry, which must know the manifest's digest."""


def load(spark: SparkSession, config: Config, recorded: Sequence[Mapping[str, str]] | None = None) -> list[ServedModel]:
    """Find and load every configured model and check that they fit each other and the messages.

    Args:
        spark: the session.
        config: the configuration.
        recorded: the recorded models of the previous run, if any: a model whose alias points to a refused version keeps
            its recorded version, as without the restart.

    Raises:
        ModelError: a model is absent or refused by the gate, is not a classifier on the messages' features, or was
            trained with another number of features than the other models or ``message.size``.
        ServerError: the registry cannot be reached.
    """
    try:
        return _loaded(spark, config, config.models)
    except ModelError as error:
        before = [_before(config, model, recorded or ()) for model in config.models]
        if not any(before):
            raise
        pairs = zip(config.models, before, strict=True)
        with suppress(ModelError):  # the first error is more specific
            kept = _loaded(spark, config, [earlier or model for model, earlier in pairs])
            in_use = ", ".join(f"{model.name} {model.version}" for model in kept)
            log.warning("%s\nThe versions that were in use before go on: %s", error, in_use)
            return kept
        raise


def _loaded(spark: SparkSession, config: Config, models: Sequence[Model]) -> list[ServedModel]:
    loaded = [load_one(spark, config, model) for model in models]
    require_alike(config, loaded)
    return loaded


def _before(config: Config, model: Model, recorded: Sequence[Mapping[str, str]]) -> Model | None:
    """Return a model at its recorded version, if its address is an alias.

    Raises:
        ModelError: the alias does not exist, which is a fault of the configuration and not a refused version.
    """
    if not registry.is_alias(model.uri):
        return None
    registry.resolve(config, model.uri)
    uris = (
        entry["uri"]
        for entry in recorded
        if entry["name"] == model.name and registry.is_version_of(entry["uri"], model.uri)
    )
    return next((model.model_copy(update={"uri": uri}) for uri in uris), None)


def require_alike(config: Config, models: Sequence[ServedModel]) -> None:
    """Check that models fit each other.

    Raises:
        ModelError: messages have a vector, and the models were trained with different numbers of features; or two label
            indexers give a label different numbers.
    """
    if not config.message.label_values:
        saved.shared_label_values({model.name: model.label_values for model in models})
    for model in models[1:]:
        if model.size != models[0].size and not config.message.fields:
            raise _misfit(model, f"the model {models[0].name!r} has", models[0].size)


def load_one(spark: SparkSession, config: Config, model: Model) -> ServedModel:
    """Find one model, run the gate on it, load it, and check its predictions.

    Args:
        spark: the session.
        config: the configuration.
        model: the model's entry in the configuration.

    Raises:
        ModelError: the model is absent, refused, or does not fit ``message.size`` or ``message.fields``.
        ServerError: the registry cannot be reached.
    """
    with _found(config, model, spark) as found, _named(model):
        inspected = _inspected(config, found, model)
        pipeline, classes = _load(found, inspected)
        if gate.hashes(found.files, inspected) != inspected.hashes:
            raise ModelError(f"{found.files.location}: the folder has changed while it was loaded; try again")
        served = _served(model, found, inspected, pipeline, config.message.size, config.message.columns, classes)
        if inspected.manifest is not None:
            checks.require_same(spark, served, inspected.manifest)
        checks.require_steady(spark, served)
        # The manifest's rows have the label indexer's numbers.
        served = saved.renumbered(served, config.message.label_values)
    if config.message.size not in {None, served.size}:
        raise _misfit(served, "message.size says", config.message.size)
    return served


def load_recorded(
    spark: SparkSession, config: Config, recorded: Sequence[Mapping[str, str]], record: str
) -> list[ServedModel]:
    """Load the models that an unfinished batch was started with.

    Args:
        spark: the session.
        config: the configuration.
        recorded: the identities of the models, as of ``ServedModel.identity``.
        record: the file with these identities, for the error message.

    Raises:
        ModelError: a model is gone or has changed since.
        ServerError: the registry cannot be reached.
    """
    found = []
    for entry in recorded:
        begun = f"a batch was begun with version {entry['version']} of the model {entry['name']!r}"
        way_out = f"put it back, or delete {record} to finish the batch with the present models"
        settings = {key: entry[key] for key in ("name", "uri", "trust")}
        try:
            model = load_one(spark, config, Model.model_validate(settings))
        except ModelError as error:
            raise ModelError(f"{begun}, which is no longer available: {way_out}\n{error}") from None
        if model.version != entry["version"]:
            raise ModelError(f"{begun}, but {entry['uri']} is now version {model.version}: {way_out}")
        found.append(model)
    return found


def readable_without_spark(model: Model) -> bool:
    """Return whether a model's files can be read without Spark."""
    return model.uri.startswith(registry.SCHEMES) or is_local(model.uri)


def inspect(config: Config, model: Model, spark: SparkSession | None = None) -> tuple[str, Inspected]:
    """Run the part of the gate that needs no JVM; return the model's version and the gate's findings.

    Args:
        config: the configuration.
        model: the model's entry in the configuration.
        spark: a session, for a model on a file system that only Spark can access.

    Raises:
        ModelError: the model is absent or refused, or only Spark can access its files and there is no session.
        ServerError: the registry cannot be reached.
    """
    with _found(config, model, spark) as found, _named(model):
        inspected = _inspected(config, found, model)
        return found.version or inspected.version, inspected


def sign(
    spark: SparkSession,
    folder: Path,
    examples: Sequence[Example],
    metrics: Mapping[str, float],
    origin: Mapping[str, str],
    fields: Sequence[Field] = (),
    *,
    margin_scale: float | None = None,
    key: Path | None = None,
) -> Path:
    """Write the manifest of a newly trained model into its folder, so that the gate can verify it at every load.

    A trusted manifest proves that the files are those of the training; only a signature proves the manifest's origin.
    An earlier manifest and its signature are replaced.

    Args:
        spark: the session.
        folder: the local folder that ``PipelineModel.save`` or MLflow wrote.
        examples: a few feature vectors, or rows of raw columns, whose current outputs the model must reproduce at
            every load.
        metrics: figures of the model's quality.
        origin: provenance, for instance ``data_sha256`` and ``git_commit``.
        fields: the raw columns; empty for a model on a vector.
        margin_scale: half the standard deviation of the margin on the test set, for a model without probabilities;
            greater than 0.
        key: file with an Ed25519 private key that signs the manifest; None: no signature.

    Returns:
        The manifest's path; the signature's file, if any, is beside it.

    Raises:
        ModelError: the gate would refuse this folder even with a manifest, or the key cannot be used.
    """
    folder = folder.resolve()
    for name in (MANIFEST, SIGNATURE):
        (folder / name).unlink(missing_ok=True)
    model = Model(name="model", uri=str(folder), trust="unsigned")
    found = _Found(LocalFiles(folder), as_spark_takes(folder), str(folder), None)
    inspected = gate.inspect(found.files, "unsigned", memory=_ANY_MEMORY)
    pipeline, classes = _load(found, inspected)
    served = _served(model, found, inspected, pipeline, len(examples[0]), fields, classes)
    made = manifests.Manifest(
        versions=checks.versions(spark),
        stages=tuple(stage.class_name for stage in inspected.stages),
        inputs=inspected.inputs,
        fields=ddl(served.fields) if served.fields else None,
        num_features=served.size,
        labels=tuple(map(float, range(served.classes))),
        metrics=dict(metrics),
        margin_scale=margin_scale,
        origin=dict(origin),
        golden=checks.rows(spark, served, examples),
        files=inspected.hashes,
    )
    path = folder / MANIFEST
    path.write_text(manifests.text(made), encoding="utf-8")
    if key is not None:
        _write_signature(folder, key)
    return path


def add_signature(folder: Path, key: Path) -> Path:
    """Sign the manifest of a model whose files match it; return the signature's path. Needs no Spark.

    Args:
        folder: the model's folder on this machine, with its manifest.
        key: file with the Ed25519 private key, PEM without a password.

    Raises:
        ModelError: the gate refuses the folder, or the key cannot be used.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder; only a model in a folder of this machine can be signed")
    gate.inspect(LocalFiles(folder.resolve()), memory=_ANY_MEMORY)
    return _write_signature(folder, key)


def _write_signature(folder: Path, key: Path) -> Path:
    path = folder / SIGNATURE
    path.write_text(signatures.sign((folder / MANIFEST).read_bytes(), key), encoding="ascii")
    return path


@contextmanager
def _found(config: Config, model: Model, spark: SparkSession | None) -> Iterator[_Found]:
    """Yield a model's location; a model in a registry is downloaded to this machine until the context ends."""
    if model.uri.startswith(registry.SCHEMES):
        registered = registry.resolve(config, model.uri)
        with registry.downloaded(config, registered) as folder:
            yield _Found(
                LocalFiles(folder),
                as_spark_takes(folder),
                registered.uri,
                registered.version,
                registered.manifest_sha256,
                model.uri.startswith(registry.MODELS),
            )
        return
    if not readable_without_spark(model):
        if spark is None:
            raise ModelError(f"the model {model.name!r}: {model.uri} is on a file system that only Spark reaches")
        with _named(model):
            files = HadoopFiles(spark, model.uri)
        yield _Found(files, files.location, model.uri, None)
        return
    folder = local_path(model.uri).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"the model {model.name!r}: no folder at {model.uri}. Give the folder of a PipelineModel that Spark saved, "
            "or models:/name@alias"
        )
    folder = folder.resolve()
    yield _Found(LocalFiles(folder), as_spark_takes(folder), str(folder), None)


def _inspected(config: Config, found: _Found, model: Model) -> Inspected:
    pattern = _PATTERN.search(found.path)
    if pattern:
        raise ModelError(f"{found.path}: a path with {pattern[0]!a} is refused: Spark takes it for a pattern of paths")
    inspected = gate.inspect(found.files, model.trust, config.signatures.raw_keys, config.spark.driver_bytes)
    if found.is_registered and found.manifest_sha256 is None and model.trust != "unsigned":
        raise ModelError(
            f"{found.origin} has no tag {registry.MANIFEST_TAG}, so nothing says which manifest was registered. "
            "Register it with the tag, as docs/models.md shows, or set `trust: unsigned` in its entry of `models`"
        )
    if found.manifest_sha256 not in {None, inspected.manifest_sha256}:
        raise ModelError(
            f"{found.files.location}/{MANIFEST}: not the manifest that was registered with version {found.version}"
        )
    if not inspected.needed or not inspected.needed[-1].is_classifier:
        raise _no_classifier(found, inspected)
    return inspected


def _no_classifier(found: _Found, inspected: Inspected) -> ModelError:
    last = inspected.needed[-1].name if inspected.needed else "no stage"
    return ModelError(f"{found.origin} ends in {last}, which is not a classifier on a vector")


def _load(found: _Found, inspected: Inspected) -> tuple[PipelineModel, Classes]:
    path = f"{found.path}/{inspected.inner}".rstrip("/")
    if inspected.left_out:
        left_out = saved.described(inspected.left_out)
        log.info("%s: left out, for the prediction does not depend on it: %s", found.origin, left_out)
    return saved.load(path, inspected), saved.classes(path, inspected)


@contextmanager
def _named(model: Model) -> Iterator[None]:
    """Prefix every error about a model with the model's name."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"the model {model.name!r} is refused: {error}") from None
    except StreamscoreError:
        raise
    except Exception as error:  # noqa: BLE001 (Spark, Hadoop and py4j raise different errors for a damaged folder)
        raise ModelLoadError(
            f"the model {model.name!r} at {model.uri} cannot be loaded and applied: {reason(error)}"
        ) from None


def _served(
    model: Model,
    found: _Found,
    inspected: Inspected,
    pipeline: PipelineModel,
    told_size: int | None,
    fields: Sequence[Field],
    named: Classes,
) -> ServedModel:
    """Check that a pipeline is a classifier on the messages' features, and return it with its properties."""
    stages = pipeline.stages
    if not stages or not served.is_classifier(stages[-1]):
        raise _no_classifier(found, inspected)
    reads = columns.read(found.origin, inspected, fields)
    source = inspected.inputs[0]
    lengths = columns.lengths(stages, reads)
    known = len(reads) or served.size(stages, source)
    manifest = inspected.manifest
    size = known or (manifest.num_features if manifest is not None else told_size)
    if size is None:
        kinds = ", ".join(type(stage).__name__ for stage in stages)
        raise ModelError(
            f"{found.origin}: none of its stages says how many features it takes ({kinds}). Set message.size, or give "
            "it a manifest"
        )
    classes = served.classes(stages[-1])
    if manifest is not None and (size, classes) != (manifest.num_features, len(manifest.labels)):
        raise ModelError(
            f"{found.files.location}/{MANIFEST}: it says {manifest.num_features} features and "
            f"{len(manifest.labels)} labels, but the model has {size} and {classes}"
        )
    return ServedModel(
        model.name,
        found.version or inspected.version,
        pipeline,
        size,
        found.origin,
        model.trust,
        classes,
        source,
        reads,
        1.0 if manifest is None or manifest.margin_scale is None else manifest.margin_scale,
        (*named.order, *range(len(named.order), classes)) if named.order else (),
        lengths,
        named.label_values,
    )


def _misfit(model: ServedModel, origin: str, expected: int | None) -> ModelError:
    return ModelError(
        f"the model {model.name!r} (version {model.version}) was trained with {model.size} features, "
        f"but {origin} {expected}: no message can suit both. Choose models of one training run, "
        "or correct message.size"
    )
