"""The champion, with which the other models are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamscore.scoring.served import ServedModel


def position(name: str | None, served: Sequence[ServedModel]) -> int | None:
    """Return the champion's position among the served models; None for a single model, which is compared with none.

    It is the first model unless another one is named, and serves: models of an earlier run may lack it.

    Args:
        name: name of the champion; None: the first model.
        served: the models, at least one.
    """
    if len(served) == 1:
        return None
    names = [model.name for model in served]
    return names.index(name) if name in names else 0
