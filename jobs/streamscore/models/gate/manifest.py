"""The manifest of a model: the hashes of its files and its golden rows, which every load checks."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from streamscore.errors import ModelError

MANIFEST: Final = "streamscore.json"
"""Name of the manifest's file in a model's folder."""

MAX_BYTES: Final = 16 << 20

FORMAT: Final = 1
"""Version of the manifest's format; each release of streamscore reads one version."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Vector(_Part):
    """A feature vector in Spark's own JSON form."""

    type: Literal[0, 1]
    values: tuple[float, ...]
    size: Annotated[int, Field(gt=0)] | None = None
    indices: tuple[Annotated[int, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _of_its_type(self) -> Vector:
        sparse = self.size is not None and self.indices is not None and len(self.indices) == len(self.values)
        dense = self.size is None and self.indices is None
        if not (sparse if self.type == 0 else dense):
            raise ValueError("not a vector as Spark writes it")
        return self


class Golden(_Part):
    """A golden row: a feature vector, or a row of raw columns, with the model's output after the training."""

    features: Vector | None = None
    row: dict[str, bool | int | float | str | tuple[float, ...] | None] | None = None
    """The values by column; a missing value is null."""
    prediction: float
    score: float

    @model_validator(mode="after")
    def _one_of_both(self) -> Golden:
        if (self.features is None) == (self.row is None):
            raise ValueError("a golden row has either features or a row of raw columns")
        return self


class Versions(_Part):
    """Versions of the training's software."""

    streamscore: str
    spark: str
    python: str
    java: str


class Manifest(_Part):
    """The manifest: the training's record of a model."""

    format: Literal[1] = FORMAT
    versions: Versions
    stages: tuple[str, ...]
    """Class of every stage, with inner pipelines replaced by their own stages."""
    inputs: tuple[str, ...]
    """The columns that the pipeline reads."""
    fields: str | None = None
    """The types of raw columns, as in ``I1 INT,C1 STRING``; None for a vector."""
    num_features: Annotated[int, Field(gt=0)]
    """Length of the vector, or number of raw columns."""
    labels: tuple[float, ...]
    """The classes that the model can predict."""
    metrics: dict[str, float]
    margin_scale: Annotated[float, Field(gt=0)] | None = None
    """Scale of the margin (half its standard deviation on the test set), for a model without probabilities."""
    origin: dict[str, str]
    """Provenance: digest of the training data, git commit."""
    golden: Annotated[tuple[Golden, ...], Field(min_length=1)]
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """The sha256 of each of Spark's files, by its name in Spark's folder."""

    @model_validator(mode="after")
    def _of_one_shape(self) -> Manifest:
        if any((row.row is None) != (self.fields is None) for row in self.golden):
            raise ValueError("the golden rows are of another shape than fields says")
        return self

    @field_validator("files")
    @classmethod
    def _inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name:
                raise ValueError(f"{name!a} is not a file inside the folder")
        return value


def parse(content: bytes, place: str) -> Manifest:
    """Read a manifest.

    Raises:
        ModelError: the content is not a manifest; the message names the place and the fault.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ModelError(f"{place}: not a manifest: {f'{where}: ' if where else ''}{fault['msg']}") from None


def text(manifest: Manifest) -> str:
    """Return the text of a manifest's file."""
    content: dict[str, Any] = manifest.model_dump(mode="json", exclude_none=True)
    return json.dumps(content, indent=1) + "\n"
