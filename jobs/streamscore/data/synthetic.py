"""Generate rows that look like Criteo's from a seed, with a known best possible score.

The labels follow a planted logit: each integer, each missing block and each category value has an effect, and a few
pairs of categories have an effect that no linear model can learn. The logit is scaled to the requested Bayes AUC, which
is computed from the true probabilities; so "model AUC / Bayes AUC" is the part of the learnable signal that a model has
learnt. Marginals follow tables published for the Kaggle file (vnagapudi/W261_Final_Project; cardinalities as in the
DLRM configurations).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from streamscore.data.criteo import CATEGORIES, INTEGERS, MISSING
from streamscore.system.files import replacing

Floats = npt.NDArray[np.float64]

CHUNK: Final = 50_000
BASE_RATE: Final = 0.2562
"""Share of clicks in the Kaggle file."""


class Integer(NamedTuple):
    """Marginal of an integer column: mean and standard deviation of its values, largest value, sign of its effect."""

    mean: float
    std: float
    largest: int
    sign: float


# Signs follow the class means where these are published; the others are a choice.
_INTEGERS: Final = {
    "I1": Integer(3.52, 9.46, 1_575, 1.0),
    "I2": Integer(105.5, 388, 19_219, 1.0),
    "I3": Integer(27.0, 403, 65_535, -1.0),
    "I4": Integer(7.33, 8.85, 969, -1.0),
    "I5": Integer(18_536, 69_153, 2_634_953, -1.0),
    "I6": Integer(115.6, 337, 66_619, -1.0),
    "I7": Integer(16.5, 70.8, 34_536, 1.0),
    "I8": Integer(12.5, 16.9, 4_513, 1.0),
    "I9": Integer(106, 220, 18_345, 1.0),
    "I10": Integer(0.618, 0.685, 8, 1.0),
    "I11": Integer(2.74, 5.23, 163, 1.0),
    "I12": Integer(0.99, 6.08, 1_831, 1.0),
    "I13": Integer(8.22, 15.9, 4_317, -1.0),
}
_PRESENT: Final = (
    (("I1", "I10"), 0.5468),
    (("I3",), 0.7852),
    (("I4", "I13"), 0.7830),
    (("I5",), 0.9742),
    (("I6",), 0.7764),
    (("I7", "I9", "I11"), 0.9569),
    (("I8",), 0.9995),
    (("I12",), 0.2345),
    (("C3", "C4", "C12", "C16", "C21", "C24"), 0.9659),
    (("C6",), 0.8789),
    (("C19", "C20", "C25", "C26"), 0.5595),
    (("C22",), 0.2372),
)
"""Columns that are missing together, and the share of rows with values."""

# fmt: off
_CARDINALITIES: Final = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194,
    27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)
_TOP_SHARES: Final = {
    "C1": .51, "C2": .11, "C3": .06, "C5": .68, "C6": .46, "C8": .59, "C9": .90, "C10": .27, "C12": .06, "C14": .35,
    "C16": .06, "C17": .42, "C19": .29, "C20": .18, "C21": .06, "C23": .46,
}
# fmt: on
_CROSSES: Final = (("C6", "C9"), ("C14", "C17"), ("C20", "C23"))

_INTEGER_SCALE = 0.35
_MISSING_SCALE = 0.25
_CATEGORY_SCALE = 0.30
_CROSS_SCALE = 0.20


class Best(NamedTuple):
    """Figures of the best possible model on some rows, computed from their true probabilities."""

    auc: float
    log_loss: float
    accuracy: float


@dataclass(frozen=True)
class Chunk:
    """A chunk of rows: columns by name, integers with NaN where empty, categories as ranks with -1 where empty."""

    integers: dict[str, Floats]
    ranks: dict[str, npt.NDArray[np.int64]]


def write(path: Path, rows: int, seed: int, bayes_auc: float) -> Iterator[int]:
    """Write rows to ``path`` in the format of Criteo's file, and their true probabilities to ``truth_path(path)``.

    Memory does not grow with the number of rows, and a row depends only on the seed and its position.

    Args:
        path: the file to write, tab-separated, without a header.
        rows: number of rows.
        seed: the same seed gives the same rows.
        bayes_auc: AUC of the best possible model.

    Yields:
        The number of rows written so far; the files are complete when the iteration ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    logit = Logit.calibrated(seed, bayes_auc)
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    truth_schema = pa.schema([("p", pa.float64())])
    with (
        replacing(path) as partial_path,
        replacing(truth_path(path)) as partial_truth,
        partial_path.open("wb") as sink,
        pyarrow.parquet.ParquetWriter(partial_truth, truth_schema) as truth,
    ):
        for number, start in enumerate(range(0, rows, CHUNK)):
            generator = np.random.default_rng([seed, number])
            chunk = _draw(generator, CHUNK)
            probability = logit.probability(chunk)
            clicks = generator.random(CHUNK) < probability
            count = min(CHUNK, rows - start)
            pyarrow.csv.write_csv(_table(chunk, clicks, seed).slice(0, count), sink, options)
            truth.write_table(pa.table({"p": probability[:count]}, schema=truth_schema))
            yield start + count


