"""The message formats: a module per format, which decodes and encodes; docs/add-a-message-format.md adds one."""

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
    """Return the format of messages: raw columns if there are any, or else that of the vector."""
    return columns if shape.columns else VECTORS[shape.vector_form]
