"""The gate on models saved by Spark, whose code Spark would run."""

import json
import sys

import pytest
from folders import MANIFEST, ML, write_model
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import (
    DecisionTreeClassifier,
    FMClassifier,
    GBTClassifier,
    LinearSVC,
    LogisticRegression,
    MultilayerPerceptronClassifier,
    NaiveBayes,
    OneVsRest,
    RandomForestClassifier,
)
from pyspark.ml.feature import (
    DCT,
    IDF,
    PCA,
    Binarizer,
    ElementwiseProduct,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialExpansion,
    RobustScaler,
    SQLTransformer,
    StandardScaler,
    UnivariateFeatureSelector,
    VarianceThresholdSelector,
    VectorAssembler,
    VectorIndexer,
    VectorSizeHint,
    VectorSlicer,
)
from pyspark.ml.linalg import Vectors
from pyspark.ml.util import JavaMLReader

from streamscore import models
from streamscore.errors import ModelError
from streamscore.models import gate
from streamscore.models.gate.files import LocalFiles


@pytest.fixture(scope="module")
def data(spark):
    """A few vectors with labels of two and of three classes."""
    rows = [(float(i % 2), float(i % 3), Vectors.dense([i % 7, i % 5, i % 3, 1.0])) for i in range(60)]
    return spark.createDataFrame(rows, ["label", "several", "features"]).coalesce(1).persist()


def stages():
    """Return compatible stages of every allowed class that takes a vector."""
    given = {"inputCol": "features"}
    transformers = [
        Binarizer(threshold=0.5, outputCol="binary", **given),
        DCT(outputCol="dct", **given),
        ElementwiseProduct(scalingVec=Vectors.dense(1, 2, 3, 4), outputCol="product", **given),
        IDF(outputCol="idf", **given),
        MaxAbsScaler(outputCol="maxabs", **given),
        MinMaxScaler(outputCol="minmax", **given),
        Normalizer(outputCol="normal", **given),
        PCA(k=2, outputCol="pca", **given),
        PolynomialExpansion(outputCol="poly", **given),
        RobustScaler(outputCol="robust", **given),
        StandardScaler(outputCol="standard", **given),
        UnivariateFeatureSelector(outputCol="selected", featuresCol="features", labelCol="label")
        .setFeatureType("continuous")
        .setLabelType("categorical")
        .setSelectionThreshold(1),
        VarianceThresholdSelector(outputCol="varying", featuresCol="features"),
        VectorIndexer(maxCategories=2, handleInvalid="keep", outputCol="indexed", **given),
        VectorSizeHint(size=4, **given),
        VectorSlicer(indices=[0], outputCol="slice", **given),
        VectorAssembler(inputCols=["slice", "pca"], outputCol="assembled"),
    ]
    learners = [
        DecisionTreeClassifier(maxDepth=1),
        FMClassifier(factorSize=1, maxIter=1),
        GBTClassifier(maxIter=1, maxDepth=1),
        LinearSVC(maxIter=1),
        LogisticRegression(maxIter=1),
        MultilayerPerceptronClassifier(layers=[4, 2], maxIter=1),
        NaiveBayes(featuresCol="binary"),
        RandomForestClassifier(numTrees=2, maxDepth=1),
    ]
    for number, learner in enumerate(learners):
        learner.setPredictionCol(f"prediction_{number}").setRawPredictionCol(f"raw_{number}")
        if learner.hasParam("probabilityCol"):
            learner.setProbabilityCol(f"probability_{number}")
    return [*transformers, *learners, OneVsRest(classifier=LogisticRegression(maxIter=1), labelCol="several")]


def test_every_native_stage_passes_the_gate_and_loads(spark, data, make_config, tmp_path):
    """Every allowed stage, as saved by Spark, passes; those on which the prediction depends load."""
    chosen = stages()
    Pipeline(stages=chosen).fit(data).save(str(tmp_path / "all"))
    found = gate.inspect(LocalFiles(tmp_path / "all"), "unsigned")
    config = make_config(f"models=[{{name: all, uri: {tmp_path / 'all'}, trust: unsigned}}]")
    (model,) = models.load(spark, config)

    assert len(found.stages) == len(chosen)
    assert type(model.stages[-1]).__name__ == "OneVsRestModel"
    assert {stage.class_name for stage in found.stages} > gate.stages.CLASSIFIERS
    assert found.inputs == ("features",)


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """The path of a trace that a module with a Python stage writes on import."""
    trace = tmp_path / "trace"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "evil_stage.py").write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "from pyspark.ml import Transformer\n"
        "from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable\n"
        "class Evil(Transformer, DefaultParamsReadable, DefaultParamsWritable):\n"
        "    def _transform(self, data):\n"
        "        return data\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return trace


