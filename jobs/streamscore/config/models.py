"""The sections of the models, of the messages that they score, and of the figures of their quality."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamscore.config import fields as raw
from streamscore.config.sections import Section
from streamscore.config.types import AbsolutePath, Ed25519Key, Positive, as_text

Trust = Literal["manifest", "signed", "unsigned"]
"""Required proof of a model's files."""


class Model(Section):
    """A model to score with: its name in the outcomes, and its address."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    uri: str
    trust: Trust = "manifest"


class Signatures(Section):
    """The key that signs models, and the keys that verify signatures."""

    public_keys: tuple[Ed25519Key, ...]
    key_file: AbsolutePath | None

    @property
    def raw_keys(self) -> tuple[bytes, ...]:
        """The public keys, each of 32 bytes."""
        return tuple(map(base64.b64decode, self.public_keys))


def _label_name(name: object) -> object:
    """Return a label's name as text; YAML reads some unquoted names as booleans."""
    if isinstance(name, bool):
        raise ValueError(  # noqa: TRY004 (pydantic turns a ValueError into a message)
            "put the names in quotes: without them, YAML takes true, yes and on for the same, as false, no and off"
        )
    return as_text(name)


class Message(Section):
    """The shape of an input message."""

    root: Annotated[str, Field(pattern=r"^[^.]+(\.[^.]+)*$")] | None
    label_field: str
    label_values: dict[Annotated[str, BeforeValidator(_label_name)], Annotated[float, Field(allow_inf_nan=False)]]
    features_field: str
    vector_form: Literal["spark", "triple", "dense"]
    fields: str | None
    size: Positive | None
    text_numbers: bool
    max_bytes: Annotated[int, Field(gt=0, lt=1 << 31)]

    @property
    def columns(self) -> tuple[raw.Field, ...]:
        """The raw columns of a message; empty for a message with a vector."""
        return () if self.fields is None else raw.parse(self.fields)

    @model_validator(mode="after")
    def _fields_differ(self) -> Message:
        if any(column.name.lower() == self.label_field.lower() for column in self.columns):
            raise ValueError(
                f"label_field, {self.label_field!r}, is among the fields: a model must not see the label. Save its "
                "pipeline without the stages that read it"
            )
        if self.fields is not None and self.size is not None:
            raise ValueError("size is the size of a vector, and fields replace the vector")
        if self.label_field == self.features_field:
            raise ValueError(f"label_field and features_field are both {self.label_field!r}")
        return self


class Quality(Section):
    """The statistics from which all figures of quality are computed."""

    windows: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @field_validator("windows")
    @classmethod
    def _each_of_the_first(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        finest = value[0]
        for shorter, longer in pairwise(value):
            if longer <= shorter or longer % finest:
                raise ValueError(
                    f"{longer} must be longer than {shorter} and a multiple of the first, {finest}: longer windows are "
                    "summed from the shortest"
                )
        return value


class Compare(Section):
    """The comparison of the models on the same events."""

    champion: str | None
    alpha: Annotated[float, Field(ge=1e-6, le=0.5)]
    margin: Annotated[float, Field(ge=0, lt=1)]
