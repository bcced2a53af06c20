"""Shapes of messages for tests of the decoder."""

from streamscore.config import Message


def shape(form="spark", max_bytes=1000, fields=None, **settings):
    """Return the shape of messages with a label and a vector or raw columns."""
    defaults = {"root": None, "label_values": {}, "text_numbers": False, "size": None}
    names = {"label_field": "label", "features_field": "features"}
    kinds = {"vector_form": form, "fields": fields, "max_bytes": max_bytes}
    return Message(**{**names, **kinds, **defaults, **settings})