def test_python_stage_is_not_even_imported(spark, data, make_config, evil_module, tmp_path):
    """The gate prevents the import that Spark would perform, as the trace shows."""
    import evil_stage

    folder = tmp_path / "evil"
    classifier = LogisticRegression(maxIter=1).fit(data)
    PipelineModel([evil_stage.Evil(), classifier]).save(str(folder))
    evil_module.unlink()
    del sys.modules["evil_stage"]
    with pytest.raises(ModelError, match="the class 'evil_stage.Evil' is not on the list"):
        models.load(spark, make_config(f"models=[{{name: evil, uri: {folder}, trust: unsigned}}]"))

    assert not evil_module.exists()
    PipelineModel.load(str(folder))
    assert evil_module.exists()


def test_sql_of_a_folder_does_not_run(spark, data, make_config, tmp_path):
    """The gate prevents the SQL that Spark would run, as the trace, a JVM property, shows."""
    evil = SQLTransformer(
        statement="SELECT *, reflect('java.lang.System', 'setProperty', 'streamscore.trace', 'ran') FROM __THIS__"
    )
    folder = tmp_path / "evil"
    PipelineModel([evil, LogisticRegression(maxIter=1).fit(data)]).save(str(folder))
    with pytest.raises(ModelError, match="the SQL of an SQLTransformer could do anything; allowed is only"):
        models.load(spark, make_config(f"models=[{{name: evil, uri: {folder}, trust: unsigned}}]"))

    assert trace_in_jvm(spark) == "null"
    PipelineModel.load(str(folder)).transform(data).collect()
    assert trace_in_jvm(spark) == "ran"


def trace_in_jvm(spark):
    """Return the JVM property that the hostile SQL sets."""
    return spark.sql("SELECT reflect('java.lang.System', 'getProperty', 'streamscore.trace')").first()[0]


@pytest.fixture
def signed(spark, data, tmp_path):
    """A saved model with a manifest, and the manifest's content."""
    folder = tmp_path / "signed"
    scaler = MaxAbsScaler(inputCol="features", outputCol="scaled")
    Pipeline(stages=[scaler, LogisticRegression(maxIter=3, featuresCol="scaled")]).fit(data).save(str(folder))
    vectors = [row["features"] for row in data.limit(4).collect()]
    path = models.sign(spark, folder, [*vectors, Vectors.sparse(4, {2: 1.5})], {"auc": 0.5}, {"git_commit": "abc"})
    return folder, json.loads(path.read_text())


def test_signed_model_loads(spark, make_config, signed):
    """A signed model loads, with the properties of its manifest."""
    folder, manifest = signed
    (model,) = models.load(spark, make_config(f"models=[{{name: lr, uri: {folder}}}]"))

    assert (model.size, model.classes, model.trust) == (4, 2, "manifest")
    assert (manifest["num_features"], manifest["labels"], manifest["inputs"]) == (4, [0.0, 1.0], ["features"])
    assert manifest["stages"] == [f"{ML}.feature.MaxAbsScalerModel", f"{ML}.classification.LogisticRegressionModel"]
    assert (manifest["metrics"], manifest["origin"]) == ({"auc": 0.5}, {"git_commit": "abc"})
    assert manifest["versions"]["spark"] == spark.version
    assert len(manifest["golden"]) == 5


def test_manifest_keeps_the_scale_of_the_margins(spark, make_config, data, tmp_path):
    """The manifest keeps the scale of the margins, which is 1 without a manifest."""
    folder = tmp_path / "svm"
    Pipeline(stages=[LinearSVC(maxIter=2)]).fit(data).save(str(folder))
    scales = []
    for options in ({}, {"margin_scale": 0.25}):
        path = models.sign(spark, folder, [Vectors.dense(1, 2, 3, 4)], {}, {}, **options)
        scales.append(models.load(spark, make_config(f"models=[{{name: svm, uri: {folder}}}]"))[0].margin_scale)
    unsigned = f"models=[{{name: svm, uri: {folder}, trust: unsigned}}]"
    path.unlink()

    assert scales == [1.0, 0.25]
    assert models.load(spark, make_config(unsigned))[0].margin_scale == 1.0


