"""Train a logistic regression and a linear SVM on Criteo rows, register them, and export the test set.

Rows come from Criteo's file, a Delta table or the synthetic generator. The last rows are held out as the test set,
which is written as one parquet file with ``label`` and ``features``, ready for ``seed_topic``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamscore import __version__, models
from streamscore.config import Config, Train
from streamscore.data import classifiers, criteo, features, provenance, synthetic
from streamscore.errors import InputError
from streamscore.launch.arguments import Option
from streamscore.launch.job import Job
from streamscore.launch.runner import run_job
from streamscore.models import training_log
from streamscore.models.gate.manifest import FORMAT as MANIFEST_FORMAT
from streamscore.models.training_log import Trained
from streamscore.quality import confusion
from streamscore.quality import figures as quality
from streamscore.schema import FEATURES, LABEL
from streamscore.spark import sources
from streamscore.spark.errors import translate_spark_errors
from streamscore.system.console import log, step
from streamscore.system.files import replacing
from streamscore.system.paths import as_spark_takes, is_local, local_path

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame, SparkSession

NAME = "train_models"
TEST_SET = "test_set.parquet"
RAW_TEST_SET = "test_set_raw.parquet"
"""The same rows with Criteo's columns instead of the vector."""
COLUMNS = [*criteo.INTEGERS, *criteo.CATEGORIES]
METRICS = "metrics.json"
RAW = "_raw"
"""Suffix of the name of a model that contains its feature stages; valid in every registry."""
GOLDEN_ROWS = 8
"""Number of golden rows in each model's manifest."""

OPTIONS = (
    Option("--data", "train.data", "synthetic or criteo", "KIND"),
    Option("--path", "train.path", "Criteo's file or a Delta table, with --data criteo", "PATH"),
    Option("--rows", "train.rows", "number of synthetic rows", "N"),
    Option("--test-rows", "train.test_rows", "number of rows at the end to hold out as the test set", "N"),
    Option("--raw-models", "train.raw_models", "also register models on raw columns, with feature stages inside"),
    Option("--balance", "train.balance", "keep as many rows without a click as with one"),
)


def check(config: Config) -> None:
    """Check the input before any JVM starts.

    Raises:
        InputError: Criteo's file is missing, or no column is named as the order of a Delta table's rows.
    """
    path = config.train.path
    if path is not None and sources.is_delta(path):
        if config.train.order_column is None:
            raise InputError(
                f"train.path: {path} is a Delta table, which has no order of its own: name the column by which its "
                "rows follow each other, train.order_column"
            )
        return
    if path is not None and is_local(path) and not local_path(path).is_file():
        raise InputError(
            f"train.path: no file at {path}. Criteo's data are brought by their user: train.txt of the Kaggle Display "
            "Advertising Challenge, or its sample dac_sample.txt"
        )


