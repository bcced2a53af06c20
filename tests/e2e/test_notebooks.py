"""The notebooks run from top to bottom, as plain Python, with fakes of Databricks' objects."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from streamscore import seed_topic
from streamscore.clients import elasticsearch, kafka
from streamscore.config.fields import ddl
from streamscore.data import criteo
from streamscore.errors import ConfigError
from streamscore.quality.evaluation import FIGURES

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


@pytest.fixture
def notebook(root, dbutils):
    """Return a function that runs a notebook with widget values, and returns its variables and displayed objects."""

    def run(name: str, **widgets: str):
        shown = []
        given = {"dbutils": dbutils(**widgets), "display": shown.append}
        return runpy.run_path(str(root / "notebooks" / f"{name}.py"), init_globals=given), shown

    return run


def test_both_notebooks_are_looked_at():
    """The pattern finds both notebooks; with none, the tests below would pass vacuously."""
    assert [path.name for path in NOTEBOOKS] == ["score_stream.py", "train_models.py"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_format_is_the_one_that_databricks_reads(path):
    """A notebook has the first line, titled code cells and text cells, no other magic and no output."""
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    cells = "\n".join(lines).split("\n\n# COMMAND ----------\n\n")

    assert first == "# Databricks notebook source"
    assert len(cells) > 5
    assert "\n".join(lines).count("# COMMAND") == len(cells) - 1
    for cell in cells:
        assert re.match(r"# MAGIC %md\n# MAGIC |# DBTITLE 1,\S", cell)
        assert re.findall(r"^# MAGIC (%\w*)", cell, re.MULTILINE) in ([], ["%md"])
        if cell.startswith("# MAGIC"):
            assert all(line.startswith("# MAGIC") for line in cell.splitlines())


RAW = ("train.raw_models=true", f"message.fields='{ddl(criteo.FIELDS)}'")


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(("suffix", "overrides"), [("", ()), ("_raw", RAW)], ids=["vector", "raw"])
def test_training_notebook_tells_the_whole_story(notebook, own, as_file, suffix, overrides):
    """It shows missing values, vectors, scores beside the best possible ones, ROC curves and the calibration."""
    served = (f"{{name: {name}, uri: 'models:/n-{name}{suffix}@champion'}}" for name in ("lr", "svm"))
    config = own(
        "train.rows=30000",
        "train.test_rows=5000",
        "mlflow.registered_names={lr: n-lr, svm: n-svm}",
        f"models=[{', '.join(served)}]",
        *overrides,
    )
    left, shown = notebook("train_models", config=as_file(config), set="train.min_category_count=5; train.seed=11")
    overview, vectors, scores, figure = shown
    roc, calibration = figure.axes
    curves = {line.get_label(): line.get_xydata() for line in roc.get_lines()}
    drawn = [curves[f"{name} (AUC = {left['figures'][name]['auc']:.2f})"].tolist() for name in ("lr", "svm")]

    assert left["config"].train.seed == 11
    assert [row["column"] for row in overview.collect()][:2] == ["I1", "I2"]
    assert vectors.columns == ["label", "features"]
    assert [row["model"] for row in scores.collect()] == ["lr", "svm", "best possible"]
    assert scores.collect()[0]["auc"] == left["figures"]["lr"]["auc"]
    assert all(points[0] == [0, 0] and points[-1] == [1, 1] for points in drawn)
    assert [line.get_label() for line in calibration.get_legend_handles_labels()[0]] == ["lr", "svm"]


def test_training_notebook_says_at_once_what_models_of_raw_columns_need(notebook, own, as_file):
    """The message comes before the training, which makes no test set for them."""
    config = own(f"message.fields='{ddl(criteo.FIELDS)}'")

    with pytest.raises(ConfigError, match="train.raw_models=true"):
        notebook("train_models", config=as_file(config))


@pytest.mark.parametrize("seconds", ["0", "15"])
def test_scoring_notebook_shows_live_counts_and_the_outcome(
    notebook, spark, own, trained, as_file, capsys, produce, seconds
):
    """A run over the topic or for some seconds shows batches, a table and a chart; the index has all outcomes."""
    _, figures = trained
    config = own(f"seed.source={figures['test_set']}", "seed.limit=3000", "stream.max_events_per_batch=1000")
    seed_topic.check(config)
    digest = seed_topic.run(spark, config)["digest"]
    labels = "yes" if seconds == "0" else "no"
    kafka.ensure(config.kafka, config.kafka.topics.labels)
    produce(config.kafka, config.kafka.topics.labels, [f'{{"id":"{digest}-0","label":1}}', "bad"])

    left, shown = notebook("score_stream", config=as_file(config), seconds=seconds, labels=labels)
    table, figure, *fates = shown
    summary = left["summary"]
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith("events ")]
    drawn = {line.get_label(): line.get_xydata()[-1].tolist() for line in figure.axes[0].get_lines()}

    assert summary["events"] == 3000 if seconds == "0" else 0 < summary["events"] <= 3000
    assert lines[-1].startswith(f"events {summary['events']:,} ")
    rows = {(row["model"], row["figure"]): row for row in table.collect()}
    assert {row["scored"] for row in rows.values()} == {summary["scored"]}
    assert list(rows) == [(name, figure.name) for name in ("lr", "svm") for figure in FIGURES.values()]
    for name, model in summary["models"].items():
        found = {part: rows[name, "accuracy"][part] for part in ("value", "low", "high")}
        assert found == model["figures"]["accuracy"]
        assert rows[name, "ROC AUC"]["bound"] == model["figures"]["auc"]["bound"]
        assert any(line.startswith(f"{name} {model['version']}: accuracy {found['value']:.2%} [") for line in printed)
        assert rows[name, "RIG"]["value"] == model["figures"]["rig"]["value"] > 0
    assert list(drawn) == ["lr", "svm", "majority-class baseline"]
    assert drawn["lr"] == [summary["events"], summary["models"]["lr"]["accuracy"]]
    assert elasticsearch.count(config.elasticsearch) == 2 * summary["events"]
    assert spark.streams.active == []
    of_labels = [{row["labels"]: row["count"] for row in each.collect() if row["count"]} for each in fates]
    joined = {"received": 2, "matched": 1, "rejected": 1, "batches": 1}
    assert of_labels == ([joined] if labels == "yes" else [])


def test_notebook_is_a_plain_program_too(root, own, as_file):
    """It runs without dbutils and display, configured by the environment; faults are found before any JVM starts."""
    config = own("kafka.topics.input=absent")
    kafka.ensure(config.kafka, config.kafka.topics.predictions)
    done = subprocess.run(
        [sys.executable, str(root / "notebooks" / "score_stream.py")],
        env={"STREAMSCORE_CONFIG": as_file(config), "STREAMSCORE_SECONDS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode != 0
    assert "the topic 'absent' does not exist" in done.stderr
