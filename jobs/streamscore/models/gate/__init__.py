"""The gate: the checks of a model's folder before Spark may load it, without running any of its code.

A folder that Spark ML saved is code: its metadata name the classes to load, and a stage may run SQL or import a Python
module. So the order is: links and unknown files are refused; the manifest's signature and hashes are checked; the
metadata are read here, in plain Python, and every stage's class must be on a list; the parquet files' footers, sizes
and tree nodes are checked. Only then does Spark load the folder.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from streamscore.errors import ModelError
from streamscore.models.gate import contents, stages
from streamscore.models.gate import manifest as manifests
from streamscore.models.gate import signature as signatures
from streamscore.models.gate.manifest import MANIFEST, Manifest
from streamscore.models.gate.parquet import REFERENCE_MEMORY
from streamscore.models.gate.signature import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamscore.config.models import Trust
    from streamscore.models.gate.files import Files
    from streamscore.models.gate.stages import Stage

SPARK_FOLDER: Final = "sparkml"
"""Folder of Spark's files inside MLflow's."""

_CHECKSUM = re.compile(r"(?P<folder>.*/)?\.(?P<of>[^/]+)\.crc")
_OF_A_MAC = re.compile(r"(.*/)?(\.DS_Store|\._[^/]*)")
_FOLDER_MARK: Final = "_$folder$"


@dataclass(frozen=True)
class Inspected:
    """The findings of the gate about an accepted folder."""

    inner: str
    """Folder of Spark's files inside the model's folder: ``sparkml/``, or empty."""
    stages: tuple[Stage, ...]
    """All stages in the folder, in order."""
    hashes: dict[str, str]
    """The sha256 of each of Spark's files, by its name inside their folder."""
    size: int
    """Total size of these files in bytes."""
    manifest: Manifest | None
    manifest_sha256: str | None

    @property
    def version(self) -> str:
        """A version for a model without one, derived from the files alone, wherever they are."""
        listed = "\n".join(f"{name} {digest}" for name, digest in sorted(self.hashes.items()))
        return hashlib.sha256(listed.encode()).hexdigest()[:12]

    @cached_property
    def needed(self) -> tuple[Stage, ...]:
        """The stages that the prediction depends on."""
        return stages.needed(self.stages)

    @property
    def left_out(self) -> tuple[Stage, ...]:
        """The stages that the prediction does not depend on, which are never loaded to score."""
        folders = {stage.folder for stage in self.needed}
        return tuple(stage for stage in self.stages if stage.folder not in folders)

    @property
    def label_indexer(self) -> tuple[Stage, int] | None:
        """The StringIndexer that turned the label's classes into numbers, and the place of the label's column in it."""
        label = self.needed[-1].label if self.needed else ""
        for stage in self.stages:
            if stage.is_string_indexer and label in stage.outputs:
                return stage, stage.outputs.index(label)
        return None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that the needed stages read but do not make themselves, in the order of their use."""
        made: set[str] = set()
        read: dict[str, None] = {}
        for stage in self.needed:
            read |= dict.fromkeys(name for name in stage.inputs if name not in made)
            made |= set(stage.outputs)
        return tuple(read)


def inspect(
    files: Files, trust: Trust = "manifest", public_keys: Sequence[bytes] = (), memory: int = REFERENCE_MEMORY
) -> Inspected:
    """Look at a model's folder; load nothing.

    Args:
        files: the folder.
        trust: ``signed`` also requires a signature of the manifest; ``unsigned`` lets a folder without a manifest pass,
            but one that is there is compared all the same.
        public_keys: the Ed25519 keys whose signatures count, each of 32 bytes.
        memory: heap of the driver that will load the model, in bytes; it limits what the model may unpack to.

    Raises:
        ModelError: the folder is refused; the message names the file and the reason.
    """
    inner = f"{SPARK_FOLDER}/" if files.is_folder(SPARK_FOLDER) else ""
    found = files.walk(inner)
    text = files.read(MANIFEST, manifests.MAX_BYTES) if files.has(MANIFEST) else None
    if text is None and trust != "unsigned":
        raise ModelError(
            f"{files.location}/{MANIFEST}: there is no manifest, so nothing says which files the training wrote. "
            "To accept a model that someone else saved, set `trust: unsigned` in its entry of `models`"
        )
    if trust == "signed" and text is not None:
        _require_signature(files, text, public_keys)
    manifest = manifests.parse(text, f"{files.location}/{MANIFEST}") if text is not None else None
    names = _names(found, inner)
    if manifest is not None:
        _compare(f"{files.location}/{inner}", names, manifest)
    hashes = {name: files.sha256(inner + name) for name in names}
    if manifest is not None:
        _compare_hashes(f"{files.location}/{inner}", hashes, manifest)
    pipeline = stages.read(files, inner, names)
    contents.check(files, inner, {name: found[name] for name in names}, pipeline.trees, memory)
    inspected = Inspected(
        inner,
        pipeline.stages,
        hashes,
        sum(found[name] for name in names),
        manifest,
        hashlib.sha256(text).hexdigest() if text is not None else None,
    )
    if manifest is not None:
        _compare_contents(files.location, inspected, manifest)
    return inspected


def _require_signature(files: Files, manifest: bytes, public_keys: Sequence[bytes]) -> None:
    place = f"{files.location}/{SIGNATURE}"
    if not files.has(SIGNATURE):
        raise ModelError(
            f"{place}: there is no signature, and the model's entry says `trust: signed`. Add one with `streamscore "
            "models sign`, where the private key is"
        )
    signatures.require_valid(manifest, files.read(SIGNATURE, signatures.MAX_BYTES), public_keys, place)


def hashes(files: Files, inspected: Inspected) -> dict[str, str]:
    """Return the current sha256 of each of Spark's files, by its name in Spark's folder.

    Raises:
        ModelError: a link or an unknown file has appeared in the folder, or a file cannot be read.
    """
    names = _names(files.walk(inspected.inner), inspected.inner)
    return {name: files.sha256(inspected.inner + name) for name in names}


def _names(found: dict[str, int], inner: str) -> list[str]:
    """Return the names of Spark's files, without file systems' markers, the manifest and its signature."""
    return [name for name in _without_marks(found) if inner or name not in {MANIFEST, SIGNATURE}]


def _without_marks(sizes: dict[str, int]) -> list[str]:
    """Omit the files that file systems may add or drop, and that Spark never reads as data.

    These are Hadoop's checksums, its empty mark of success, object stores' empty marks of folders, and the files with
    which a Mac accompanies its own.
    """
    folders = {name[:place] for name in sizes for place, sign in enumerate(name) if sign == "/"}
    return [name for name, size in sizes.items() if not _is_mark(name, size, sizes, folders)]


def _is_mark(name: str, size: int, sizes: dict[str, int], folders: set[str]) -> bool:
    checksum = _CHECKSUM.fullmatch(name)
    if checksum is not None and f"{checksum['folder'] or ''}{checksum['of']}" in sizes:
        return True
    if size == 0 and (name.rpartition("/")[2] == "_SUCCESS" or name.removesuffix(_FOLDER_MARK) in folders):
        return True
    return _OF_A_MAC.fullmatch(name) is not None


def _compare(place: str, names: list[str], manifest: Manifest) -> None:
    extra = sorted(set(names) - manifest.files.keys())
    if extra:
        raise ModelError(f"{place}{extra[0]}: this file is not in the manifest; the training did not write it")
    missing = sorted(manifest.files.keys() - set(names))
    if missing:
        raise ModelError(f"{place}: the manifest lists the file {missing[0]!a}, which is not there")


def _compare_hashes(place: str, hashes: dict[str, str], manifest: Manifest) -> None:
    for name, digest in hashes.items():
        if digest != manifest.files[name]:
            raise ModelError(
                f"{place}{name}: its content has changed since the training (sha256 {digest[:12]}…, in the manifest "
                f"{manifest.files[name][:12]}…)"
            )


def _compare_contents(location: str, inspected: Inspected, manifest: Manifest) -> None:
    classes = tuple(stage.class_name for stage in inspected.stages)
    for what, found, of_manifest in (
        ("stages", classes, manifest.stages),
        ("inputs", inspected.inputs, manifest.inputs),
    ):
        if found != of_manifest:
            raise ModelError(
                f"{location}/{MANIFEST}: {what} says {', '.join(of_manifest)}, but the metadata say {', '.join(found)}"
            )
