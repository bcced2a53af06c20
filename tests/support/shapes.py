"""Shapes of messages for tests of the decoder."""

from streamscore.config import Message


def shape(form="spark", max_bytes=1000, fields=None):
    """Return the shape of messages with a label and with features: a vector, or raw columns."""
    return Message(
        label_field="label", features_field="features", vector_form=form, fields=fields, size=None, max_bytes=max_bytes
    )
