"""A vector as an array of its size, indices and values: ``[110,[8],[1.5]]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamscore.messages.formats.base import message_with, vector_arguments, vector_parts

if TYPE_CHECKING:
    from pyspark.sql import Column

    from streamscore.messages.formats.base import MessageShape

JAVA: Final = """
package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

final class TripleForm extends VectorForm {
    private static final long serialVersionUID = 1L;

    void read(JsonParser parser, Reading reading) throws IOException {
        reading.isSparse();
        if (parser.currentToken() != JsonToken.START_ARRAY) {
            reading.badFeatures("the features are not an array");
            reading.skip(parser);
            return;
        }
        int position = 0;
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            if (position == 0) {
                reading.readSize(parser);
            } else if (position == 1) {
                reading.readIndices(parser);
            } else if (position == 2) {
                reading.readValues(parser);
            } else {
                reading.skip(parser);
            }
            position++;
        }
        if (position != 3) {
            reading.badFeatures("the features have " + position + " parts, expected 3: size, indices, values");
        }
    }
}
"""


def encode(label: Column, features: Column, shape: MessageShape) -> Column:
    """Return the JSON text of a message; a null label is omitted."""
    from pyspark.sql import functions as F

    size, indices, values = vector_parts(features)
    vector = F.concat(F.lit("["), size, F.lit(","), F.to_json(indices), F.lit(","), F.to_json(values), F.lit("]"))
    return message_with(vector, label, shape)


def decoder_arguments(shape: MessageShape, size: int) -> tuple[Any, ...]:
    """Return the arguments of ``MessageDecoder``."""
    return vector_arguments("TripleForm", shape, size)
