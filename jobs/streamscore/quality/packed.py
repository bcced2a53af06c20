"""Read the sums that the JVM adds up: bytes in, statistics out."""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from streamscore.quality import bins
from streamscore.quality.confusion import OTHER
from streamscore.quality.statistic import SUMS, Statistic
from streamscore.schema import ScoreKind

_HEAD: Final = struct.Struct(f">qiqq{len(SUMS)}dii")
"""Window, model, events with a log loss, declined events, sums, number of codes of labels and predictions, and of
counts."""

_COUNT: Final = np.dtype([("key", ">i8"), ("events", ">i8")])

_BINS: Final = bins.BINS + 1
"""Those of scores, and one for the scores that have none."""


def unpack(data: bytes, kinds: Sequence[ScoreKind]) -> Iterator[tuple[int, int, Statistic]]:
    """Yield what ``messages/QualitySums.java`` has added up, by window and model.

    Labels and predictions that are no classes, or are classes beyond the first hundred or those that the model has, are
    counted together as ``confusion.OTHER``.

    Args:
        data: its result.
        kinds: of each model what its scores are.

    Yields:
        The window's begin in epoch milliseconds, the model's position, and the statistic of its events.
    """
    data, at = zlib.decompress(data), 0
    while at < len(data):
        window, model, loss_events, declined, *rest = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        sums, codes, length = rest[:-2], rest[-2], rest[-1]
        cells = np.frombuffer(data, _COUNT, length, at)
        at += length * _COUNT.itemsize
        statistic = _statistic(cells, codes, kinds[model], loss_events, dict(zip(SUMS, sums, strict=True)))
        yield window, model, replace(statistic, declined=declined)


def _statistic(cells: np.ndarray, codes: int, kind: ScoreKind, loss_events: int, sums: dict[str, Any]) -> Statistic:
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
