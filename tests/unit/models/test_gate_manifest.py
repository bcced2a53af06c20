"""The manifest: a folder that differs from it is refused, also on remote file systems."""

import json
import re
import shutil

import pytest
from folders import (
    MANIFEST,
    ML,
    OVR,
    PARQUET,
    SCALER,
    changed,
    exchanged,
    moved,
    refusal,
    replaced,
    rewritten,
    write_manifest,
    write_manifest_only,
    write_model,
)

from streamscore.errors import ModelError
from streamscore.models import gate
from streamscore.models.gate.files import LocalFiles
from streamscore.models.gate.remote import HadoopFiles


@pytest.fixture
def folder(tmp_path):
    """A valid model folder."""
    return write_model(tmp_path / "model")


def test_folder_with_a_manifest_passes(folder):
    """A folder with a manifest passes, with or without Hadoop's checksums and markers."""
    write_manifest(folder)
    (folder / "metadata" / "_SUCCESS").unlink()
    (folder / SCALER / "metadata" / ".part-00000.crc").unlink()
    found = gate.inspect(LocalFiles(folder))

    assert found.manifest.metrics == {"auc": 0.75}


def test_folder_without_a_manifest_is_refused_unless_its_entry_says_otherwise(folder):
    """Without a manifest a folder is refused, and the message names the setting that allows it."""
    assert refusal(folder, "manifest").startswith(f"{MANIFEST}: there is no manifest")
    assert "set `trust: unsigned`" in refusal(folder, "manifest")


MANIFESTS = {
    "changed file": (
        lambda f: (f / SCALER / "data" / PARQUET).write_bytes(b"PAR2"),
        f"{SCALER}/data/{PARQUET}: its content has changed since the training",
    ),
    "changed metadata": (
        lambda f: rewritten(f, "", "{"),
        "metadata/part-00000: its content has changed since the training",
    ),
    "file too many": (
        lambda f: shutil.copy(f / SCALER / "data" / PARQUET, f / SCALER / "data" / PARQUET.replace("00000", "00001")),
        f"{SCALER}/data/part-00001-.*: this file is not in the manifest",
    ),
    "file too few": (
        lambda f: (f / SCALER / "data" / PARQUET).unlink(),
        f": the manifest lists the file '{SCALER}/data/{PARQUET}', which is not there",
    ),
    "two files exchanged": (
        lambda f: exchanged(f / "metadata" / "part-00000", f / OVR / "metadata" / "part-00000"),
        ".*: its content has changed since the training",
    ),
    "linked manifest": (
        lambda f: moved(f / MANIFEST, f.parent / MANIFEST),
        f"{MANIFEST}: a link is refused",
    ),
    "folder in the manifest's place": (
        lambda f: replaced(f / MANIFEST, lambda path: path.mkdir()),
        f"{MANIFEST}/: an empty folder",
    ),
    "manifest that is not JSON": (
        lambda f: (f / MANIFEST).write_text("{"),
        f"{MANIFEST}: not a manifest: Invalid JSON",
    ),
    "huge manifest": (
        lambda f: (f / MANIFEST).write_text(" " * (17 << 20)),
        f"{MANIFEST}: it is longer than 16,777,216 bytes",
    ),
    "file outside of the folder": (
        lambda f: write_manifest_only(f, files={"../../etc/passwd": "0" * 64}),
        f"{MANIFEST}: not a manifest: files: .*'../../etc/passwd' is not a file inside the folder",
    ),
    "file by its full path": (
        lambda f: write_manifest_only(f, files={"/etc/passwd": "0" * 64}),
        f"{MANIFEST}: not a manifest: files: .*'/etc/passwd' is not a file inside the folder",
    ),
    "hash that is none": (
        lambda f: write_manifest_only(f, files={"metadata/part-00000": "*"}),
        f"{MANIFEST}: not a manifest: files.metadata/part-00000: ",
    ),
    "other stages": (
        lambda f: write_manifest_only(f, stages=[f"{ML}.feature.MaxAbsScalerModel"]),
        f"{MANIFEST}: stages says {ML}.feature.MaxAbsScalerModel, but the metadata say",
    ),
    "other column": (
        lambda f: write_manifest_only(f, inputs=["label"]),
        f"{MANIFEST}: inputs says label, but the metadata say features",
    ),
    "other format": (
        lambda f: write_manifest_only(f, format=2),
        f"{MANIFEST}: not a manifest: format: ",
    ),
    "unknown key": (
        lambda f: write_manifest_only(f, code="import os"),
        f"{MANIFEST}: not a manifest: code: ",
    ),
    "no golden rows": (
        lambda f: write_manifest_only(f, golden=[]),
        f"{MANIFEST}: not a manifest: golden: ",
    ),
    "golden row that is no number": (
        lambda f: write_manifest_only(f, metrics={"auc": float("nan")}),
        f"{MANIFEST}: not a manifest: metrics.auc: ",
    ),
    "golden row with half a vector": (
        lambda f: write_manifest_only(
            f, golden=[{"features": {"type": 0, "size": 4, "values": [1.0]}, "prediction": 1.0, "score": 0.5}]
        ),
        f"{MANIFEST}: not a manifest: golden.0.features: .*not a vector",
    ),
}


