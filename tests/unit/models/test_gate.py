"""The gate refuses hostile and broken folders with file and reason, before any of their code runs."""

import os
import re
import shutil

import pytest
from folders import (
    ML,
    OVR,
    PARQUET,
    SCALER,
    changed,
    moved,
    moved_into,
    refusal,
    replaced,
    rewritten,
    write_metadata,
    write_model,
    write_one_vs_rest,
    write_pipeline,
    write_stage,
)

from streamscore.errors import ModelError
from streamscore.models import gate
from streamscore.models.gate import files
from streamscore.models.gate.files import LocalFiles


@pytest.fixture
def folder(tmp_path):
    """A valid model folder: an inner pipeline with a scaler, and a OneVsRest of two models."""
    return write_model(tmp_path / "model")


def test_folder_without_fault_passes(folder):
    """A valid folder passes, with its stages in order and its only input column."""
    found = gate.inspect(LocalFiles(folder), "unsigned")

    assert [stage.class_name for stage in found.stages] == [
        f"{ML}.feature.MaxAbsScalerModel",
        f"{ML}.classification.OneVsRestModel",
    ]
    assert found.inputs == ("features",)
    assert found.inner == ""
    assert all("_SUCCESS" not in name and ".crc" not in name for name in found.hashes)
    assert found.size == sum((folder / name).stat().st_size for name in found.hashes)


def test_folder_of_mlflow_passes(folder, tmp_path):
    """An MLflow folder passes; files beside `sparkml` are never loaded and so ignored."""
    outer = tmp_path / "logged"
    outer.mkdir()
    shutil.move(folder, outer / "sparkml")
    (outer / "MLmodel").write_text("flavors: {}")
    (outer / "anything.py").symlink_to("/etc/passwd")

    assert gate.inspect(LocalFiles(outer), "unsigned").inner == "sparkml/"


def tuner(folder, class_name):
    """Make a folder with a pipeline the best model of a tuner; return it."""
    best = folder.parent / "best"
    shutil.move(folder, best)
    write_metadata(folder, class_name, "cv_1")
    shutil.move(best, folder / "bestModel")
    write_metadata(folder / "estimator", "evil.Estimator", "lr_1")
    write_metadata(folder / "evaluator", "evil.Evaluator", "auc_1")
    return folder


@pytest.mark.parametrize("class_name", [f"{ML}.tuning.CrossValidatorModel", "pyspark.ml.tuning.CrossValidatorModel"])
def test_best_model_of_a_tuner_passes(folder, class_name):
    """Of a tuner nothing but the best model is loaded, and nothing else counts; all files are in the manifest."""
    found = gate.inspect(LocalFiles(tuner(folder, class_name)), "unsigned")

    assert [stage.folder for stage in found.needed] == [f"bestModel/{SCALER}/", f"bestModel/{OVR}/"]
    assert "estimator/metadata/part-00000" in found.hashes
    (folder / "bestModel" / "estimator").mkdir()
    (folder / "bestModel" / "estimator" / "evil").touch()
    assert "bestModel/estimator/evil: an extra file" in refusal(folder)


def test_stages_that_the_prediction_does_not_need_are_not_among_the_needed(tmp_path):
    """What makes the classifier's input is needed: not a stage on the label, nor what follows."""
    folder = tmp_path / "model"
    write_pipeline(folder, "label_1", "scaler_1", "lr_1", "text_1")
    indexer = {"inputCol": "income", "outputCol": "target"}
    write_stage(folder / "stages" / "0_label_1", f"{ML}.feature.StringIndexerModel", "label_1", indexer)
    scaler = {"inputCol": "raw", "outputCol": "features"}
    write_stage(folder / "stages" / "1_scaler_1", f"{ML}.feature.MaxAbsScalerModel", "scaler_1", scaler)
    learner = {"featuresCol": "features", "labelCol": "target", "predictionCol": "prediction"}
    write_stage(folder / "stages" / "2_lr_1", f"{ML}.classification.LogisticRegressionModel", "lr_1", learner)
    write_stage(folder / "stages" / "3_text_1", f"{ML}.feature.IndexToString", "text_1", {"inputCol": "prediction"})
    found = gate.inspect(LocalFiles(folder), "unsigned")

    assert [stage.name for stage in found.needed] == ["MaxAbsScalerModel", "LogisticRegressionModel"]
    assert [stage.name for stage in found.left_out] == ["StringIndexerModel", "IndexToString"]
    assert found.inputs == ("raw",)
    assert found.label_indexer is not None
    assert found.label_indexer[0].folder == "stages/0_label_1/"