def examples(count: int, seed: int) -> list[dict[str, int | str | None]]:
    """Return a few rows without labels in the form of ``criteo.read``; no file of ``write`` contains them."""
    rows = _draw(np.random.default_rng([seed, 2**32 + 1]), count)
    table = _table(rows, np.zeros(count, np.bool_), seed).drop_columns(["label"])
    return [
        {name: MISSING if value is None and name in CATEGORIES else value for name, value in row.items()}
        for row in table.to_pylist()
    ]


def truth_path(path: Path) -> Path:
    """Return the path of the true click probabilities, one per row, in row order; never a feature."""
    return path.with_suffix(".truth.parquet")


def best_possible(path: Path, last: int) -> Best:
    """Return the figures of the best possible model on the last rows of a file of ``write``."""
    probability = pyarrow.parquet.read_table(truth_path(path))["p"].to_numpy()
    return best_scores(probability[-last:])


def best_scores(probability: Floats) -> Best:
    """Return the Bayes AUC, log loss and accuracy of rows with the given true probabilities, shape (rows,)."""
    ordered = np.sort(probability)
    clipped = np.clip(ordered, 1e-12, 1 - 1e-12)
    entropy = -(clipped * np.log(clipped) + (1 - clipped) * np.log(1 - clipped))
    return Best(_auc(ordered), float(entropy.mean()), float(np.maximum(ordered, 1 - ordered).mean()))


@dataclass(frozen=True)
class Logit:
    """The planted logit ``intercept + slope * (score - centre) / spread``, with the coefficients of the score."""

    seed: int
    log_means: dict[str, float]
    log_stds: dict[str, float]
    centre: float
    spread: float
    intercept: float
    slope: float

    @classmethod
    def calibrated(cls, seed: int, bayes_auc: float, sample: int = 200_000) -> Logit:
        """Return the logit with Criteo's base rate and the given Bayes AUC.

        Args:
            seed: seed of the random coefficients.
            bayes_auc: the best AUC that any model can reach.
            sample: number of rows that the calibration draws.
        """
        generator = np.random.default_rng([seed, 2**32])  # distinct from the generators of the rows
        rows = _draw(generator, sample)
        logs = {name: np.log1p(np.maximum(values, 0)) for name, values in rows.integers.items()}
        raw = cls(
            seed,
            {name: float(np.nanmean(values)) for name, values in logs.items()},
            {name: float(np.nanstd(values)) for name, values in logs.items()},
            centre=0.0,
            spread=1.0,
            intercept=0.0,
            slope=1.0,
        )
        score = raw.score(rows)
        centre, spread = float(score.mean()), float(score.std())
        standard = np.sort((score - centre) / spread)  # so that the probabilities are sorted too
        low, high = 0.01, 20.0
        for _ in range(40):
            slope = (low + high) / 2
            intercept = _intercept(standard, slope)
            if _auc(_sigmoid(intercept + slope * standard)) < bayes_auc:
                low = slope
            else:
                high = slope
        return cls(seed, raw.log_means, raw.log_stds, centre, spread, intercept, slope)

    def probability(self, rows: Chunk) -> Floats:
        """Return the true click probability of each row, shape (rows,)."""
        return _sigmoid(self.intercept + self.slope * (self.score(rows) - self.centre) / self.spread)

    def score(self, rows: Chunk) -> Floats:
        """Return the raw sum of all effects of each row, shape (rows,)."""
        total = np.zeros(len(rows.ranks["C1"]))
        for column, name in enumerate(INTEGERS):
            values = rows.integers[name]
            size = _INTEGER_SCALE * _INTEGERS[name].sign * (0.5 + _uniform(self.seed, column, np.zeros(1, np.int64))[0])
            effect = size * (np.log1p(np.maximum(values, 0)) - self.log_means[name]) / self.log_stds[name]
            absent = _MISSING_SCALE * _normal(self.seed, 100 + column, np.zeros(1, np.int64))[0]
            total += np.where(np.isnan(values), absent, effect)
        for column, name in enumerate(CATEGORIES):
            total += _CATEGORY_SCALE * _normal(self.seed, 200 + column, rows.ranks[name])
        for column, (first, second) in enumerate(_CROSSES):
            total += _CROSS_SCALE * _normal(self.seed, 300 + column, rows.ranks[first] * 1000 + rows.ranks[second])
        return total