def test_model_is_signed_anew(spark, make_config, signed):
    """Signing again replaces the manifest."""
    folder, _ = signed
    (folder / MANIFEST).write_text("{")
    models.sign(spark, folder, [Vectors.dense(1, 2, 3, 4)], {}, {})

    assert models.load(spark, make_config(f"models=[{{name: lr, uri: {folder}}}]"))[0].size == 4


def elsewhere(manifest):
    """Change the manifest's Java version."""
    manifest["versions"]["java"] = "1.8.0 s390x"


def off_by(manifest, factor):
    """Change the score of the last golden row."""
    manifest["golden"][-1]["score"] *= factor


WRONG = {
    "prediction": (
        lambda manifest: manifest["golden"][1].update(prediction=2.0),
        "golden row 1 does not reproduce: .*class 2 ",
    ),
    "score": (lambda manifest: off_by(manifest, 0.9), "golden row 4 does not reproduce"),
    "last bit of a score": (lambda manifest: off_by(manifest, 1 + 2**-52), "golden row 4 does not reproduce"),
    "score, on another machine": (
        lambda manifest: (elsewhere(manifest), off_by(manifest, 1 + 1e-9)),
        "golden row 4 does not repro",
    ),
    "golden row of another length": (
        lambda manifest: manifest["golden"][0].update(features={"type": 1, "values": [1.0]}),
        "golden row 0 has 1 features, the model 4",
    ),
    "number of features": (
        lambda manifest: manifest.update(num_features=5),
        "it says 5 features and 2 labels, but .* 4 and 2",
    ),
    "labels": (
        lambda manifest: manifest.update(labels=[0.0, 1.0, 2.0]),
        "it says 4 features and 3 labels, but the model has 4",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_model_that_does_not_do_what_its_manifest_says_is_refused(spark, make_config, signed, name):
    """A model with the right files but other outputs is refused."""
    folder, manifest = signed
    change, message = WRONG[name]
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(ModelError, match=f"the model 'lr' is refused: .*{message}"):
        models.load(spark, make_config(f"models=[{{name: lr, uri: {folder}}}]"))


def test_last_bit_does_not_count_on_another_machine(spark, make_config, signed):
    """On another Java or processor the last bit of a score may differ."""
    folder, manifest = signed
    elsewhere(manifest)
    off_by(manifest, 1 + 2**-52)
    (folder / MANIFEST).write_text(json.dumps(manifest))

    assert models.load(spark, make_config(f"models=[{{name: lr, uri: {folder}}}]"))


def test_folder_that_changes_while_it_is_loaded_is_refused(spark, make_config, signed, monkeypatch):
    """A folder that changes during the load is refused."""
    folder, _ = signed
    load = JavaMLReader.load

    def load_and_change(reader, path):
        loaded = load(reader, path)
        if (folder / MANIFEST).exists():
            (folder / MANIFEST).unlink()
            (part,) = (folder / "stages").glob("0_*/data/*.parquet")
            part.write_bytes(part.read_bytes() + b"x")
        return loaded

    monkeypatch.setattr(JavaMLReader, "load", load_and_change)
    with pytest.raises(ModelError, match="the folder has changed while it was loaded"):
        models.load(spark, make_config(f"models=[{{name: lr, uri: {folder}, trust: unsigned}}]"))


@pytest.mark.parametrize("name", ["a,b", "a*", "a?", "[ab]", "{a}", "a\\b"])
def test_folder_whose_name_is_a_pattern_is_refused(spark, data, make_config, tmp_path, name):
    """A folder whose name is a glob pattern is refused, because Spark would read other folders."""
    write_model(tmp_path / name)
    with pytest.raises(ModelError, match="Spark takes it for a pattern of paths"):
        models.load(spark, make_config(f"models=[{{name: lr, uri: '{tmp_path / name}', trust: unsigned}}]"))
