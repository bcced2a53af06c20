"""Handmade model folders in Spark's format, for tests that break them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamscore import __version__
from streamscore.errors import ModelError
from streamscore.models import gate
from streamscore.models.gate import manifest as manifests
from streamscore.models.gate.files import LocalFiles

ML = "org.apache.spark.ml"
SCALER = "stages/0_inner_1/stages/0_scaler_1"
OVR = "stages/1_ovr_1"
MANIFEST = "streamscore.json"
PARQUET = "part-00000-05cee0fd-583d-4b00-a6ea-161d894dda4b-c000.snappy.parquet"


def write_metadata(folder: Path, class_name: Any, uid: str, params: Any = None, **further: Any) -> None:
    """Write a stage's metadata."""
    metadata = {"class": class_name, "timestamp": 1, "sparkVersion": "3.5.7", "uid": uid, "paramMap": params or {}}
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "part-00000").write_text(json.dumps(metadata | {"defaultParamMap": {}} | further) + "\n")
    (folder / "metadata" / "_SUCCESS").touch()
    (folder / "metadata" / ".part-00000.crc").write_bytes(b"crc\0")


def write_data(folder: Path, name: str = "data") -> None:
    """Write a stage's data: a parquet file of one number."""
    (folder / name).mkdir()
    pq.write_table(pa.table({"value": [1.0]}), folder / name / PARQUET)
    (folder / name / "_SUCCESS").touch()


def write_pipeline(folder: Path, *uids: str, class_name: str = f"{ML}.PipelineModel", uid: str = "pipeline_1") -> None:
    """Write a pipeline's own metadata."""
    language = {"language": "Python"} if class_name.startswith("pyspark") else {}
    write_metadata(folder, class_name, uid, {"stageUids": list(uids)} | language)


def write_stage(folder: Path, class_name: str, uid: str, params: Any = None) -> None:
    """Write a stage with its data."""
    write_metadata(folder, class_name, uid, params)
    write_data(folder)


def write_one_vs_rest(folder: Path, uid: str, classes: int) -> None:
    """Write a OneVsRest of logistic regressions."""
    write_metadata(folder, f"{ML}.classification.OneVsRestModel", uid, {"featuresCol": "scaled"}, numClasses=classes)
    write_metadata(folder / "classifier", f"{ML}.classification.LogisticRegression", "lr_1")
    for number in range(classes):
        write_stage(folder / f"model_{number}", f"{ML}.classification.LogisticRegressionModel", "lr_1")


def write_model(folder: Path) -> Path:
    """Write a complete model: an inner pipeline with a scaler, and a OneVsRest of two models."""
    write_pipeline(folder, "inner_1", "ovr_1", class_name="pyspark.ml.pipeline.PipelineModel")
    inner = folder / "stages" / "0_inner_1"
    write_pipeline(inner, "scaler_1", uid="inner_1")
    columns = {"inputCol": "features", "outputCol": "scaled"}
    write_stage(inner / "stages" / "0_scaler_1", f"{ML}.feature.MaxAbsScalerModel", "scaler_1", columns)
    write_one_vs_rest(folder / "stages" / "1_ovr_1", "ovr_1", 2)
    return folder


def write_manifest(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write a folder's valid manifest with the given changes, and return its content."""
    found = gate.inspect(LocalFiles(folder), "unsigned")
    made = manifests.Manifest(
        versions=manifests.Versions(streamscore=__version__, spark="3.5.7", python="3.11.0", java="17 amd64"),
        stages=tuple(stage.class_name for stage in found.stages),
        inputs=found.inputs,
        num_features=4,
        labels=(0.0, 1.0),
        metrics={"auc": 0.75},
        origin={"git_commit": "0" * 40},
        golden=(
            manifests.Golden(features=manifests.Vector(type=1, values=(1.0, 0.0, 2.5, 0.0)), prediction=1, score=0.5),
        ),
        files=found.hashes,
    )
    manifest: dict[str, Any] = json.loads(manifests.text(made)) | changes
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return manifest


def refusal(folder, trust="unsigned", public_keys=()):
    """Return the message of a folder's refusal, without the folder's name, and check that the refusal is quick."""
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        gate.inspect(LocalFiles(folder), trust, public_keys)

    assert time.monotonic() - start < 6  # quadratic work would take minutes
    assert caught.value.exit_code == 4
    return str(caught.value).removeprefix(f"{folder}/")


def changed(folder, name, **changes):
    """Change keys of a stage's metadata; None removes a key."""
    file = folder / name / "metadata" / "part-00000"
    manifest = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


def rewritten(folder, name, text):
    """Replace a stage's metadata by another text."""
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name / "metadata" / "part-00000").write_bytes(content)


def moved(old, new):
    """Move a file or folder and leave a link in its place."""
    shutil.move(old, new)
    old.symlink_to(new)


def moved_into(file, folder):
    """Move a file into a folder beside it."""
    (file.parent / folder).mkdir()
    file.rename(file.parent / folder / file.name)


def replaced(path, make):
    """Replace a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def exchanged(one, other):
    """Exchange the content of two files."""
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def write_manifest_only(folder, **changes):
    """Overwrite the manifest with a changed one."""
    (folder / MANIFEST).unlink()
    write_manifest(folder, **changes)