def _draw(generator: np.random.Generator, count: int) -> Chunk:
    integers = {}
    for name in INTEGERS:
        marginal = _INTEGERS[name]
        variance = np.log1p((marginal.std / marginal.mean) ** 2)
        values = generator.lognormal(np.log(marginal.mean) - variance / 2, np.sqrt(variance), count)
        integers[name] = np.minimum(np.floor(values + 0.5), marginal.largest)
    minus_one, minus_two = 0.09, 0.01  # shares of I2, which is never missing
    lot = generator.random(count)
    integers["I2"] = np.select([lot < minus_one, lot < minus_one + minus_two], [-1.0, -2.0], integers["I2"])
    ranks = {}
    for name, cardinality in zip(CATEGORIES, _CARDINALITIES, strict=True):
        # The top value has its published share; the others are log-uniform in rank, which is Zipf's law.
        tail = np.floor(np.exp(generator.random(count) * np.log(cardinality))).astype(np.int64)
        top = generator.random(count) < _TOP_SHARES.get(name, 0.10)
        ranks[name] = np.where(top, 0, np.minimum(tail, cardinality - 1))
    for names, share in _PRESENT:
        absent = generator.random(count) >= share
        for name in names:
            if name in integers:
                integers[name][absent] = np.nan
            else:
                ranks[name][absent] = -1
    return Chunk(integers, ranks)


def _table(rows: Chunk, clicks: npt.NDArray[np.bool_], seed: int) -> pa.Table:
    columns: list[pa.Array] = [pa.array(clicks.astype(np.int8))]
    for name in INTEGERS:
        values = rows.integers[name]
        absent = np.isnan(values)
        columns.append(pa.array(np.where(absent, 0, values).astype(np.int64), mask=absent))
    for column, name in enumerate(CATEGORIES):
        distinct, positions = np.unique(rows.ranks[name], return_inverse=True)
        tokens = [f"{value & 0xFFFFFFFF:08x}" for value in _mix(seed, 400 + column, distinct).tolist()]
        words = pa.array([None if rank < 0 else token for rank, token in zip(distinct.tolist(), tokens, strict=True)])
        columns.append(words.take(pa.array(positions)))
    return pa.table(columns, names=["label", *INTEGERS, *CATEGORIES])


def _mix(seed: int, column: int, values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Hash (seed, column, value) to 64 bits by splitmix64 (Steele, Lea, Flood 2014), which needs no table."""
    with np.errstate(over="ignore"):
        state = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64((seed * 1_000_003 + column * 7_919 + 1) % 2**64) * np.uint64(0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    mixed: npt.NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed


def _uniform(seed: int, column: int, values: npt.NDArray[np.int64]) -> Floats:
    uniform: Floats = (_mix(seed, column, values) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def _normal(seed: int, column: int, values: npt.NDArray[np.int64]) -> Floats:
    """Return a standard normal number for each value (Box-Muller)."""
    radius = np.sqrt(-2 * np.log1p(-_uniform(seed, column, values)))
    normal: Floats = radius * np.cos(2 * np.pi * _uniform(seed, column + 10_000, values))
    return normal


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def _log_odds(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def _intercept(score: Floats, slope: float) -> float:
    """Return the intercept at which the mean probability is the base rate.

    Newton's method is applied to the log odds of the mean, which are almost linear in the intercept.
    """
    intercept = _log_odds(BASE_RATE)
    for _ in range(30):
        probability = _sigmoid(intercept + slope * score)
        mean = float(probability.mean())
        rise = float((probability * (1 - probability)).mean()) / (mean * (1 - mean))
        step = (_log_odds(mean) - _log_odds(BASE_RATE)) / rise
        intercept -= step
        if abs(step) < 1e-12:  # noqa: PLR2004 (no probability changes by more)
            break
    return intercept


def _auc(ordered: Floats) -> float:
    """Return the AUC of sorted true probabilities: the probability that a click outranks a non-click."""
    positive = ordered / ordered.sum()
    negative = (1 - ordered) / (1 - ordered).sum()
    return float((positive * (np.cumsum(negative) - negative / 2)).sum())
