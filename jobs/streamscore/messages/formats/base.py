"""What a message format is, and what the formats of vectors share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from pyspark.sql import Column

    from streamscore.config.fields import Field

PARTS: Final = "type: tinyint, size: int, indices: array<{}>, values: array<double>"
"""The parts of a vector, as Spark's JSON has them; to be filled in with the type of an index."""


class MessageShape(Protocol):
    """What a format needs to know of a message; the configuration's section ``message`` is one."""

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
        """The fields that lead to the object with label and features, joined by dots; None: it is the message."""

    @property
    def text_numbers(self) -> bool:
        """Whether a text that is a number counts as one."""

    @property
    def label_values(self) -> Mapping[str, float]:
        """The class of each label that is a text, ``true`` or ``false``."""

    @property
    def max_bytes(self) -> int:
        """Longest message that is parsed, in bytes."""


class Format(Protocol):
    """A message format: a module with these three names."""

    @property
    def JAVA(self) -> str:  # noqa: N802 (a constant of a module)
        """Source of the format's Java class, a ``VectorForm``; empty if the format needs none of its own."""

    def encode(self, label: Column, features: Column, shape: MessageShape) -> Column:
        """Return the JSON text of a message.

        Args:
            label: a double; if it is null, the message has no label.
            features: a vector or its parts, or a struct of the raw columns.
            shape: the names in the message.
        """

    def decoder_arguments(self, shape: MessageShape, size: int) -> tuple[Any, ...]:
        """Return the arguments of the Java class ``MessageDecoder`` for this format, those behind the shape.

        Args:
            shape: the names in the message.
            size: number of features that a vector must have.
        """


class VectorParts(NamedTuple):
    """A vector, sparse or dense, as columns; a dense one has every index."""

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
    """Return the JSON text of a message with a vector; without a label its field is left out.

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
        java_class: the ``VectorForm`` that reads the vector.
        shape: the names in the message.
        size: number of features that the vector must have.
    """
    return (shape.features_field, java_class, size)
