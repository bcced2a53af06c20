"""Read the stages of a saved pipeline from its metadata alone: their classes, columns and files."""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamscore.models.gate.files import refused
from streamscore.models.gate.schema import parse_json
from streamscore.models.gate.trees import TreeModel
from streamscore.scoring.renames import FORM, parse

if TYPE_CHECKING:
    from streamscore.models.gate.files import Files

_MAX_METADATA_BYTES: Final = 4 << 20
_MAX_ALL_METADATA_BYTES: Final = 32 << 20
_MAX_NESTING: Final = 8
_MAX_CLASSES: Final = 10_000

_ML: Final = "org.apache.spark.ml"
_PIPELINE: Final = f"{_ML}.PipelineModel"
_PYTHON_PIPELINE: Final = "pyspark.ml.pipeline.PipelineModel"
"""PySpark's class of a pipeline with OneVsRest or an inner pipeline, which only PySpark's own reader can load."""
_ONE_VS_REST: Final = f"{_ML}.classification.OneVsRestModel"

_LEARNERS: Final = {
    "LogisticRegression": "LogisticRegressionModel",
    "LinearSVC": "LinearSVCModel",
    "DecisionTreeClassifier": "DecisionTreeClassificationModel",
    "RandomForestClassifier": "RandomForestClassificationModel",
    "GBTClassifier": "GBTClassificationModel",
    "NaiveBayes": "NaiveBayesModel",
    "MultilayerPerceptronClassifier": "MultilayerPerceptronClassificationModel",
    "FMClassifier": "FMClassificationModel",
}
CLASSIFIERS: Final = frozenset(f"{_ML}.classification.{model}" for model in _LEARNERS.values())
_ESTIMATORS: Final = frozenset(f"{_ML}.classification.{learner}" for learner in _LEARNERS)
"""Classes of the learner that OneVsRest saves beside its models."""

TRANSFORMERS: Final = frozenset(
    f"{_ML}.feature.{name}"
    for name in (
        *("Binarizer", "Bucketizer", "ChiSqSelectorModel", "CountVectorizerModel", "DCT", "ElementwiseProduct"),
        *("FeatureHasher", "HashingTF", "IDFModel", "ImputerModel", "IndexToString", "Interaction"),
        *("MaxAbsScalerModel", "MinMaxScalerModel", "NGram", "Normalizer", "OneHotEncoderModel", "PCAModel"),
        *("PolynomialExpansion", "RegexTokenizer", "RobustScalerModel", "StandardScalerModel", "StopWordsRemover"),
        *("StringIndexerModel", "Tokenizer", "UnivariateFeatureSelectorModel", "VarianceThresholdSelectorModel"),
        *("VectorAssembler", "VectorIndexerModel", "VectorSizeHint", "VectorSlicer", "Word2VecModel"),
    )
)
"""Deterministic stages that run inside the JVM, read no data and run no other code. Excluded is RFormulaModel, whose
inner stages are private classes; of SQLTransformer, which runs any SQL, only the statements that give columns other
names are allowed."""

_TUNERS: Final = frozenset(
    f"{package}.tuning.{name}"
    for package in (_ML, "pyspark.ml")
    for name in ("CrossValidatorModel", "TrainValidationSplitModel")
)
_BEST: Final = "bestModel/"
"""Folder of a tuner's best model, the only one in the tuner's folder that is loaded."""
_OTHERS_OF_TUNER = re.compile(r"(estimator|evaluator|subModels|epm_[\w-]+)/.*", re.ASCII | re.DOTALL)
"""Further files of a tuner, which nothing reads."""

_UID = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
_METADATA = re.compile(r"part-\d{5}(-[0-9A-Za-z-]+(\.c\d+)?(\.txt)?)?(\.(?P<codec>gz|deflate|bz2))?", re.ASCII)
_DATA = re.compile(r"part-[0-9A-Za-z.-]+\.parquet")
_COMMIT_NOTE = re.compile(r"_(committed|started)_\w+", re.ASCII)
"""Files that a Databricks runtime adds beside Spark's files."""

_INPUTS: Final = ("featuresCol", "inputCol", "inputCols")
_OUTPUTS: Final = ("outputCol", "outputCols", "rawPredictionCol", "probabilityCol", "predictionCol", "leafCol")
_INDEXER: Final = f"{_ML}.feature.StringIndexerModel"
_SQL: Final = f"{_ML}.feature.SQLTransformer"
_MAY_SKIP: Final = frozenset(
    f"{_ML}.feature.{name}"
    for name in ("Bucketizer", "StringIndexerModel", "VectorAssembler", "VectorIndexerModel", "VectorSizeHint")
)
"""Stages whose rows with invalid values are declined before the stage could drop them."""


