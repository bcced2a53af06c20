"""The figures of classification, each a function of additive counts; None where a figure is undefined.

A prediction is right or wrong here; how sure the model was is for ``quality.probabilistic`` and ``quality.ranking``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from streamscore.quality import confusion as counts_of
from streamscore.quality.confusion import Confusion
from streamscore.quality.estimates import Estimate, Z, mean, wilson

ACCURACY: Final = "accuracy"
"""Name of the figure, as the page, the report, Kibana and the notebooks show it."""
BASELINE: Final = "majority-class baseline"
"""Name of the figure that an accuracy is compared with."""
BASELINE_SHORT: Final = "baseline"
"""The same where there is little room: a heading of a table on a terminal."""
PRECISION: Final = "precision"
RECALL: Final = "recall"
F1: Final = "F1"
BALANCED_ACCURACY: Final = "balanced accuracy"
MCC: Final = "Matthews correlation"


def share(part: float, whole: float) -> float | None:
    """Return a part of a whole, in [0, 1]; None if the whole is empty."""
    return part / whole if whole else None


def accuracy(correct: float, labelled: float) -> float | None:
    """Return the share of labelled events that a model predicted right, in [0, 1]; None without labelled events.

    Args:
        correct: labelled events whose prediction equals the label.
        labelled: events with a label.
    """
    return share(correct, labelled)


def coverage(labelled: float, scored: float) -> float | None:
    """Return the share of scored events that have a label by now, in [0, 1]; None if nothing was scored.

    Args:
        labelled: scored events with a label.
        scored: scored events.
    """
    return share(labelled, scored)


def baseline(counts: Iterable[float], labelled: float | None = None) -> float | None:
    """Return the accuracy of always predicting the most frequent label, the majority-class baseline, in [0, 1].

    It is what an accuracy has to be compared with: 97 % right says nothing where 97 % of the labels are 0. None
    without labelled events, or if no label was counted, for instance because there are too many classes.

    Args:
        counts: events of each label.
        labelled: events with a label, if ``counts`` may lack some of them; None: their sum.
    """
    counted = list(counts)
    total = sum(counted) if labelled is None else labelled
    return share(max(counted), total) if counted else None


def above_baseline(accuracy: float | None, baseline: float | None) -> float | None:
    """Return how far an accuracy lies above the baseline, in percentage points; None if either is undefined.

    Args:
        accuracy: the model's accuracy, in [0, 1].
        baseline: the majority-class baseline of the same events, in [0, 1].
    """
    return None if accuracy is None or baseline is None else 100 * (accuracy - baseline)


def precision(confusion: Confusion) -> Estimate | None:
    """Return the share of class 1 among the events predicted as class 1, TP / (TP + FP), in [0, 1].

    Interval: Wilson. Undefined (None) if nothing was predicted as class 1, or with more than two classes.
    """
    return wilson(_true_positives(confusion), _predicted(confusion)) if _is_binary(confusion) else None


def recall(confusion: Confusion) -> Estimate | None:
    """Return the share of the events of class 1 that were predicted as such, TP / (TP + FN), in [0, 1].

    Interval: Wilson. Undefined (None) without events of class 1, or with more than two classes.
    """
    return wilson(_true_positives(confusion), _observed(confusion)) if _is_binary(confusion) else None


def f1(confusion: Confusion) -> Estimate | None:
    """Return the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), in [0, 1].

    Interval: Wilson's of J = TP / (TP + FP + FN), for F1 = 2 J / (1 + J) rises with J. Source: K. F. Y. Lam, V. Gopal
    and J. Qian, Confidence intervals for the F1 score (2023), where it is called Wilson indirect. Undefined (None) if
    class 1 was neither observed nor predicted, or with more than two classes.
    """
    right = _true_positives(confusion)
    jaccard = wilson(right, _predicted(confusion) + _observed(confusion) - right) if _is_binary(confusion) else None
    if jaccard is None or jaccard.low is None or jaccard.high is None:
        return None
    return Estimate(*(2 * share / (1 + share) for share in (jaccard.value, jaccard.low, jaccard.high)))


def balanced_accuracy(confusion: Confusion) -> Estimate | None:
    """Return the mean of the recalls of all classes that occur as labels, in [0, 1]; a constant guess of K has 1 / K.

    Interval: MOVER of the recalls' Wilson intervals, for the recalls are of different events. Undefined (None) with
    fewer than two classes among the labels.
    """
    labels = counts_of.label_counts(confusion)
    recalls = [wilson(confusion.get((label, label), 0), events) for label, events in labels.items() if events]
    return mean(part for part in recalls if part) if len(recalls) > 1 else None


def matthews_correlation(confusion: Confusion) -> Estimate | None:
    """Return the Matthews correlation coefficient, in [-1, 1]: the correlation of label and prediction; 0 is chance.

    (c - Σ t_k q_k) / sqrt((1 - Σ t_k²)(1 - Σ q_k²)), with c the accuracy, t_k and q_k the shares of class k among
    labels and predictions. Source: J. Gorodkin, Comparing two K-category assignments by a K-category correlation
    coefficient, Computational Biology and Chemistry 28 (2004). Interval: delta method on Fisher's transform artanh,
    none at -1 and 1. Undefined (None) if all labels or all predictions are of one class.
    """
    total = counts_of.labelled(confusion)
    shares = {pair: events / total for pair, events in confusion.items() if events}
    of_labels, of_predictions = _marginal(shares, 0), _marginal(shares, 1)
    if min(len(of_labels), len(of_predictions)) <= 1:
        return None
    label_spread = 1 - math.fsum(part**2 for part in of_labels.values())
    prediction_spread = 1 - math.fsum(part**2 for part in of_predictions.values())
    scale = math.sqrt(label_spread * prediction_spread)
    by_chance = math.fsum(part * of_predictions.get(label, 0) for label, part in of_labels.items())
    value = max(-1.0, min(1.0, (counts_of.correct(confusion) / total - by_chance) / scale))
    if 1 - abs(value) < 1e-12:  # noqa: PLR2004 (rounding errors of a perfect correlation)
        return Estimate(value, None, None)
    gradient = {
        (label, prediction): (
            ((label == prediction) - of_predictions.get(label, 0) - of_labels.get(prediction, 0)) / scale
            + value * (of_labels[label] / label_spread + of_predictions[prediction] / prediction_spread)
        )
        for label, prediction in shares
    }
    slope = math.fsum(part * gradient[pair] for pair, part in shares.items())
    variance = math.fsum(part * (gradient[pair] - slope) ** 2 for pair, part in shares.items()) / total
    middle, spread = math.atanh(value), Z * math.sqrt(variance) / (1 - value**2)
    return Estimate(value, math.tanh(middle - spread), math.tanh(middle + spread))


def predicted_positive_rate(confusion: Confusion) -> Estimate | None:
    """Return the share of labelled events predicted as class 1, in [0, 1], with Wilson's interval; None without any."""
    return wilson(_predicted(confusion), counts_of.labelled(confusion)) if _is_binary(confusion) else None


def observed_positive_rate(confusion: Confusion) -> Estimate | None:
    """Return the share of labelled events of class 1, in [0, 1], with Wilson's interval; None without any."""
    return wilson(_observed(confusion), counts_of.labelled(confusion)) if _is_binary(confusion) else None


def _is_binary(confusion: Confusion) -> bool:
    """Return whether the model predicts no other class than 0 and 1; a label that it does not know is not class 1."""
    return all(prediction in {0, 1} for (_, prediction), events in confusion.items() if events)


def _true_positives(confusion: Confusion) -> int:
    return confusion.get((1.0, 1.0), 0)


def _predicted(confusion: Confusion) -> int:
    return sum(events for (_, prediction), events in confusion.items() if prediction == 1)


def _observed(confusion: Confusion) -> int:
    return counts_of.label_counts(confusion)[1.0]


def _marginal(shares: dict[tuple[float, float], float], position: int) -> dict[float, float]:
    """Return the share of each class among the labels (position 0) or the predictions (position 1)."""
    marginal: dict[float, float] = {}
    for pair, part in shares.items():
        marginal[pair[position]] = marginal.get(pair[position], 0.0) + part
    return marginal
