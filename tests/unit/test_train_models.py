"""The training without servers: its refusals before any fit, and its outputs."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from streamscore import config as configuration
from streamscore import models, train_models
from streamscore.config import Model
from streamscore.config.fields import ddl
from streamscore.data import criteo, features
from streamscore.errors import InputError
from streamscore.models import registry
from streamscore.scoring.apply import apply_models


def line(number, label):
    """Return a line of Criteo's format."""
    return "\t".join([str(label), *[str(number)] * 13, *["abc"[number % 3]] * 26]) + "\n"


@pytest.fixture
def criteo_config(make_config, tmp_path):
    """Return a function that makes a training configuration for lines with given labels, the last ten as test set."""

    def make(labels, *overrides, name="train.txt"):
        path = tmp_path / name
        path.write_text("".join(line(number, label) for number, label in enumerate(labels)))
        settings = ("train.data=criteo", f"train.path={path}", "train.test_rows=10", f"train.output={tmp_path / 'out'}")
        return make_config(*settings, *overrides)

    return make


@pytest.mark.parametrize(
    ("labels", "balance", "missing"),
    [
        ([0] * 30, False, "to train on has the label 1"),
        ([1] * 30, False, "to train on has the label 0"),
        ([0, 1] * 10 + [0] * 10, False, "held out has the label 1"),
        ([0, 1] * 10 + [1] * 10, False, "held out has the label 0"),
        ([0] * 20 + [0, 1] * 5, False, "to train on has the label 1"),
        ([0, 1] * 10 + [0] * 10, True, "held out has the label 1"),
    ],
)
def test_rows_of_one_class_are_refused_before_anything_is_fitted(
    spark, criteo_config, tmp_path, monkeypatch, labels, balance, missing
):
    """Rows of one class, on which every model looks perfect, are refused before any fit."""
    monkeypatch.setattr(features, "fit", lambda *_: pytest.fail("it goes on to the feature pipeline"))
    config = criteo_config(labels, f"train.balance={str(balance).lower()}")

    with pytest.raises(InputError, match=f"train.txt: none of the rows {missing}, but"):
        train_models.run(spark, config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(lambda data: gzip.compress(data)[:200], "Unexpected end of input"), (lambda data: data, "not a gzip file")],
    ids=["cut", "plain"],
)
def test_file_that_is_no_gzip_to_its_end_is_told_in_one_line(spark, criteo_config, broken, reason):
    """A truncated gzip file, or a plain file with a gzip name, is reported in one line."""
    config = criteo_config([0, 1] * 3000, name="train.txt.gz")
    path = Path(config.train.path)
    path.write_bytes(broken(path.read_bytes()))

    with pytest.raises(InputError, match=f"train.txt.gz: cannot be read: .*{reason}") as caught:
        train_models.run(spark, config)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def elsewhere(spark):
    """A session with a remote default file system that does not exist."""
    spark.conf.set("fs.defaultFS", "nosuch://cluster/")
    with pytest.raises(Exception, match="nosuch"):
        spark.read.text("/tmp").count()
    yield
    spark.conf.unset("fs.defaultFS")


@pytest.mark.usefixtures("elsewhere")
def test_files_are_this_machine_s_whatever_spark_s_default_is(spark, criteo_config):
    """Local paths stay local, whatever Spark's default file system."""
    config = criteo_config([0, 1] * 10)
    path = train_models.rows(config)
    data = train_models.read(spark, config, path)
    target = train_models._export(data, Path(config.train.path).parent / "x" / "t.parquet", "I1")

    assert [row["I1"] for row in spark.read.parquet(f"file:{target}").collect()] == list(range(20))


