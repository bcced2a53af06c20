"""A vector as an array of all its values, zeros too: ``[0.0,1.5]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamscore.messages.formats.base import message_with, vector_arguments, vector_parts

if TYPE_CHECKING:
    from pyspark.sql import Column

    from streamscore.messages.formats.base import MessageShape

JAVA: Final = """
package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import java.io.IOException;

final class DenseForm extends VectorForm {
    private static final long serialVersionUID = 1L;

    void read(JsonParser parser, Reading reading) throws IOException {
        reading.isDense();
        reading.readValues(parser);
    }
}
"""


def encode(label: Column, features: Column, shape: MessageShape) -> Column:
    """Return the JSON text of a message; a null label is omitted."""
    from pyspark.sql import functions as F

    size, indices, values = vector_parts(features)
    by_index = F.map_from_arrays(indices, values)
    every_index = F.sequence(F.lit(0), size - 1)
    vector = F.to_json(F.transform(every_index, lambda index: F.coalesce(by_index[index], F.lit(0.0))))
    return message_with(vector, label, shape)


def decoder_arguments(shape: MessageShape, size: int) -> tuple[Any, ...]:
    """Return the arguments of ``MessageDecoder``."""
    return vector_arguments("DenseForm", shape, size)
