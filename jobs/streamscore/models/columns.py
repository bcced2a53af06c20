"""The raw columns that a pipeline reads, and the length of those that are vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamscore.config.fields import VECTOR, Field, ddl
from streamscore.errors import ModelError
from streamscore.schema import FEATURES
from streamscore.scoring import served
from streamscore.scoring.declines import inputs, pairs
from streamscore.scoring.renames import FORM, names_of, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamscore.models.gate import Inspected

_UNLESS_THE_LABEL = "; if one of the columns is the label, the prediction must not depend on it"


def read(origin: str, inspected: Inspected, fields: Sequence[Field]) -> tuple[Field, ...]:
    """Return the raw columns that a pipeline reads; empty for a vector.

    Args:
        origin: address of the model.
        inspected: the gate's findings about the folder.
        fields: the raw columns of a message.

    Raises:
        ModelError: messages lack a column, or it has another type than in the training, or Spark cannot read its name.
    """
    for stage in inspected.needed:
        unreadable = [] if stage.is_renaming else [name for name in stage.inputs if not readable(name)]
        if unreadable:
            raise ModelError(
                f"{origin}: the stage {stage.name} reads the column {unreadable[0]!r}, but Spark's stages read no "
                "name with a dot or a backtick. Train it on a column of another name, which a first stage can make: "
                f"SQLTransformer(statement={FORM!r})"
            )
    trained = None if inspected.manifest is None else inspected.manifest.fields
    listed = ", ".join(inspected.inputs)
    if not fields:
        if len(inspected.inputs) != 1 or trained is not None:
            raise ModelError(
                f"{origin} reads the columns {listed}, but a message has one vector, {FEATURES!r}. For messages with "
                f"raw columns set message.fields{_UNLESS_THE_LABEL}"
            )
        return ()
    by_name = {field.name: field for field in fields}
    absent = [name for name in inspected.inputs if name not in by_name]
    if absent:
        raise ModelError(
            f"{origin} reads the columns {listed}, but message.fields has no {', '.join(absent)}; it has "
            f"{', '.join(by_name)}{_UNLESS_THE_LABEL}"
        )
    reads = tuple(by_name[name] for name in inspected.inputs)
    if inspected.manifest is not None and trained != ddl(reads):
        raise ModelError(
            f"{origin} was trained with the columns {trained or 'of one vector'}, but message.fields says {ddl(reads)}"
        )
    return reads


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
    known, names = _known(stages), names_of(name, stages)
    for place, stage in enumerate(stages):
        if type(stage).__name__ == "VectorAssembler" and not set(names).isdisjoint(stage.getInputCols()):
            total = served.size(stages[place + 1 :], stage.getOutputCol())
            others = [known.get(other, 1) for other in inputs(stage) if other not in names]
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
