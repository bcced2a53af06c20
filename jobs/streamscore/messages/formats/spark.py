"""A vector as Spark's to_json writes it: ``{"type":0,"size":110,"indices":[8],"values":[1.5]}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamscore.messages.formats.base import vector_arguments

if TYPE_CHECKING:
    from pyspark.sql import Column

    from streamscore.messages.formats.base import MessageShape

JAVA: Final = """
package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

final class SparkForm extends VectorForm {
    private static final long serialVersionUID = 1L;

    void read(JsonParser parser, Reading reading) throws IOException {
        if (parser.currentToken() != JsonToken.START_OBJECT) {
            reading.badFeatures("the features are not an object");
            reading.skip(parser);
            return;
        }
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.getCurrentName();
            parser.nextToken();
            if (name.equals("indices")) {
                reading.readIndices(parser);
            } else if (name.equals("values")) {
                reading.readValues(parser);
            } else if (name.equals("size")) {
                reading.readSize(parser);
            } else if (name.equals("type")) {
                reading.readType(parser);
            } else {
                reading.skip(parser);
            }
        }
    }

    PlainReader plain(String labelField, String featuresField, int size) {
        return PlainReader.suits(labelField, featuresField) ? new PlainReader(labelField, featuresField, size) : null;
    }
}
"""


def encode(label: Column, features: Column, shape: MessageShape) -> Column:
    """Return the JSON text of a message; a null label is omitted."""
    from pyspark.sql import functions as F

    return F.to_json(F.struct(label.alias(shape.label_field), features.alias(shape.features_field)))


def decoder_arguments(shape: MessageShape, size: int) -> tuple[Any, ...]:
    """Return the arguments of ``MessageDecoder``."""
    return vector_arguments("SparkForm", shape, size)