def test_export_is_computed_in_parallel_and_written_in_order(spark, tmp_path):
    """The export is one file, computed by several tasks, with a fixed order of rows with equal order values."""
    columns = {name: F.col("id").cast("int") for name in criteo.INTEGERS}
    columns |= {name: F.col("id").cast("string") for name in criteo.CATEGORIES}
    data = spark.range(0, 400, 1, 4).withColumns({"row": F.col("id") % 200, "label": F.lit(1.0), **columns})
    spark.sparkContext.setJobGroup("export", "")
    written = train_models._export(data, tmp_path / "a.parquet", "I1")
    tracker = spark.sparkContext.statusTracker()
    stages = [stage for job in tracker.getJobIdsForGroup("export") for stage in tracker.getJobInfo(job).stageIds]
    tasks = [info.numTasks for stage in stages if (info := tracker.getStageInfo(stage)) is not None]
    other = train_models._export(data.repartition(3, "C1"), tmp_path / "b.parquet", "I1")
    found = [[row["I1"] for row in spark.read.parquet(str(file)).collect()] for file in (written, other)]

    assert max(tasks) == 4
    assert [number % 200 for number in found[0]] == [number // 2 for number in range(400)]
    assert found[0] == found[1]


def even(tmp_path, addresses, *overrides):
    """Return the configuration of a small training on balanced synthetic rows."""
    small = ("train.rows=6000", "train.test_rows=2000", "train.hash_size=1024", "train.balance=true")
    few = ("train.lr.max_iter=2", "train.svm.max_iter=2", f"train.output={tmp_path}")
    return configuration.load("local", [*addresses, *small, *few, *overrides])


@pytest.fixture(scope="module")
def balanced(spark, addresses, tmp_path_factory):
    """A small training on balanced rows, with models of raw columns: its configuration and its figures."""
    names = "mlflow.registered_names={lr: even-lr, svm: even-svm}"
    config = even(tmp_path_factory.mktemp("balanced"), addresses, "train.raw_models=true", names)
    return config, train_models.run(spark, config)


def test_best_possible_is_not_told_of_balanced_rows(balanced):
    """The best possible figures, which are known for unbalanced rows only, are omitted."""
    _, figures = balanced

    assert figures["click_rate"] == pytest.approx(0.5, abs=0.08)
    assert "best_possible" not in figures
    assert "auc_of_best" not in figures["lr"]


def test_no_row_of_the_data_is_in_a_manifest(spark, balanced):
    """The golden rows are synthetic, because Criteo's rows must not be passed on with a manifest."""
    config, figures = balanced
    own = {json.dumps(row.asDict()) for row in spark.read.parquet(figures["raw_test_set"]).drop("label").collect()}
    for name in ("lr", "svm"):
        with registry.downloaded(config, registry.resolve(config, f"models:/even-{name}_raw@champion")) as folder:
            golden = json.loads((folder / models.MANIFEST).read_text())["golden"]

        assert len(golden) == train_models.GOLDEN_ROWS
        assert all(sorted(row["row"]) == sorted(train_models.COLUMNS) for row in golden)
        rows = [json.dumps({name: row["row"][name] for name in train_models.COLUMNS}) for row in golden]
        assert not own & set(rows)
        assert len(set(rows)) == train_models.GOLDEN_ROWS


def test_calibrated_svm_is_served_with_probabilities(spark, addresses, balanced):
    """The calibrated SVM has probabilities, on vectors and on raw columns, and passes the gate."""
    config, figures = balanced
    raw = configuration.load("local", [*addresses, f"message.fields='{ddl(criteo.FIELDS)}'"])
    served = [
        models.load_one(spark, shaped, Model(name="svm", uri=f"models:/even-svm{suffix}@champion"))
        for suffix, shaped in (("", config), ("_raw", raw))
    ]

    assert [(model.score_kind, model.margin_scale) for model in served] == [("probability", 1.0)] * 2
    assert [type(stage).__name__ for stage in served[0].stages] == ["LinearSVCModel", "LogisticRegressionModel"]
    assert 0 < figures["svm"]["log_loss"] < math.log(2), "better than a probability of a half for all"


def test_plain_svm_is_the_same_without_probabilities(spark, addresses, balanced, tmp_path):
    """The plain SVM has the same predictions without probabilities, and its manifest has the margins' scale."""
    names = "mlflow.registered_names={lr: plain-lr, svm: plain-svm}"
    config = even(tmp_path, addresses, "train.svm.calibrate=false", names)
    figures = train_models.run(spark, config)
    served = models.load_one(spark, config, Model(name="svm", uri="models:/plain-svm@champion"))
    margins = [row["score_svm"] for row in apply_models(spark.read.parquet(figures["test_set"]), [served]).collect()]

    assert served.score_kind == "margin"
    assert served.margin_scale == pytest.approx(np.std(margins) / 2, rel=1e-9)
    assert "log_loss" not in figures["svm"]
    assert figures["svm"]["accuracy"] == balanced[1]["svm"]["accuracy"]
    assert figures["svm"]["auc"] == pytest.approx(balanced[1]["svm"]["auc"], abs=1e-9)
