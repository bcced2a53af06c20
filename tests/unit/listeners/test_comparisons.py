"""The comparisons of a run: looks batch by batch, a verdict that is logged once, and the models in use."""

import logging

import pytest

from streamscore.config import Compare
from streamscore.listeners.comparisons import Comparisons
from streamscore.quality import paired
from streamscore.quality.comparison import Pair
from streamscore.quality.packed import PairPart
from streamscore.quality.pairs import PairStatistic
from streamscore.scoring.served import ServedModel

LR, SVM, GBT = (ServedModel(name, "1", None, 2) for name in ("lr", "svm", "gbt"))
CLEAR = PairStatistic(1_000, 150, 50, {0.0: 700, 1.0: 300}, 600)
EVEN = PairStatistic(1_000, 50, 50, {0.0: 700, 1.0: 300}, 600)


def test_verdict_is_logged_once_and_kept(caplog):
    """The log has one line when the verdict falls; later batches do not change it."""
    found = Comparisons()
    with caplog.at_level(logging.INFO, "streamscore"):
        for statistic in (EVEN, CLEAR, CLEAR, EVEN):
            found.add([PairPart(0, 1, statistic)], [LR, SVM])
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("verdict: ")]
    (compared,) = found.summary()

    assert line.startswith("verdict: svm 1 against lr 1: accuracy +5.00 [")
    assert line.endswith("points on 2,000 events, better (after 2,000 events)")
    assert (compared["verdict"], compared["verdict_events"], compared["n"]) == ("better", 2_000, 4_000)
    assert found.lines([LR, SVM])[0].endswith("better (after 2,000 events)")


def test_challengers_share_alpha_and_the_champion_can_be_named():
    """Each of two challengers has half of alpha; pairs name the configured champion first."""
    found = Comparisons(Compare(champion="svm", alpha=0.1, margin=0.005))
    found.add([PairPart(0, 0, EVEN), PairPart(0, 2, CLEAR)], [LR, SVM, GBT])

    assert list(found.of_pair) == [Pair("svm", "1", "lr", "1"), Pair("svm", "1", "gbt", "1")]
    assert {compared.alpha for compared in found.of_pair.values()} == {0.05}


def test_only_the_models_in_use_have_lines():
    """After a swap the lines are of the new pair, and the summary has both."""
    found = Comparisons()
    found.add([PairPart(0, 1, EVEN)], [LR, SVM])
    second = ServedModel("svm", "2", None, 2)
    found.add([PairPart(0, 1, CLEAR)], [LR, second])

    assert [line.split(":")[0] for line in found.lines([LR, second])] == ["svm 2 against lr 1"]
    assert [compared["challenger_version"] for compared in found.summary()] == ["1", "2"]
    assert found.lines([LR]) == []


def test_line_says_how_far_a_verdict_is():
    """Without a verdict the line gives the usual number of events; a difference within the margin is equal."""
    near = PairStatistic(10_000, 505, 495, {0.0: 7_000, 1.0: 3_000})
    small = PairStatistic(1_000_000, 50_000, 50_010, {0.0: 700_000, 1.0: 300_000})
    found = Comparisons()
    found.add([PairPart(0, 1, near)], [LR, SVM])
    needed = paired.typical_events(0.001, 0.1)
    equal = Comparisons()
    equal.add([PairPart(0, 1, small)], [LR, SVM])

    assert "no verdict yet (a difference of this size usually takes some " in found.lines([LR, SVM])[0]
    assert found.of_pair[Pair("lr", "1", "svm", "1")].events_needed == pytest.approx(needed)
    assert equal.lines([LR, SVM])[0].endswith("equal within 0.5 points")
