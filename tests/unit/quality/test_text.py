"""Figures as text, with intervals and bounds, and with a verdict only if the events allow one."""

import re

import numpy as np
import pytest

from streamscore.quality import text
from streamscore.quality.evaluation import FIGURES, evaluate
from streamscore.quality.statistic import EMPTY, of_rows


def scored(events, right, seed=1):
    """Return the evaluation of events with a share of right predictions and noisy probabilities."""
    random = np.random.default_rng(seed)
    labels = np.arange(events) % 2
    predictions = np.where(np.arange(events) < right * events, labels, 1 - labels)
    scores = np.clip(0.3 + 0.4 * predictions + random.normal(0, 0.1, events), 0.01, 0.99)
    return evaluate(of_rows(labels, predictions, scores, "probability"))


def test_interval_and_bound_stand_behind_the_value():
    """Interval and bound follow the value, in the figure's unit."""
    found = scored(1_000, 0.7)
    auc, precision = found.figures["auc"], found.figures["average_precision"]

    assert text.described(found, "accuracy") == "70.00% [67.09, 72.76]"
    assert text.value(found, "accuracy") == "70.00%"
    assert text.described(found, "auc") == f"{auc.value:.4f} ± {auc.bound:.4f} [{auc.low:.4f}, {auc.high:.4f}]"
    assert (
        text.described(found, "average_precision")
        == f"{precision.value:.4f} ({precision.lower:.4f} to {precision.upper:.4f})"
    )
    assert re.fullmatch(r"0\.\d{4}", text.described(found, "log_loss"))
    assert text.described(found, "baseline") == "50.00%"


def test_undefined_figures_are_dashes():
    """Without events all figures are dashes."""
    assert {text.described(evaluate(EMPTY), name) for name in FIGURES} == {"–"}


@pytest.mark.parametrize(
    ("events", "right", "said"),
    [(1_000, 0.7, "better"), (1_000, 0.3, "worse"), (1_000, 0.5, None), (40, 0.8, None)],
)
def test_verdict_needs_an_interval_that_is_clear_and_narrow(events, right, said):
    """A verdict needs an interval that is narrow and on one side; that of 40 events is too wide."""
    found = scored(events, right)

    assert text.verdict(found, "accuracy") == said
    assert text.described(found, "accuracy").endswith(" wide") == (events == 40)
    assert text.verdict(found, "log_loss") is None


def test_calibration_ratio_is_neither_better_nor_worse():
    """A calibration ratio off 1 has a neutral verdict, above and below."""
    labels = np.arange(10_000) % 2
    found = {
        share: text.verdict(
            evaluate(of_rows(labels, labels, np.full(10_000, share), "probability")), "calibration_ratio"
        )
        for share in (0.2, 0.5, 0.8)
    }

    assert found == {0.2: "off", 0.5: None, 0.8: "off"}
