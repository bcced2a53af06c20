"""Raw columns as fields of the message beside the label: ``{"label":1.0,"I1":3,"C1":"68fd1e64"}``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pyspark.sql import Column

    from streamscore.messages.formats.base import MessageShape

JAVA: Final = ""
"""Empty, because the decoder itself reads raw columns, by ``RawColumns.java``."""

_TIME: Final = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"


def encode(label: Column, features: Column, shape: MessageShape) -> Column:
    """Return the JSON text of a message; a null label is omitted, a null raw column is not."""
    from pyspark.sql import functions as F

    cells = [features.getField(column.name).alias(column.name) for column in shape.columns]
    # Two texts are joined, because to_json omits either all nulls or none.
    without_label = F.to_json(F.struct(*cells), {"ignoreNullFields": "false", "timestampFormat": _TIME})
    label_text = F.concat(F.lit("{" + json.dumps(shape.label_field) + ":"), label, F.lit(","))
    return F.coalesce(F.concat(label_text, F.substring(without_label, 2, 1 << 30)), without_label)


def decoder_arguments(shape: MessageShape, size: int) -> tuple[Any, ...]:
    """Return the arguments of ``MessageDecoder``; raw columns have no size."""
    del size
    return ("\n".join(f"{column.type} {column.name}" for column in shape.columns),)