@pytest.mark.parametrize("trust", ["manifest", "unsigned"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_folder_that_is_not_as_its_manifest_says_is_refused(folder, name, trust):
    """A folder that differs from its manifest is refused, whatever the configured trust."""
    breaking, message = MANIFESTS[name]
    write_manifest(folder)
    breaking(folder)

    assert re.match(message, refusal(folder, trust)), refusal(folder, trust)


EVIL = {
    "SQLTransformer": (SCALER, f"{ML}.feature.SQLTransformer", "the SQL of an SQLTransformer could do anything"),
    "Python stage": (SCALER, "evil_stage.Evil", "the class 'evil_stage.Evil' is not on the list"),
    "SQLTransformer in a OneVsRest": (
        f"{OVR}/model_1",
        f"{ML}.feature.SQLTransformer",
        f"the class '{ML}.feature.SQLTransformer' is not on the list",
    ),
}


@pytest.mark.parametrize("name", EVIL)
def test_manifest_does_not_make_a_stage_safe(folder, name):
    """A manifest does not allow an unknown stage, because an attacker could write it."""
    stage, class_name, reason = EVIL[name]
    names = gate.inspect(LocalFiles(folder), "unsigned").hashes
    changed(folder, stage, **{"class": class_name})
    hashes = {path: LocalFiles(folder).sha256(path) for path in names}
    sound = write_model(folder.parent / "sound")
    manifest = write_manifest(sound, files=hashes)
    (folder / MANIFEST).write_text(json.dumps(manifest))

    assert refusal(folder, "manifest").startswith(f"{stage}/metadata/part-00000: {reason}")


def test_other_file_systems_are_read_to_the_same_end(spark, folder):
    """Hadoop's client sees the same files, except for the checksums that it hides."""
    write_manifest(folder)
    local, remote = LocalFiles(folder), HadoopFiles(spark, f"file:{folder}")

    assert gate.inspect(remote) == gate.inspect(local)
    assert remote.walk("stages/") == {
        name: size for name, size in local.walk("stages/").items() if not name.endswith(".crc")
    }


REMOTE = {
    "extra file": (lambda f: (f / "stages" / "evil.py").touch(), "stages/evil.py: an extra file"),
    "strange name": (lambda f: (f / "evil .py").touch(), "evil .py: a name with such characters"),
    "huge metadata": (
        lambda f: rewritten(f, OVR, '{"a": "' + "x" * (5 << 20) + '"}'),
        f"{OVR}/metadata/part-00000: it is longer than 4,194,304 bytes",
    ),
    "SQLTransformer": (
        lambda f: changed(f, SCALER, **{"class": f"{ML}.feature.SQLTransformer"}),
        f"{SCALER}/metadata/part-00000: the SQL of an SQLTransformer could do anything; allowed is only",
    ),
}


@pytest.mark.parametrize("name", REMOTE)
def test_strange_folder_on_another_file_system_is_refused(spark, folder, name):
    """The rules are the same on another file system."""
    breaking, message = REMOTE[name]
    breaking(folder)
    with pytest.raises(ModelError) as caught:
        gate.inspect(HadoopFiles(spark, f"file:{folder}"), "unsigned")

    assert re.match(message, str(caught.value).removeprefix(f"file:{folder}/"))


def test_absent_folder_on_another_file_system_is_refused(spark):
    """A missing remote folder is refused with its name."""
    with pytest.raises(ModelError, match="file:/nowhere/: there is no such folder"):
        gate.inspect(HadoopFiles(spark, "file:/nowhere"), "unsigned")


def test_number_of_files_on_another_file_system_has_an_end(spark, folder, monkeypatch):
    """The number of remote files is limited, too."""
    monkeypatch.setattr("streamscore.models.gate.remote.MAX_FILES", 5)
    with pytest.raises(ModelError, match="more than 5 files are refused"):
        gate.inspect(HadoopFiles(spark, f"file:{folder}"), "unsigned")