def test_notes_of_a_databricks_runtime_pass(folder):
    """The additional files of a Databricks runtime pass."""
    for name in ("_committed_8213", "_started_8213"):
        (folder / SCALER / "data" / name).write_text("{}")

    assert f"{SCALER}/data/_started_8213" in gate.inspect(LocalFiles(folder), "unsigned").hashes


LAYOUTS = {
    "linked file": (
        lambda f: moved(f / OVR / "model_0" / "data" / PARQUET, f.parent / "elsewhere.parquet"),
        f"{OVR}/model_0/data/{PARQUET}: a link is refused",
    ),
    "linked folder": (
        lambda f: moved(f / SCALER / "data", f.parent / "elsewhere"),
        f"{SCALER}/data: a link is refused",
    ),
    "linked folder of MLflow's": (
        lambda f: (f / "sparkml").symlink_to(f.parent),
        "sparkml: a link is refused",
    ),
    "link to nothing": (
        lambda f: (f / "later").symlink_to("/nowhere"),
        "later: a link is refused",
    ),
    "extra file": (
        lambda f: (f / "stages" / "evil.py").touch(),
        "stages/evil.py: an extra file",
    ),
    "hidden file": (
        lambda f: (f / SCALER / ".hidden").touch(),
        f"{SCALER}/.hidden: an extra file",
    ),
    "file that Spark's readers overlook": (
        lambda f: (f / SCALER / "data" / "_common_metadata").touch(),
        f"{SCALER}/data/_common_metadata: an extra file",
    ),
    "checksum of nothing": (
        lambda f: (f / SCALER / "data" / ".evil.crc").touch(),
        f"{SCALER}/data/.evil.crc: an extra file",
    ),
    "mark of success with something in it": (
        lambda f: (f / "metadata" / "_SUCCESS").write_text("x"),
        "metadata/_SUCCESS: an extra file",
    ),
    "class file among the data": (
        lambda f: (f / SCALER / "data" / "Evil.class").touch(),
        f"{SCALER}/data/Evil.class: an extra file",
    ),
    "partition, which would add a column": (
        lambda f: moved_into(f / SCALER / "data" / PARQUET, "max=1"),
        f"{SCALER}/data/max=1/{PARQUET}: an extra file",
    ),
    "stage that no pipeline names": (
        lambda f: write_stage(f / "stages" / "2_lr_1", f"{ML}.classification.LogisticRegressionModel", "lr_1"),
        "stages/2_lr_1/data/.*: an extra file",
    ),
    "third model of a OneVsRest of two": (
        lambda f: write_stage(f / OVR / "model_2", f"{ML}.classification.LogisticRegressionModel", "lr_1"),
        f"{OVR}/model_2/data/.*: an extra file",
    ),
    "empty folder": (
        lambda f: (f / "stages" / "empty").mkdir(),
        "stages/empty/: an empty folder is refused",
    ),
    "pipe, which would never end": (
        lambda f: replaced(f / "metadata" / "part-00000", os.mkfifo),
        "metadata/part-00000: it is neither a file nor a folder",
    ),
    "letter that looks like another": (
        lambda f: (f / "met\u0430data").mkdir(),
        r"met\\u0430data: a name with such characters",
    ),
    "name that would write on a terminal": (
        lambda f: (f / "x\x1b[2J\n").touch(),
        r"x\\x1b\[2J\\n: a name with such characters",
    ),
    "name with a pattern": (
        lambda f: (f / "stages" / "{0_a,1_b}").mkdir(),
        r"stages/\{0_a,1_b\}: a name with such characters",
    ),
    "file in a folder's place": (
        lambda f: replaced(f / "stages", lambda path: path.write_text("")),
        "stages: an extra file|stages/0_inner_1/metadata: expected one file",
    ),
    "folders without end": (
        lambda f: (f / "/".join("d" * 40)).mkdir(parents=True),
        "d/d/.*: more than 32 folders inside each other",
    ),
    "no metadata": (
        lambda f: shutil.rmtree(f / "metadata"),
        "metadata: expected one file part-00000 in there, found 0: not a PipelineModel",
    ),
    "metadata in two parts": (
        lambda f: shutil.copy(f / "metadata" / "part-00000", f / "metadata" / "part-00001"),
        "metadata: expected one file part-00000 in there, found 2",
    ),
    "metadata that are not compressed as their name says": (
        lambda f: (f / "metadata" / "part-00000").rename(f / "metadata" / "part-00000.gz"),
        "metadata/part-00000.gz: it cannot be unpacked",
    ),
    "metadata compressed in a way that Spark does not know": (
        lambda f: (f / "metadata" / "part-00000").rename(f / "metadata" / "part-00000.xz"),
        "metadata: expected one file part-00000 in there, found 0",
    ),
    "mark of a folder with something in it": (
        lambda f: (f / "stages_$folder$").write_text("x"),
        r"stages_\$folder\$: an extra file",
    ),
    "mark of a folder that is not there": (
        lambda f: (f / SCALER / "data" / "other_$folder$").touch(),
        rf"{SCALER}/data/other_\$folder\$: an extra file",
    ),
    "metadata folder in other letters": (
        lambda f: (f / "metadata").rename(f / "Metadata"),
        "metadata: expected one file part-00000 in there, found 0",
    ),
    "stage that is not there": (
        lambda f: shutil.rmtree(f / OVR),
        f"{OVR}/metadata: expected one file",
    ),
    "stage in another place": (
        lambda f: (f / OVR).rename(f / "stages" / "01_ovr_1"),
        f"{OVR}/metadata: expected one file",
    ),
}


