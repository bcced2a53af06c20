"""Read the sums that the JVM adds up: bytes in, statistics out."""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from streamscore.quality import bins, pairs
from streamscore.quality.confusion import OTHER
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.statistic import SUMS, Statistic
from streamscore.schema import ScoreKind

_PLACE: Final = struct.Struct(">qi")
"""Window and position: of a model, or, from the number of models on, of a pair's challenger."""

_MODEL: Final = struct.Struct(f">q{len(SUMS)}dii")
"""Events with a log loss, sums, number of codes of labels and predictions, number of counts."""

_PAIR: Final = struct.Struct(f">{len(pairs.COUNTS)}q{len(pairs.SUMS)}di")
"""Counts, sums, number of labels."""

_LABEL: Final = struct.Struct(">iq")
"""Code of a label and its events."""

_COUNT: Final = np.dtype([("key", ">i8"), ("events", ">i8")])

_BINS: Final = bins.BINS + 1
"""Those of scores, and one for the scores that have none."""


class ModelPart(NamedTuple):
    """The statistic of one model over the events of a window."""

    window: int
    """The window's start in epoch milliseconds."""
    model: int
    """The model's position."""
    statistic: Statistic


class PairPart(NamedTuple):
    """The paired statistic of the champion and one challenger over the events of a window."""

    window: int
    """The window's start in epoch milliseconds."""
    challenger: int
    """The challenger's position."""
    statistic: PairStatistic


def unpack(data: bytes, kinds: Sequence[ScoreKind]) -> tuple[list[ModelPart], list[PairPart]]:
    """Return what ``messages/QualitySums.java`` has added up, by window and model, and by window and challenger.

    Labels and predictions that are no classes, or are classes beyond the first hundred or those that the model has, are
    counted together as ``confusion.OTHER``.

    Args:
        data: its result.
        kinds: of each model what its scores are.
    """
    data, at = zlib.decompress(data), 0
    of_models: list[ModelPart] = []
    of_pairs: list[PairPart] = []
    while at < len(data):
        window, position = _PLACE.unpack_from(data, at)
        at += _PLACE.size
        if position < len(kinds):
            statistic, at = _model(data, at, kinds[position])
            of_models.append(ModelPart(window, position, statistic))
        else:
            pair, at = _pair(data, at)
            of_pairs.append(PairPart(window, position - len(kinds), pair))
    return of_models, of_pairs


def _pair(data: bytes, at: int) -> tuple[PairStatistic, int]:
    """Return the paired statistic at a place, and the place after it."""
    *numbers, length = _PAIR.unpack_from(data, at)
    at += _PAIR.size
    labels = {}
    for _ in range(length):
        code, events = _LABEL.unpack_from(data, at)
        at += _LABEL.size
        labels[_number(code + 1, pairs.CLASSES + 2)] = events
    return PairStatistic(labels=labels, **dict(zip((*pairs.COUNTS, *pairs.SUMS), numbers, strict=True))), at


def _model(data: bytes, at: int, kind: ScoreKind) -> tuple[Statistic, int]:
    """Return the statistic at a place, and the place after it."""
    loss_events, *rest = _MODEL.unpack_from(data, at)
    at += _MODEL.size
    sums, codes, length = rest[:-2], rest[-2], rest[-1]
    cells = np.frombuffer(data, _COUNT, length, at)
    statistic = _statistic(cells, codes, kind, loss_events, dict(zip(SUMS, sums, strict=True)))
    return statistic, at + length * _COUNT.itemsize


def _statistic(cells: np.ndarray, codes: int, kind: ScoreKind, loss_events: int, sums: dict[str, float]) -> Statistic:
    predictions: Counter[tuple[int, float]] = Counter()
    labels: Counter[tuple[int, float]] = Counter()
    confusion: Counter[tuple[float, float]] = Counter()
    both, at = np.divmod(cells["key"].astype(np.int64), _BINS)
    at[at == bins.BINS] = bins.UNBINNED
    label_codes, prediction_codes = np.divmod(both, codes)
    for place, label_code, prediction_code, events in zip(
        at.tolist(), label_codes.tolist(), prediction_codes.tolist(), cells["events"].tolist(), strict=True
    ):
        prediction = _number(prediction_code, codes)
        predictions[place, prediction] += events
        if label_code:
            label = _number(label_code, codes)
            labels[place, label] += events
            confusion[label, prediction] += events
    return Statistic(
        score_kind=kind,
        scored=int(cells["events"].sum()),
        predictions=dict(predictions),
        confusion=dict(confusion),
        labels=dict(labels),
        loss_events=loss_events,
        **sums,
    )


def _number(code: int, codes: int) -> float:
    """Return the label or prediction of a code: 0 is none, the last one any that is not told apart."""
    if code == 0:
        return math.nan
    return OTHER if code == codes - 1 else float(code - 1)