@dataclass(frozen=True)
class Stage:
    """A stage as described by its metadata."""

    class_name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    folder: str = ""
    """Its folder inside Spark's folder, with ``/`` at the end; empty for Spark's folder itself."""
    label: str = ""
    """The column of the label, for a classifier."""

    @property
    def is_classifier(self) -> bool:
        """Whether the stage's class is a classifier."""
        return self.class_name in CLASSIFIERS | {_ONE_VS_REST}

    @property
    def is_string_indexer(self) -> bool:
        """Whether the stage turns texts into numbers, each column by itself."""
        return self.class_name == _INDEXER

    @property
    def is_renaming(self) -> bool:
        """Whether the stage gives columns other names, and does nothing else."""
        return self.class_name == _SQL

    @property
    def name(self) -> str:
        """The last part of the class's name."""
        return self.class_name.rpartition(".")[2]


def needed(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages that the prediction depends on: the last classifier, and the stages that make its input.

    A stage on the label and what follows the classifier are not among them. Of a StringIndexer or an SQLTransformer of
    several columns, the inputs are those that the prediction depends on: at the others it does nothing if they are
    absent.
    """
    end = max((place for place, stage in enumerate(stages) if stage.is_classifier), default=len(stages) - 1)
    if not stages or not stages[end].is_classifier:
        return tuple(stages)
    found = [stages[end]]
    wanted = set(stages[end].inputs)
    for stage in reversed(stages[:end]):
        made = stage.outputs or stage.inputs  # a VectorSizeHint changes its input
        if wanted.isdisjoint(made):
            continue
        if stage.is_string_indexer or stage.is_renaming:
            pairs = zip(stage.inputs, stage.outputs, strict=True)
            stage = replace(stage, inputs=tuple(one for one, other in pairs if other in wanted))  # noqa: PLW2901
        wanted = wanted.difference(made).union(stage.inputs)
        found.append(stage)
    return tuple(reversed(found))


class Pipeline(NamedTuple):
    """A saved pipeline as described by its metadata; inner pipelines are replaced by their own stages."""

    stages: tuple[Stage, ...]
    trees: dict[str, TreeModel]
    """The tree models, also those inside OneVsRest, by their folder, which ends with ``/``."""


def read(files: Files, inner: str, names: Collection[str]) -> Pipeline:
    """Read the metadata of a pipeline and of all its stages.

    Args:
        files: the model's folder.
        inner: Spark's folder inside it.
        names: the files in Spark's folder, without file systems' markers.

    Raises:
        ModelError: metadata are absent or not in Spark's form, a stage's class is not on the list, or a file belongs to
            no stage.
    """
    reader = _Reader(files, inner)
    for name in names:
        folder, _, short = name.rpartition("/")
        reader.listed.setdefault(f"{folder}/", []).append(short)
    found = reader.model()
    extra = sorted(set(names) - reader.used)
    if extra:
        raise refused(files.location, inner + extra[0], "an extra file: it belongs to no stage of the pipeline")
    return Pipeline(tuple(found), reader.trees)


@dataclass
class _Reader:
    """A walk over a saved pipeline, which records the files that belong to it."""

    files: Files
    inner: str
    listed: dict[str, list[str]] = field(default_factory=dict)
    """The names of the files in each folder."""
    used: set[str] = field(default_factory=set)
    """The files that belong to a stage."""
    trees: dict[str, TreeModel] = field(default_factory=dict)
    metadata_bytes: int = 0

    def model(self) -> list[Stage]:
        """Return all stages: those of a pipeline, of a tuner's best model, or a classifier alone."""
        name, metadata = self._metadata("")
        self._require(
            metadata["class"] in {_PIPELINE, _PYTHON_PIPELINE, _ONE_VS_REST} | _TUNERS | CLASSIFIERS,
            name,
            f"the class {metadata['class']!a} is neither a PipelineModel nor a classifier",
        )
        return self._of_folder("", 0, name, metadata)

    def _of_folder(self, folder: str, depth: int, name: str, metadata: dict[str, Any]) -> list[Stage]:
        """Return the stages of a folder whose metadata have been read."""
        class_name = metadata["class"]
        if class_name in {_PIPELINE, _PYTHON_PIPELINE}:
            return self._stages(folder, depth, name, metadata)
        if class_name in _TUNERS:
            self._require(depth < _MAX_NESTING, name, f"more than {_MAX_NESTING} models inside each other are refused")
            self.used.update(file for file in self.names(folder) if _OTHERS_OF_TUNER.fullmatch(file, len(folder)))
            best, inner = self._metadata(f"{folder}{_BEST}")
            return self._of_folder(f"{folder}{_BEST}", depth + 1, best, inner)
        return [self._leaf(folder, name, metadata)]

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder and below."""
        return [
            f"{place.lstrip('/')}{short}"
            for place, shorts in self.listed.items()
            for short in shorts
            if place.lstrip("/").startswith(folder)
        ]

    def _stages(self, folder: str, depth: int, name: str, metadata: dict[str, Any]) -> list[Stage]:
        self._require(depth < _MAX_NESTING, name, f"more than {_MAX_NESTING} pipelines inside each other are refused")
        params = metadata["paramMap"]
        language = {"language": "Python"} if metadata["class"] == _PYTHON_PIPELINE else {}
        uids = params.get("stageUids")
        self._require(
            params == {"stageUids": uids} | language, name, "a pipeline's paramMap holds stageUids and nothing else"
        )
        self._require(
            isinstance(uids, list) and all(isinstance(one, str) and _UID.fullmatch(one) for one in uids),
            name,
            "stageUids is not a list of plain names: a stage may not be elsewhere",
        )
        self._require(len(set(uids)) == len(uids), name, "stageUids names a stage twice")
        digits = len(str(len(uids)))
        found: list[Stage] = []
        for position, one in enumerate(uids):
            found += self._stage(f"{folder}stages/{position:0{digits}}_{one}/", depth, one)
        return found

    def _stage(self, folder: str, depth: int, uid: str) -> list[Stage]:
        name, metadata = self._metadata(folder)
        self._require(
            uid == metadata["uid"], name, f"its uid is {metadata['uid']!a}, but the pipeline calls it {uid!a}"
        )
        return self._of_folder(folder, depth + 1, name, metadata)

    def _leaf(self, folder: str, name: str, metadata: dict[str, Any]) -> Stage:
        class_name = metadata["class"]
        self._require_listed(class_name, CLASSIFIERS | TRANSFORMERS | {_ONE_VS_REST, _SQL}, name)
        if class_name == _ONE_VS_REST:
            self._one_vs_rest(folder, name, metadata)
        params = metadata["defaultParamMap"] | metadata["paramMap"]
        if class_name == _SQL:
            renamed = parse(str(params.get("statement")))
            if renamed is None:
                reason = f"the SQL of an SQLTransformer could do anything; allowed is only the form {FORM}"
                raise refused(self.files.location, self.inner + name, reason)
            read, made = zip(*renamed, strict=True)
            return Stage(class_name, read, made, folder)
        self._require_steadfast(class_name, params, name)
        self._note_trees(folder, name, metadata)
        inputs, outputs = self._columns(params, _INPUTS, name), self._columns(params, _OUTPUTS, name)
        if class_name == _INDEXER:  # its default of outputCol is there beside outputCols
            several = "inputCols" in params
            inputs = self._columns(params, ("inputCols",) if several else ("inputCol",), name)
            outputs = self._columns(params, ("outputCols",) if several else ("outputCol",), name)
            self._require(len(inputs) == len(outputs), name, "it has another number of output columns than of input")
        (label,) = self._columns(params, ("labelCol",), name) or ("",)
        return Stage(class_name, inputs, outputs, folder, label)

    def _one_vs_rest(self, folder: str, name: str, metadata: dict[str, Any]) -> None:
        """Check the models inside OneVsRest, one per class, and the learner that fitted them."""
        count: Any = metadata.get("numClasses")
        self._require(type(count) is int and 0 < count <= _MAX_CLASSES, name, f"numClasses is {count!a}")
        learner, made_by = self._metadata(f"{folder}classifier/")
        self._require_listed(made_by["class"], _ESTIMATORS, learner)
        for number in range(count):
            model, inner = self._metadata(f"{folder}model_{number}/")
            self._require_listed(inner["class"], CLASSIFIERS, model)
            self._require_steadfast(inner["class"], inner["defaultParamMap"] | inner["paramMap"], model)
            self._note_trees(f"{folder}model_{number}/", model, inner)

    def _note_trees(self, folder: str, name: str, metadata: dict[str, Any]) -> None:
        try:
            trees = TreeModel.of(metadata)
        except ValueError as error:
            raise refused(self.files.location, self.inner + name, str(error)) from None
        if trees is not None:
            self.trees[folder] = trees

    def _metadata(self, folder: str) -> tuple[str, dict[str, Any]]:
        """Return the name and the content of a stage's metadata; record the stage's files."""
        for kind, pattern in (("metadata/", _METADATA), ("data/", _DATA), ("treesMetadata/", _DATA)):
            for short in self.listed.get(f"{folder}{kind}", []):
                if pattern.fullmatch(short) or _COMMIT_NOTE.fullmatch(short):
                    self.used.add(f"{folder}{kind}{short}")
        parts = [match for short in self.listed.get(f"{folder}metadata/", []) if (match := _METADATA.fullmatch(short))]
        self._require(
            len(parts) == 1,
            f"{folder}metadata",
            f"expected one file part-00000 in there, found {len(parts)}: not a PipelineModel as Spark saves it",
        )
        name = f"{folder}metadata/{parts[0][0]}"
        return name, self._parsed(name, parts[0]["codec"])

    def _parsed(self, name: str, codec: str | None) -> dict[str, Any]:
        """Parse metadata strictly, so that Spark's parser reads the same value."""
        content = self.files.read(self.inner + name, _MAX_METADATA_BYTES)
        if codec is not None:
            try:
                content = _unpacked(content, codec)
            except (ValueError, OSError, zlib.error) as error:
                raise refused(self.files.location, self.inner + name, f"it cannot be unpacked ({error})") from None
        self.metadata_bytes += len(content)
        self._require(
            self.metadata_bytes <= _MAX_ALL_METADATA_BYTES,
            name,
            f"more than {_MAX_ALL_METADATA_BYTES:,} bytes of metadata are refused",
        )
        try:
            text = content.decode()
            one_line = not set("\r\n") & set(text.removesuffix("\n"))
            self._require(one_line, name, "it is not one line, and Spark reads only the first")
            metadata: dict[str, Any] = parse_json(text)
        except ValueError as error:
            raise refused(self.files.location, self.inner + name, f"it is not plain JSON ({error})") from None
        self._require(isinstance(metadata, dict), name, "it is not a JSON object")
        metadata.setdefault("defaultParamMap", {})
        for key, kind in (("class", str), ("uid", str), ("paramMap", dict), ("defaultParamMap", dict)):
            self._require(
                isinstance(metadata.get(key), kind), name, f"{key} is absent or of another type than Spark writes"
            )
        return metadata

    def _require_listed(self, class_name: str, listed: frozenset[str], name: str) -> None:
        self._require(
            class_name in listed,
            name,
            f"the class {class_name!a} is not on the list of stages that are safe to load. Allowed are Spark's own "
            "classifiers and feature stages, but no Python stage, and nothing from elsewhere",
        )

    def _require_steadfast(self, class_name: str, params: dict[str, Any], name: str) -> None:
        """Refuse a stage that drops rows or fails on some value, unless such values are declined before it."""
        kind = class_name.rpartition(".")[2]
        self._require(
            params.get("handleInvalid") != "skip" or class_name in _MAY_SKIP,
            name,
            f"{kind} would drop rows without a word: its handleInvalid is 'skip', set 'keep'",
        )
        self._require(
            params.get("modelType") != "bernoulli",
            name,
            f"{kind} of the type bernoulli would stop the stream at a value other than 0 and 1",
        )

    def _columns(self, params: dict[str, Any], wanted: tuple[str, ...], name: str) -> tuple[str, ...]:
        columns: list[str] = []
        for param in wanted:
            value = params.get(param, [])
            listed = value if isinstance(value, list) else [value]
            self._require(all(isinstance(one, str) for one in listed), name, f"{param} is not a column's name")
            columns += [one for one in listed if one]
        return tuple(columns)

    def _require(self, holds: bool, name: str, reason: str) -> None:
        if not holds:
            raise refused(self.files.location, self.inner + name, reason)


def _unpacked(content: bytes, codec: str) -> bytes:
    """Return compressed metadata as Hadoop's codecs read them.

    Raises:
        ValueError: more than one stream follows the other, the content is too long or incomplete.
        OSError: the content is not of this codec; ``zlib.error`` for the codecs of zlib.
    """
    decompressor: Any = bz2.BZ2Decompressor() if codec == "bz2" else zlib.decompressobj(31 if codec == "gz" else 15)
    text: bytes = decompressor.decompress(content, _MAX_METADATA_BYTES + 1)
    if len(text) > _MAX_METADATA_BYTES:
        raise ValueError(f"it is longer than {_MAX_METADATA_BYTES:,} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("it is not one complete stream")
    return text