METADATA = {
    "not JSON": (lambda f: rewritten(f, OVR, "{"), f"{OVR}/metadata/part-00000: it is not plain JSON"),
    "nothing": (lambda f: rewritten(f, "", ""), "metadata/part-00000: it is not plain JSON"),
    "no text": (lambda f: rewritten(f, "", b"\xff\xfe"), "metadata/part-00000: it is not plain JSON .*utf-8"),
    "byte-order mark": (lambda f: rewritten(f, "", "\ufeff{}"), "metadata/part-00000: it is not plain JSON .*BOM"),
    "number that JSON has not": (
        lambda f: rewritten(f, OVR, '{"class": NaN}'),
        f"{OVR}/metadata/part-00000: it is not plain JSON .NaN is not JSON",
    ),
    "class twice, of which each parser takes another": (
        lambda f: rewritten(f, OVR, '{"class": "org.apache.spark.ml.PipelineModel", "class": "evil.Stage"}'),
        f"{OVR}/metadata/part-00000: .*the name 'class' stands there twice",
    ),
    "class twice, once in other letters": (
        lambda f: rewritten(f, OVR, r'{"class": "a", "cl\u0061ss": "b"}'),
        f"{OVR}/metadata/part-00000: .*the name 'class' stands there twice",
    ),
    "second line": (
        lambda f: rewritten(f, OVR, '{"class": "evil.Stage"}\n{}'),
        f"{OVR}/metadata/part-00000: it is not one line, and Spark reads only the first",
    ),
    "second line after another sign for its end": (
        lambda f: rewritten(f, OVR, '{"class":\r"evil.Stage"}'),
        f"{OVR}/metadata/part-00000: it is not one line",
    ),
    "bottomless": (
        lambda f: rewritten(f, OVR, '{"a":' * 100_000 + "1" + "}" * 100_000),
        f"{OVR}/metadata/part-00000: it is not plain JSON",
    ),
    "endless number": (lambda f: rewritten(f, OVR, '{"a": ' + "9" * 10_000 + "}"), f"{OVR}/metadata/part-00000: "),
    "huge": (
        lambda f: rewritten(f, OVR, '{"a": "' + "x" * (5 << 20) + '"}'),
        f"{OVR}/metadata/part-00000: it is longer than 4,194,304 bytes",
    ),
    "list": (lambda f: rewritten(f, OVR, "[]"), f"{OVR}/metadata/part-00000: it is not a JSON object"),
    "no class": (lambda f: changed(f, OVR, **{"class": None}), f"{OVR}/metadata/part-00000: class is absent"),
    "class that is no text": (
        lambda f: changed(f, OVR, **{"class": ["evil.Stage"]}),
        f"{OVR}/metadata/part-00000: class is absent or of another type",
    ),
    "no params": (lambda f: changed(f, OVR, paramMap=[]), f"{OVR}/metadata/part-00000: paramMap is absent or of ano"),
    "column that is no name": (
        lambda f: changed(f, OVR, paramMap={"featuresCol": {"a": 1}}),
        f"{OVR}/metadata/part-00000: featuresCol is not a column's name",
    ),
    "uid of another stage": (
        lambda f: changed(f, SCALER, uid="scaler_2"),
        f"{SCALER}/metadata/part-00000: its uid is 'scaler_2', but the pipeline calls it 'scaler_1'",
    ),
    "unknown class": (
        lambda f: changed(f, SCALER, **{"class": "com.example.Evil"}),
        f"{SCALER}/metadata/part-00000: the class 'com.example.Evil' is not on the list",
    ),
    "allowed class in other letters": (
        lambda f: changed(f, SCALER, **{"class": f"{ML}.feature.maxAbsScalerModel"}),
        f"{SCALER}/metadata/part-00000: the class '{ML}.feature.maxAbsScalerModel' is not on the list",
    ),
    "SQLTransformer": (
        lambda f: changed(f, SCALER, **{"class": f"{ML}.feature.SQLTransformer"}),
        f"{SCALER}/metadata/part-00000: the SQL of an SQLTransformer could do anything; allowed is only",
    ),
    "Python stage": (
        lambda f: changed(f, SCALER, **{"class": "evil_stage.Evil"}),
        f"{SCALER}/metadata/part-00000: the class 'evil_stage.Evil' is not on the list",
    ),
    "Python stage under PySpark's name": (
        lambda f: changed(f, SCALER, **{"class": "pyspark.ml.feature.MaxAbsScalerModel"}),
        "is not on the list",
    ),
    "estimator": (
        lambda f: changed(f, SCALER, **{"class": f"{ML}.classification.LogisticRegression"}),
        f"{SCALER}/metadata/part-00000: the class .* is not on the list",
    ),
    "tuned model without its best model": (
        lambda f: changed(f, "", **{"class": f"{ML}.tuning.CrossValidatorModel"}),
        "bestModel/metadata: expected one file part-00000 in there, found 0",
    ),
    "tuned model of PySpark's without its best model": (
        lambda f: changed(f, "", **{"class": "pyspark.ml.tuning.TrainValidationSplitModel"}),
        "bestModel/metadata: expected one file part-00000 in there, found 0",
    ),
    "classifier alone with the stages of a pipeline": (
        lambda f: changed(f, "", **{"class": f"{ML}.classification.LogisticRegressionModel"}),
        "stages/.*: an extra file: it belongs to no stage",
    ),
    "something else alone": (
        lambda f: changed(f, "", **{"class": f"{ML}.clustering.KMeansModel"}),
        "metadata/part-00000: the class .* is neither a PipelineModel nor a classifier$",
    ),
    "SQLTransformer in a OneVsRest": (
        lambda f: changed(f, f"{OVR}/model_1", **{"class": f"{ML}.feature.SQLTransformer"}),
        f"{OVR}/model_1/metadata/part-00000: the class .* is not on the list",
    ),
    "pipeline in a OneVsRest": (
        lambda f: changed(f, f"{OVR}/model_1", **{"class": f"{ML}.PipelineModel"}),
        f"{OVR}/model_1/metadata/part-00000: the class .* is not on the list",
    ),
    "strange learner in a OneVsRest": (
        lambda f: changed(f, f"{OVR}/classifier", **{"class": "com.example.Evil"}),
        f"{OVR}/classifier/metadata/part-00000: the class .* is not on the list",
    ),
    "too many classes": (
        lambda f: changed(f, OVR, numClasses=10**9),
        f"{OVR}/metadata/part-00000: numClasses is 1000000000",
    ),
    "one class more than models": (
        lambda f: changed(f, OVR, numClasses=3),
        f"{OVR}/model_2/metadata: expected one file",
    ),
    "classes that are no number": (
        lambda f: changed(f, OVR, numClasses=True),
        f"{OVR}/metadata/part-00000: numClasses is True",
    ),
    "stage outside of the folder": (
        lambda f: changed(f, "", paramMap={"stageUids": ["x/../../../other"], "language": "Python"}),
        "metadata/part-00000: stageUids is not a list of plain names",
    ),
    "stages by a pattern": (
        lambda f: changed(f, "", paramMap={"stageUids": ["*"], "language": "Python"}),
        "metadata/part-00000: stageUids is not a list of plain names",
    ),
    "stages that are no list": (
        lambda f: changed(f, "", paramMap={"stageUids": "inner_1", "language": "Python"}),
        "metadata/part-00000: stageUids is not a list of plain names",
    ),
    "no stages": (
        lambda f: changed(f, "", paramMap={"language": "Python"}),
        "metadata/part-00000: a pipeline's paramMap holds stageUids and nothing else",
    ),
    "one stage twice": (
        lambda f: changed(f, "", paramMap={"stageUids": ["inner_1", "inner_1"], "language": "Python"}),
        "metadata/part-00000: stageUids names a stage twice",
    ),
    "JVM pipeline for PySpark's reader": (
        lambda f: changed(f, "", **{"class": f"{ML}.PipelineModel"}),
        "metadata/part-00000: a pipeline's paramMap holds stageUids and nothing else",
    ),
    "inner pipeline with a param of its own": (
        lambda f: changed(f, "stages/0_inner_1", paramMap={"stageUids": ["scaler_1"], "stages": ["evil.Stage"]}),
        "stages/0_inner_1/metadata/part-00000: a pipeline's paramMap holds stageUids and nothing else",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_strange_file_is_refused(folder, name):
    """An unknown file of any kind is refused with its name."""
    breaking, message = LAYOUTS[name]
    breaking(folder)

    assert re.match(message, refusal(folder)), refusal(folder)


@pytest.mark.parametrize("name", METADATA)
def test_strange_metadata_are_refused(folder, name):
    """Metadata are parsed more strictly than by Spark, and only known classes pass."""
    breaking, message = METADATA[name]
    breaking(folder)

    assert re.match(f".*{message}" if message.startswith("is ") else message, refusal(folder)), refusal(folder)


def test_pipelines_inside_each_other_have_an_end(tmp_path):
    """The depth of nested pipelines is limited."""
    place = tmp_path / "model"
    write_pipeline(place, "inner", uid="inner")
    for _ in range(9):
        place = place / "stages" / "0_inner"
        write_pipeline(place, "inner", uid="inner")

    assert "more than 8 pipelines inside each other" in refusal(tmp_path / "model")


def test_number_of_files_has_an_end(folder, monkeypatch):
    """The number of files is limited."""
    monkeypatch.setattr(files, "MAX_FILES", 5)

    assert "more than 5 files are refused" in refusal(folder)


def test_amount_of_metadata_has_an_end(folder, monkeypatch):
    """The total size of metadata is limited."""
    monkeypatch.setattr(gate.stages, "_MAX_ALL_METADATA_BYTES", 500)

    assert "more than 500 bytes of metadata are refused" in refusal(folder)


def test_thousand_models_in_a_one_vs_rest_are_looked_at_in_no_time(tmp_path):
    """The check's work is linear in the number of files."""
    write_pipeline(tmp_path / "model", "ovr_1")
    write_one_vs_rest(tmp_path / "model" / "stages" / "0_ovr_1", "ovr_1", 1000)
    changed(tmp_path / "model", "stages/0_ovr_1/model_999", **{"class": "com.example.Evil"})

    assert "model_999/metadata/part-00000: the class 'com.example.Evil'" in refusal(tmp_path / "model")


def test_folder_that_changes_type_while_it_is_read_is_refused(folder):
    """A file that becomes a link or a pipe during the check is neither followed nor waited for."""
    read = LocalFiles(folder)
    replaced(folder / "metadata" / "part-00000", lambda path: path.symlink_to("/etc/passwd"))
    replaced(folder / OVR / "metadata" / "part-00000", os.mkfifo)

    with pytest.raises(ModelError, match="metadata/part-00000: a link is refused"):
        read.sha256("metadata/part-00000")
    with pytest.raises(ModelError, match="metadata/part-00000: it is not a plain file"):
        read.read(f"{OVR}/metadata/part-00000", 10)
