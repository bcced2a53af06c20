"""The message formats, one module each, to decode and encode; docs/add-a-message-format.md shows how to add one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamscore.messages.formats import columns, dense, spark, triple
from streamscore.messages.formats.base import Format, MessageShape

VECTORS: Final[Mapping[str, Format]] = {
    "spark": spark,
    "triple": triple,
    "dense": dense,
}
"""The formats of a vector, by the values of ``message.vector_form``."""


def format_of(shape: MessageShape) -> Format:
    """Return the format of messages: raw columns if the shape has any, or else the vector's format."""
    return columns if shape.columns else VECTORS[shape.vector_form]
