"""Load the stages of a saved model that its prediction depends on, and the classes that its label indexer knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.ml import PipelineModel
from pyspark.ml.util import JavaMLReader

from streamscore.errors import ModelError

if TYPE_CHECKING:
    from streamscore.models.gate import Inspected
    from streamscore.models.gate.stages import Stage
    from streamscore.scoring.served import ServedModel


class Classes(NamedTuple):
    """What the numbers that a classifier predicts stand for, by its label indexer; both are empty without one."""

    order: tuple[int, ...] = ()
    """The class in the messages of each predicted number, if the labels are the numbers 0, 1 and so on."""
    label_values: Mapping[str, float] = {}
    """The number of each class that is a text."""


def load(path: str, inspected: Inspected) -> PipelineModel:
    """Load the needed stages, each by itself: a stage that is left out is never loaded.

    Args:
        path: address of Spark's folder.
        inspected: the gate's findings about the folder.
    """
    return PipelineModel([_stage(path, stage) for stage in inspected.needed])


def classes(path: str, inspected: Inspected) -> Classes:
    """Return what the predicted numbers stand for.

    Args:
        path: address of Spark's folder.
        inspected: the gate's findings about the folder.

    Raises:
        ModelError: the labels are numbers, but not 0, 1 and so on.
    """
    if inspected.label_indexer is None:
        return Classes()
    stage, place = inspected.label_indexer
    labels = tuple(map(str, _stage(path, stage).labelsArray[place]))
    numbers = [_number(label) for label in labels]
    if any(number is None for number in numbers):
        return Classes((), {label: float(position) for position, label in enumerate(labels)})
    if sorted(numbers) != list(range(len(labels))):  # type: ignore[type-var]
        listed = ", ".join(labels[:10])
        raise ModelError(
            f"its label indexer knows the labels {listed}: numbers are served if they are 0, 1 and so on. Train with "
            "these, or with the labels as texts"
        )
    order = tuple(int(number) for number in numbers if number is not None)
    return Classes(() if order == tuple(range(len(order))) else order)


def shared_label_values(models: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the label values that the label indexers of several models supply together.

    Args:
        models: the label values of each model, by the model's name; empty without a label indexer on texts.

    Raises:
        ModelError: two models give a label different numbers.
    """
    found: dict[str, float] = {}
    supplier: dict[str, str] = {}
    for name, values in models.items():
        for label, value in values.items():
            if found.setdefault(label, value) != value:
                raise ModelError(
                    f"the label {label!r} is class {found[label]:g} of the model {supplier[label]!r}, but class "
                    f"{value:g} of the model {name!r}: train both with one label indexer, or score them in two jobs"
                )
            supplier.setdefault(label, name)
    return found


def renumbered(model: ServedModel, chosen: Mapping[str, float]) -> ServedModel:
    """Return a model that predicts the classes that the configuration gives to its label indexer's texts.

    Args:
        model: the model, with its label indexer's numbers.
        chosen: the class of each text, ``message.label_values``; empty: the label indexer's numbers stay.

    Raises:
        ModelError: a text has no class, or the classes are not 0, 1 and so on, each once.
    """
    texts = sorted(model.label_values, key=model.label_values.__getitem__)
    if not (chosen and texts):
        return model
    missing = [text for text in texts if text not in chosen]
    if missing:
        raise ModelError(
            f"its label indexer knows the label {missing[0]!r}, which message.label_values lacks: add it, or leave "
            "message.label_values out, and the label indexer's numbers are used"
        )
    order = [int(chosen[text]) for text in texts]
    if sorted(chosen[text] for text in texts) != list(range(len(order))):
        listed = ", ".join(f"{text!r}: {chosen[text]:g}" for text in texts[:10])
        raise ModelError(
            f"message.label_values gives the texts of its label indexer the classes {listed}: it must give them 0, 1 "
            "and so on, each once"
        )
    is_same = order == list(range(len(order)))
    return replace(model, class_order=() if is_same else (*order, *range(len(order), model.classes)))


def described(stages: Sequence[Stage]) -> str:
    """Return stages that are left out as a text, each with the columns that it makes."""
    return ", ".join(f"{stage.name} ({', '.join(stage.inputs)})" for stage in stages)


def _stage(path: str, stage: Stage) -> Any:
    # By the JVM's reader: PySpark's own starts a Python worker for some classes, which takes seconds.
    module, _, name = stage.class_name.rpartition(".")
    python_class = getattr(import_module(module.replace("org.apache.spark", "pyspark")), name)
    return JavaMLReader(python_class).load(f"{path}/{stage.folder}".rstrip("/"))


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
