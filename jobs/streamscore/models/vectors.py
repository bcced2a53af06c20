"""The length of the raw columns that are vectors, which messages of the type ARRAY<DOUBLE> do not declare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamscore.config.fields import VECTOR, Field
from streamscore.errors import ModelError
from streamscore.scoring import served
from streamscore.scoring.declines import inputs, pairs

if TYPE_CHECKING:
    from collections.abc import Mapping


def lengths(stages: Sequence[Any], fields: Sequence[Field]) -> dict[str, int]:
    """Return the length of each vector, from the stages that read it.

    Args:
        stages: the stages of a pipeline.
        fields: the raw columns that the pipeline reads.

    Raises:
        ModelError: the stages do not say how long a vector is.
    """
    found: dict[str, int] = {}
    for name in (field.name for field in fields if field.type == VECTOR):
        length = served.size(stages, name)
        if length is None:
            length = _beside_others(stages, name)
        if length is None or length <= 0:
            raise ModelError(
                f"no stage says how long the vector {name!r} is: put a VectorSizeHint for it into the pipeline"
            )
        found[name] = length
    return found


def _beside_others(stages: Sequence[Any], name: str) -> int | None:
    """Return the length of a vector that is assembled with columns of known lengths; None if it is not."""
    known = _known(stages)
    for place, stage in enumerate(stages):
        if type(stage).__name__ == "VectorAssembler" and name in stage.getInputCols():
            total = served.size(stages[place + 1 :], stage.getOutputCol())
            others = [known.get(other, 1) for other in inputs(stage) if other != name]
            return None if total is None else total - sum(others)
    return None


def _known(stages: Sequence[Any]) -> Mapping[str, int]:
    """Return the lengths of the vectors that a OneHotEncoder makes."""
    found: dict[str, int] = {}
    for stage in stages:
        if type(stage).__name__ == "OneHotEncoderModel":
            more = (stage.getHandleInvalid() == "keep") - stage.getDropLast()
            found |= {made: size + more for (_, made), size in zip(pairs(stage), stage.categorySizes, strict=True)}
    return found