def fingerprint(config: Config) -> str:
    """Return a digest of everything that determines a training's result: equal fingerprints, equal models.

    For a Delta table, and for a file on a remote file system such as s3a://, the digest includes only the name, so it
    does not reflect a change of the rows.
    """
    path = None if config.train.path is None else local_path(config.train.path)
    inputs = {
        "version": __version__,
        "manifest": MANIFEST_FORMAT,
        "train": config.train.model_dump(mode="json", exclude={"output"}),
        "file": [path.stat().st_size, path.stat().st_mtime_ns] if path is not None and path.is_file() else None,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def run(spark: SparkSession, config: Config) -> dict[str, Any]:
    """Train, register and export.

    Args:
        spark: the session.
        config: the configuration, in particular its sections ``train`` and ``mlflow``.

    Returns:
        The figures of the test set, as written to ``metrics.json``.

    Raises:
        InputError: the rows cannot be used.
        ServerError: MLflow cannot be reached.
    """
    settings = config.train
    path = rows(config)
    with step("Reading rows"), translate_spark_errors(InputError, f"{path}: cannot be read"):
        split = criteo.split_table if sources.is_delta(path) else criteo.split
        train, test = split(read(spark, config, path), path, settings.test_rows)
        if settings.balance:
            train, test = criteo.balance(train), criteo.balance(test)
    with step("Fitting the feature pipeline"):
        pipeline = features.fit(train, settings.hash_size, settings.min_category_count)
    with step("Writing the test set"):
        test_set = _export(pipeline.transform(test), Path(settings.output) / TEST_SET, FEATURES)
        if settings.raw_models:
            raw_test_set = _export(test, Path(settings.output) / RAW_TEST_SET, *COLUMNS)
    for_calibration = classifiers.is_for_calibration(criteo.ROW, *COLUMNS).alias(classifiers.FOR_CALIBRATION)
    vectors = pipeline.transform(train).select(LABEL, FEATURES, for_calibration).persist()
    held_out = spark.read.parquet(as_spark_takes(test_set)).persist()
    figures: dict[str, Any] = {"train_rows": vectors.count(), **_class_balance(held_out)}
    best = _best_possible(config, path)
    if best is not None:
        figures["best_possible"] = best._asdict()
    raw = train.select(*COLUMNS).limit(1)
    example = held_out.select(FEATURES).limit(1)
    golden = [row[FEATURES] for row in held_out.select(FEATURES).limit(GOLDEN_ROWS).collect()]
    # A manifest is passed on with its model, which Criteo's licence forbids for its rows.
    made_up = synthetic.examples(GOLDEN_ROWS, settings.seed)
    trained = {"features": Trained(pipeline, raw, FEATURES)}
    learners = _learners(settings, vectors)
    names = {name: getattr(config.mlflow.registered_names, name) for name in learners}
    for name, fit in learners.items():
        with step(f"Training {name} on {figures['train_rows']:,} rows"):
            fitted = fit()
            figures[name], scale = _evaluate(fitted, held_out, best)
            metrics = figures[name]
            trained[name] = Trained(fitted, example, "prediction", names[name], golden, metrics, margin_scale=scale)
        if settings.raw_models:
            figures[f"{name}{RAW}"] = metrics
            joined, in_registry = _joined(pipeline, fitted), f"{names[name]}{RAW}"
            trained[f"{name}{RAW}"] = Trained(
                joined, raw, "prediction", in_registry, made_up, metrics, criteo.FIELDS, scale
            )
    vectors.unpersist()
    held_out.unpersist()
    with step("Registering the models"):
        parameters = {"fingerprint": fingerprint(config), **settings.model_dump(mode="json")}
        origin = provenance.tags(path)
        registered = training_log.log_training(
            config,
            parameters,
            dict(_flat(figures)),
            origin,
            trained,
            lambda model, folder: models.sign(
                spark,
                folder,
                model.golden,
                model.metrics,
                origin,
                model.fields,
                margin_scale=model.margin_scale,
                key=config.signatures.key_file,
            ),
        )
    figures["registered"] = {model.name: model.version for model in registered}
    figures["fingerprint"] = fingerprint(config)
    figures["test_set"] = str(test_set)
    if settings.raw_models:
        figures["raw_test_set"] = str(raw_test_set)
    (Path(settings.output) / METRICS).write_text(json.dumps(figures, indent=2))
    _report(figures, list(learners))
    return figures


JOB = Job(
    NAME,
    __doc__.splitlines()[0],
    OPTIONS,
    check,
    run,
    # The default is the current number of cores, with which each query could split a file's rows differently.
    settings=lambda _: {"spark.sql.files.minPartitionNum": "8"},
)
"""The job's entry point for launchers, the command line and notebooks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job from a command line."""
    run_job(JOB, argv)


def rows(config: Config) -> str:
    """Return the file of the rows; generate the synthetic file if it is missing."""
    settings = config.train
    if settings.path is not None:
        return settings.path
    parameters = f"{settings.rows}-{settings.seed}-{settings.bayes_auc}-{__version__}"
    path = config.state_dir / "data" / f"synthetic-{parameters}.tsv"
    if not path.is_file():
        with step(f"Generating {settings.rows:,} synthetic rows") as show:
            for done in synthetic.write(path, settings.rows, settings.seed, settings.bayes_auc):
                show(f"{done:,}")
    return str(path)


def read(spark: SparkSession, config: Config, path: str) -> DataFrame:
    """Read Criteo's rows from a file or from a Delta table, in the columns of ``criteo.read``.

    Args:
        spark: the session.
        config: the configuration.
        path: the file, or the folder of the Delta table.

    Raises:
        InputError: Spark cannot read the rows, the path is not one file, or a column is missing or of another type.
    """
    if not sources.is_delta(path):
        with translate_spark_errors(InputError, f"train.path: {path} cannot be read"):
            return criteo.read(spark, as_spark_takes(path))
    return criteo.from_table(sources.data_set(spark, path), path, str(config.train.order_column))


def _learners(settings: Train, vectors: DataFrame) -> dict[str, Callable[[], PipelineModel]]:
    """Return the functions that fit the models on the rows, by name."""
    learners: dict[str, Callable[[], PipelineModel]] = {
        "lr": lambda: classifiers.logistic_regression(vectors, settings.lr),
        "svm": lambda: classifiers.svm(vectors, settings.svm),
    }
    candidate = settings.candidate
    if candidate is not None:
        learners["candidate"] = lambda: classifiers.logistic_regression(vectors, candidate)
    return learners


def _joined(pipeline: PipelineModel, classifier: PipelineModel) -> PipelineModel:
    from pyspark.ml import PipelineModel

    return PipelineModel([pipeline, classifier])


def _export(test: DataFrame, target: Path, *columns: str) -> Path:
    """Write the label and columns as one parquet file, in row order, and replace an older file atomically."""
    from pyspark.sql import functions as F

    target.parent.mkdir(parents=True, exist_ok=True)
    # Rows of a table may have equal order values, but all files of the same rows must have the same order.
    tie = F.xxhash64(LABEL, *COLUMNS).alias("tie")
    # Not coalesce, with which one task would compute all rows.
    whole = test.select(criteo.ROW, tie, LABEL, *columns).repartition(1).sortWithinPartitions(criteo.ROW, "tie")
    with replacing(target) as partial:
        whole.select(LABEL, *columns).write.parquet(as_spark_takes(partial))
        (part,) = partial.glob("part-*.parquet")
        part.replace(target)
    # Spark's checksum of the replaced file would make the new one look damaged.
    target.with_name(f".{target.name}.crc").unlink(missing_ok=True)
    return target


def _class_balance(test: DataFrame) -> dict[str, float | None]:
    """Return the number of test rows, the share of clicks, and the majority-class baseline."""
    counts = {row[LABEL]: row["count"] for row in test.groupBy(LABEL).count().collect()}
    rows = sum(counts.values())
    return {
        "test_rows": rows,
        "click_rate": quality.share(counts.get(1.0, 0), rows),
        "majority_rate": quality.baseline(counts.values()),
    }


def _best_possible(config: Config, path: str) -> synthetic.Best | None:
    """Return the figures of the best possible model on a synthetic test set; None for other or balanced data."""
    if config.train.data != "synthetic" or config.train.balance:
        return None
    return synthetic.best_possible(Path(path), config.train.test_rows)


def _evaluate(
    model: PipelineModel, test: DataFrame, best: synthetic.Best | None
) -> tuple[dict[str, Any], float | None]:
    """Return a model's figures on the test set, and the scale of its margins if it has no probabilities.

    Args:
        model: the model.
        test: the test set, with ``label`` and ``features``.
        best: the figures of the best possible model, if they are known.
    """
    from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator

    scored = model.transform(test).persist()
    exact = BinaryClassificationEvaluator(labelCol=LABEL, rawPredictionCol="rawPrediction", numBins=0)
    cells = scored.groupBy(LABEL, "prediction").count().collect()
    counts = {(row[LABEL], row["prediction"]): row["count"] for row in cells}
    figures: dict[str, Any] = {
        "auc": exact.evaluate(scored),
        "accuracy": quality.accuracy(confusion.correct(counts), confusion.labelled(counts)),
    }
    if "probability" in scored.columns:  # a plain linear SVM has none
        log_loss = MulticlassClassificationEvaluator(labelCol=LABEL)
        log_loss.set(log_loss.metricName, "logLoss")
        figures["log_loss"] = log_loss.evaluate(scored)
    if best is not None:
        figures["auc_of_best"] = figures["auc"] / best.auc
    scale = classifiers.margin_scale(scored)
    scored.unpersist()
    return figures, scale


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat = []
    for name, value in figures.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", float(value)))
    return flat


def _report(figures: dict[str, Any], names: Sequence[str]) -> None:
    baseline = figures["majority_rate"]
    for name, version in figures["registered"].items():
        log.info("registered %s, version %s", name, version)
    for name in names:
        model = figures[name]
        parts = [f"AUC {model['auc']:.4f}"]
        if "auc_of_best" in model:
            parts.append(f"{model['auc_of_best']:.3f} of the best possible {figures['best_possible']['auc']:.4f}")
        if "log_loss" in model:
            parts.append(f"log loss {model['log_loss']:.4f}")
        parts.append(f"{quality.ACCURACY} {model['accuracy']:.4f} ({quality.BASELINE} {baseline:.4f})")
        log.info("%s: %s", name, ", ".join(parts))
    log.info("test set: %s rows in %s", f"{figures['test_rows']:,}", figures["test_set"])


if __name__ == "__main__":
    main()
