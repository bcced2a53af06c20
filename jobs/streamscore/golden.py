"""Golden rows: vectors with what a model made of them after its training, which it must make of them at every load."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyspark.ml.linalg import DenseVector, SparseVector, Vectors

from streamscore import __version__, scoring
from streamscore.errors import ModelError
from streamscore.gate.manifest import MANIFEST, Golden, Manifest, Vector, Versions
from streamscore.schema import FEATURES
from streamscore.scoring import ServedModel

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_OTHER_MACHINE: Final = 1e-12
"""How far a score may be off, relatively, on another Java or processor: their exp and log differ in the last bit."""


def outcomes(
    spark: SparkSession, model: ServedModel, vectors: Sequence[SparseVector | DenseVector]
) -> list[tuple[float, float]]:
    """Return the prediction and the score of some vectors, in their order."""
    data = spark.createDataFrame(list(enumerate(vectors)), ["number", FEATURES])
    rows = scoring.apply(data, [model]).collect()
    found = {row["number"]: (row[model.prediction], row[model.score]) for row in rows}
    return [found[number] for number in range(len(vectors))]


def rows(spark: SparkSession, model: ServedModel, vectors: Sequence[SparseVector | DenseVector]) -> tuple[Golden, ...]:
    """Return golden rows of some vectors."""
    return tuple(
        Golden(features=_written(vector), prediction=prediction, score=score)
        for vector, (prediction, score) in zip(vectors, outcomes(spark, model, vectors), strict=True)
    )


def require_same(spark: SparkSession, model: ServedModel, manifest: Manifest) -> None:
    """Compare what a model makes of the golden rows with what it made of them after the training.

    To the last bit, on a machine like the one of the training; elsewhere Java's own functions differ in that bit.

    Raises:
        ModelError: one differs.
    """
    tolerance = 0.0 if versions(spark).java == manifest.versions.java else _OTHER_MACHINE
    vectors = [_read(row.features) for row in manifest.golden]
    for number, vector in enumerate(vectors):
        if len(vector) != model.size:
            raise ModelError(f"{MANIFEST}: golden row {number} has {len(vector)} features, the model {model.size}")
    found = outcomes(spark, model, vectors)
    for number, ((prediction, score), row) in enumerate(zip(found, manifest.golden, strict=True)):
        if prediction != row.prediction or abs(score - row.score) > tolerance * abs(row.score):
            raise ModelError(
                f"{MANIFEST}: golden row {number} does not reproduce: after the training it was class "
                f"{row.prediction:g} with score {row.score!r}, this Spark computes {prediction:g} with {score!r}"
            )


def versions(spark: SparkSession) -> Versions:
    """Return what runs here."""
    java = "reflect('java.lang.System', 'getProperty', '{}')"
    version, processor = spark.sql(f"SELECT {java.format('java.version')}, {java.format('os.arch')}").collect()[0]
    return Versions(
        streamscore=__version__,
        spark=spark.version,
        python=platform.python_version(),
        java=f"{version} {processor}",
    )


def _written(vector: SparseVector | DenseVector) -> Vector:
    values = tuple(map(float, vector.values))
    if isinstance(vector, DenseVector):
        return Vector(type=1, values=values)
    return Vector(type=0, size=int(vector.size), indices=tuple(map(int, vector.indices)), values=values)


def _read(vector: Vector) -> SparseVector | DenseVector:
    if vector.size is None:
        return Vectors.dense(vector.values)
    return Vectors.sparse(vector.size, vector.indices or (), vector.values)
