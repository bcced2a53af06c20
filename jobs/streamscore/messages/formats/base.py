"""The interface of a message format, and functions that the formats of vectors share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from pyspark.sql import Column

    from streamscore.config.fields import Field

PARTS: Final = "type: tinyint, size: int, indices: array<{}>, values: array<double>"
"""Type of the parts of a vector in Spark's JSON; a template for the type of an index."""


class MessageShape(Protocol):
    """The description of a message for a format; the configuration's section ``message`` implements it."""

    @property
    def label_field(self) -> str:
        """Name of the label's field."""

    @property
    def features_field(self) -> str:
        """Name of the vector's field."""

    @property
    def vector_form(self) -> str:
        """Name of the vector's format."""

    @property
    def columns(self) -> Sequence[Field]:
        """The raw columns; empty if the message has a vector."""

    @property
    def root(self) -> str | None:
        """Path of fields to the object with label and features, joined by dots; None: the message is the object."""

    @property
    def text_numbers(self) -> bool:
        """Whether a numeric text counts as a number."""

    @property
    def label_values(self) -> Mapping[str, float]:
        """The class of each label that is a text, ``true`` or ``false``."""

    @property
    def max_bytes(self) -> int:
        """Longest message to parse, in bytes."""


class Format(Protocol):
    """A message format: a module with this constant and these two functions."""

    @property
    def JAVA(self) -> str:  # noqa: N802 (a constant of a module)
        """Source of the format's Java class, a ``VectorForm``; empty if the format needs none of its own."""

    def encode(self, label: Column, features: Column, shape: MessageShape) -> Column:
        """Return the JSON text of a message.

        Args:
            label: a double; null for a message without a label.
            features: a vector or its parts, or a struct of the raw columns.
            shape: the names in the message.
        """

    def decoder_arguments(self, shape: MessageShape, size: int) -> tuple[Any, ...]:
        """Return the arguments of the Java class ``MessageDecoder`` for this format, after the shape.

        Args:
            shape: the names in the message.
            size: number of features that a vector must have.
        """


class VectorParts(NamedTuple):
    """Columns with the parts of a vector, sparse or dense; a dense vector has every index."""

    size: Column
    indices: Column
    values: Column


def vector_parts(features: Column) -> VectorParts:
    """Return the size, indices and values of a vector."""
    from pyspark.sql import functions as F

    parts = F.from_json(F.to_json(F.struct(features.alias("v"))), f"struct<v: struct<{PARTS.format('int')}>>")["v"]
    values = parts["values"]
    size = F.coalesce(parts["size"], F.size(values))  # a dense vector has neither size nor indices
    return VectorParts(size, F.coalesce(parts["indices"], F.sequence(F.lit(0), size - 1)), values)


def message_with(vector: Column, label: Column, shape: MessageShape) -> Column:
    """Return the JSON text of a message with a vector; a null label is omitted.

    Args:
        vector: the vector's JSON text.
        label: a double or null.
        shape: the names in the message.
    """
    from pyspark.sql import functions as F

    fields = F.concat_ws(
        ",",
        F.concat(F.lit(f"{json.dumps(shape.label_field)}:"), label),
        F.concat(F.lit(f"{json.dumps(shape.features_field)}:"), vector),
    )
    return F.concat(F.lit("{"), fields, F.lit("}"))


def vector_arguments(java_class: str, shape: MessageShape, size: int) -> tuple[Any, ...]:
    """Return the arguments of ``MessageDecoder`` for a message with a vector.

    Args:
        java_class: name of the ``VectorForm`` that reads the vector.
        shape: the names in the message.
        size: number of features that the vector must have.
    """
    return (shape.features_field, java_class, size)
