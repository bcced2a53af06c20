"""Compile and register this project's Java: the message decoder, text as JSON, the sums of quality, and counts."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamscore.errors import SetupError
from streamscore.messages import formats
from streamscore.schema import LABEL, REASON, REASONS
from streamscore.spark.spark_home import spark_home

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession
    from pyspark.sql.types import DataType

    from streamscore.messages.formats.base import MessageShape
    from streamscore.scoring.served import ServedModel

SOURCES = (
    "MessageShape.java",
    "NumberText.java",
    "Diagnosis.java",
    "PlainReader.java",
    "RawColumns.java",
    "Reading.java",
    "VectorForm.java",
    "MessageDecoder.java",
    "JsonText.java",
    "ModelSums.java",
    "PairSums.java",
    "WindowSums.java",
    "QualitySums.java",
    "EventCounts.java",
)
"""The files in the order of their compilation, each after those that it uses. The vector formats come last."""


@cache
def sources() -> tuple[str, ...]:
    """Return the Java sources: those of the files, then those of the message formats."""
    own = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in SOURCES)
    return (*own, *(vector_format.JAVA for vector_format in formats.VECTORS.values()))


def jar_name() -> str:
    """Return the name of the decoder's jar, which contains a hash of its sources."""
    return f"streamscore-decoder-{hashlib.sha256(''.join(sources()).encode()).hexdigest()[:12]}.jar"


def compile_jar(jar: Path, java: Path) -> None:
    """Compile the decoder with Janino, the compiler inside PySpark, so that no JDK is needed.

    Args:
        jar: the file to write.
        java: the ``java`` program to compile with.

    Raises:
        SetupError: the JVM did not start or the source did not compile.
    """
    from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
    from py4j.protocol import Py4JError

    classpath = str(spark_home() / "jars" / "*")
    try:
        port, token = launch_gateway(
            classpath=classpath, java_path=str(java), die_on_exit=True, enable_auth=True, javaopts=["-XX:-UsePerfData"]
        )
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token, auto_convert=True))
    except (OSError, Py4JError, ValueError) as error:
        raise SetupError(f"{java} did not start for the message decoder: {error}") from None
    classes: dict[str, bytes] = {}
    try:
        loader = gateway.jvm.java.lang.Thread.currentThread().getContextClassLoader()
        for source in sources():
            compiler = gateway.jvm.org.codehaus.janino.SimpleCompiler()
            compiler.setParentClassLoader(loader)
            compiler.cook(source)
            loader = compiler.getClassLoader()
            classes |= {str(name): bytes(code) for name, code in compiler.getBytecodes().items()}
    except Py4JError as error:
        raise SetupError(f"the message decoder did not compile: {error}") from None
    finally:
        gateway.shutdown()
    _write_jar(jar, classes)


def register(spark: SparkSession, name: str, message: MessageShape, size: int) -> None:
    """Register the decoder as a SQL function: message bytes in, ``decode.decoded_type`` out.

    Args:
        spark: a classic session (not Spark Connect) that was started with the decoder's jar.
        name: name of the SQL function.
        message: the shape of a message, which determines the format.
        size: number of features that a vector must have; raw columns have no size.

    Raises:
        SetupError: the session lacks the jar.
    """
    from streamscore.messages.decode import decoded_type

    shape = _java(spark, "MessageShape")(
        message.label_field, message.root, message.text_numbers, dict(message.label_values), message.max_bytes
    )
    arguments = formats.format_of(message).decoder_arguments(message, size)
    _register(spark, name, decoded_type(message.columns), "MessageDecoder", shape, *arguments)


def register_text(spark: SparkSession, name: str) -> None:
    """Register the conversion of text to JSON as a SQL function: UTF-8 bytes in, JSON bytes out; null becomes ``null``.

    Args:
        spark: a classic session (not Spark Connect) that was started with the decoder's jar.
        name: name of the SQL function.

    Raises:
        SetupError: the session lacks the jar.
    """
    from pyspark.sql.types import BinaryType

    _register(spark, name, BinaryType(), "JsonText")


def quality_sums(
    spark: SparkSession, models: Sequence[ServedModel], champion: int, seconds: int | None = None
) -> Column:
    """Return an aggregate of evaluated rows: the statistics by window, of models and pairs, for ``quality.packed``.

    Args:
        spark: a classic session (not Spark Connect) that was started with the decoder's jar.
        models: the models that were applied to the rows.
        champion: position of the model with which the others are compared.
        seconds: length of a window of event time; None: all events are in one window.

    Returns:
        An aggregate column of bytes.

    Raises:
        SetupError: the session lacks the jar.
    """
    from pyspark.sql import Column

    inputs = ["event_time", f"{REASON} IS NULL", LABEL]
    for model in models:
        inputs += [model.prediction, model.score, model.label_score or "double(null)"]
    kinds = ";".join(f"{model.score_kind} {model.classes} {model.margin_scale!r}" for model in models)
    return Column(_java(spark, "QualitySums").column(inputs, 1_000 * (seconds or 0), kinds, champion))


def event_counts(spark: SparkSession) -> Column:
    """Return an aggregate of evaluated rows: events by age and by reason of rejection, for ``messages.event_counts``.

    Ages are counted from when a stream planned the batch: Spark keeps that time, so a replay has the same one.

    Args:
        spark: a classic session (not Spark Connect) that was started with the decoder's jar.

    Returns:
        An aggregate column of bytes.

    Raises:
        SetupError: the session lacks the jar.
    """
    from pyspark.sql import Column

    inputs = ["unix_millis(current_timestamp())", "event_time", REASON]
    return Column(_java(spark, "EventCounts").column(inputs, list(REASONS)))


def _register(spark: SparkSession, name: str, result: DataType, java_class: str, *arguments: Any) -> None:
    # Spark's public method accepts only classes with generics, which Janino does not compile.
    function = _java(spark, java_class)(*arguments)
    session = spark._jsparkSession  # noqa: SLF001 (as above)
    session.udf().register(name, function, session.parseDataType(result.json()))


def _java(spark: SparkSession, name: str) -> Any:
    """Return a class of the decoder's jar.

    Raises:
        SetupError: the session lacks the jar.
    """
    from py4j.java_gateway import JavaClass

    found = getattr(spark._jvm.streamscore, name)  # type: ignore[union-attr]  # noqa: SLF001 (the jar is ours)
    if not isinstance(found, JavaClass):  # py4j takes an unknown class for a package
        raise SetupError(
            f"the Spark session has no streamscore.{name}: start it with --jars $(streamscore jars), "
            "or run `streamscore score`"
        )
    return found


def _write_jar(jar: Path, classes: dict[str, bytes]) -> None:
    """Write classes as a jar atomically; equal classes give equal bytes."""
    jar.parent.mkdir(parents=True, exist_ok=True)
    partial = jar.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(classes):
            archive.writestr(zipfile.ZipInfo(name.replace(".", "/") + ".class", (1980, 1, 1, 0, 0, 0)), classes[name])
    partial.replace(jar)
