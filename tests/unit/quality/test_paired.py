"""The paired test, against worked examples, numerical integration of its mixtures, and simulated streams."""

import json
import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import betaln

from streamscore.quality import paired, pairs
from streamscore.quality.estimates import Estimate
from streamscore.quality.paired import Evidence
from streamscore.quality.pairs import PairStatistic

LARGE = PairStatistic(20_000, 1_240, 888, {0.0: 15_000, 1.0: 5_000})
SMALL = PairStatistic(100, 30, 12, {0.0: 50, 1.0: 50})


def test_worked_examples():
    """A large example with the default mixture, and a small one, have the known results."""
    assert math.exp(paired.log_evidence(LARGE)) == pytest.approx(3.707e11, rel=2e-3)
    assert math.exp(paired.log_evidence(SMALL, prior=1)) == pytest.approx(9.249, abs=5e-4)
    found = paired.accuracy_difference(LARGE)
    assert (found.value, found.low, found.high) == pytest.approx((0.0176, 0.0102, 0.0250), abs=5e-5)
    variance = LARGE.discordant / 20_000 - found.value**2
    half = paired.asymptotic_half_width(20_000, variance)
    assert (found.value - half, found.value + half) == pytest.approx((0.0104, 0.0248), abs=5e-5)


@pytest.mark.parametrize("pair", [SMALL, LARGE, PairStatistic(10, 0, 0), PairStatistic(10, 0, 7)])
def test_evidence_is_the_mixture_of_likelihood_ratios(pair):
    """The evidence equals the numerical integral of the likelihood ratio over all biased coins."""
    a = (paired._rho(0.05) - 1) / 2
    assert a == pytest.approx(31.0, abs=0.01)

    def integrand(x):
        ratio = pair.only_challenger * math.log(2 * x) + pair.only_champion * math.log(2 * (1 - x))
        return math.exp(ratio + (a - 1) * math.log(x * (1 - x)) - betaln(a, a) - paired.log_evidence(pair))

    peak = (a + pair.only_challenger) / (2 * a + pair.discordant)

    assert integrate.quad(integrand, 1e-9, 1 - 1e-9, points=[peak - 0.05, peak, peak + 0.05], limit=200)[
        0
    ] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("squares", [0.0, 3.0, 42.0, 2_128.0])
def test_interval_is_that_of_the_mixture(squares):
    """The interval follows from the numerical integral of exp(λs - ψ(λ)V) over λ in [0, 1), ψ(λ) = -ln(1 - λ) - λ."""
    rho, s = paired._rho(0.05), paired._half_width(squares, 0.05)

    def weight(rate):
        return math.exp((rho - 1) * math.log1p(-rate) - rho * (1 - rate) + rho)

    def integrand(rate):
        return weight(rate) * math.exp(rate * s + squares * (math.log1p(-rate) + rate))

    mixed = integrate.quad(integrand, 0, 1, limit=500)[0] / integrate.quad(weight, 0, 1, limit=500)[0]

    assert mixed == pytest.approx(2 / 0.05, rel=1e-6)


def looks(seed, streams, difference, events=20_000, discordant=0.1, number=200):
    """Return n, n10 and n01 of each stream at each look; shapes (looks,), (streams, looks), (streams, looks)."""
    chance = np.random.default_rng(seed)
    step = events // number
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    counts = chance.multinomial(step, shares, (streams, number)).cumsum(1)
    return step * np.arange(1, number + 1), counts[..., 0], counts[..., 1]


def verdicts(seed, streams, difference):
    """Return the verdict of each stream, after all looks."""
    events, challenger, champion = looks(seed, streams, difference)
    found = []
    for ten, one in zip(challenger.tolist(), champion.tolist(), strict=True):
        evidence = Evidence()
        for n, n10, n01 in zip(events.tolist(), ten, one, strict=True):
            evidence = evidence.after(PairStatistic(n, n10, n01, {0.0: n - 1, 1.0: 1}))
        found.append(evidence.verdict)
    return found


def test_streams_without_a_difference_seldom_have_a_verdict():
    """False verdicts at any of 200 looks are rare, while a fixed-sample test has many."""
    found = [verdict is not None for verdict in verdicts(21, 1_000, 0)]
    _, challenger, champion = looks(21, 1_000, 0)
    z = abs(challenger - champion) / np.sqrt(np.maximum(1, challenger + champion))

    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1_000)
    assert np.mean((z > stats.norm.ppf(0.975)).any(1)) > 0.3


@pytest.mark.parametrize(("difference", "expected"), [(0.02, "better"), (-0.02, "worse")])
def test_two_points_are_found(difference, expected):
    """A difference of two points is found in nearly all streams, with the right sign."""
    assert np.mean([verdict == expected for verdict in verdicts(22, 200, difference)]) >= 0.95


@pytest.mark.parametrize("difference", [0.0, 0.02])
def test_interval_holds_at_every_look(difference):
    """In at most 5 % of streams the interval ever misses the true difference."""
    events, challenger, champion = looks(23, 300, difference)
    missed = 0
    half = {squares: paired._half_width(squares, 0.05) for squares in np.unique(challenger + champion).tolist()}
    halves = np.vectorize(half.get)(challenger + champion)
    missed = (abs(challenger - champion - events * difference) > halves).any(1)

    assert missed.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_verdict_is_kept():
    """A verdict stays, and the p-value is that of the strongest evidence so far."""
    strong = Evidence().after(LARGE)
    later = strong.after(PairStatistic(40_000, 1_300, 1_290, LARGE.labels))

    assert strong.verdict == later.verdict == "better"
    assert later.p_value == strong.p_value == pytest.approx(1 / 3.707e11, rel=2e-3)
    assert Evidence().p_value == 1
    assert Evidence().after(PairStatistic(10, 5, 5, {0.0: 5, 1.0: 5})).p_value == 1


def test_several_challengers_share_the_alarms():
    """Each of 1,000 challengers needs a thousand times the evidence."""
    pair = PairStatistic(5_000, 300, 220, {0.0: 1, 1.0: 4_999})

    assert Evidence().after(pair).verdict == "better"
    assert Evidence().after(pair, alpha=0.05 / 1_000).verdict is None


def test_no_verdict_from_one_class_or_without_discordant_events():
    """Events of one class, or without discordant predictions, give no verdict."""
    one_class = PairStatistic(20_000, 1_240, 888, {0.0: 20_000})

    assert Evidence().after(one_class) == Evidence()
    assert Evidence().after(PairStatistic(20_000, 0, 0, LARGE.labels)) == Evidence()
    assert paired.accuracy_difference(PairStatistic()) is None


def test_within_the_margin():
    """A difference is within the margin only if its whole interval is."""
    assert paired.is_within(Estimate(0.001, -0.002, 0.004), 0.005)
    assert not paired.is_within(Estimate(0.001, -0.002, 0.006), 0.005)
    assert not paired.is_within(Estimate(0.001, None, None), 0.005)
    assert not paired.is_within(None, 0.005)


def test_typical_number_of_events():
    """After that number most streams have a verdict (1 point, 10 % discordant); without a difference it is None."""
    typical = paired.typical_events(0.01, 0.1)
    _, challenger, champion = looks(24, 500, 0.01, typical)
    a = (paired._rho(0.05) - 1) / 2
    evidence = (challenger + champion) * math.log(2) + betaln(a + challenger, a + champion) - betaln(a, a)

    assert 9_000 < typical < 10_000
    assert 0.5 < (evidence >= math.log(20)).any(1).mean() < 0.65
    assert paired.typical_events(0.002, 0.1) > 200_000
    assert paired.typical_events(0, 0.1) is None


@pytest.fixture(scope="module")
def rows():
    """Labels, some of them missing, and two models' predictions and probabilities."""
    chance = np.random.default_rng(31)
    p = chance.beta(1, 3, 4_000)
    r = np.clip(p + chance.normal(0, 0.1, 4_000), 0, 1)
    labels = np.where(chance.random(4_000) < 0.95, chance.random(4_000) < p, np.nan)
    return labels, (r > 0.5).astype(float), (p > 0.5).astype(float), r, p


def test_sums_of_rows(rows):
    """The sums equal those of the single events."""
    labels, champion, challenger, r, p = (column[~np.isnan(rows[0])] for column in rows)
    found = pairs.of_rows(*rows)
    clipped = [np.clip(column, 2.0**-52, 1 - 2.0**-52) for column in (r, p)]
    losses = [-np.log(np.where(labels == 1, q, 1 - q)) for q in clipped]

    assert found.events == found.probability_events == len(labels)
    assert found.only_challenger - found.only_champion == (challenger == labels).sum() - (champion == labels).sum()
    assert found.discordant == (challenger != champion).sum()
    assert found.labels == {0.0: (labels == 0).sum(), 1.0: (labels == 1).sum()}
    assert found.loss_difference == pytest.approx((losses[0] - losses[1]).sum())
    assert found.loss_difference_squared == pytest.approx(((losses[0] - losses[1]) ** 2).sum())
    assert paired.brier_difference(found).value == pytest.approx(((r - labels) ** 2 - (p - labels) ** 2).mean())
    assert paired.log_loss_difference(found).low < paired.log_loss_difference(found).value
    assert found.brier_difference_squared == pytest.approx((((r - labels) ** 2 - (p - labels) ** 2) ** 2).sum())


def test_parts_add_up_and_documents_are_exact(rows):
    """Sums of parts equal the whole, and survive JSON exactly."""
    whole = pairs.of_rows(*rows)
    parts = [pairs.of_rows(*(column[start::3] for column in rows)) for start in range(3)]
    added = pairs.total(parts)

    assert (added.events, added.labels, added.discordant) == (whole.events, whole.labels, whole.discordant)
    assert added.loss_difference == pytest.approx(whole.loss_difference, rel=1e-9)
    assert whole + PairStatistic() == whole
    assert PairStatistic.from_document(json.loads(json.dumps(whole.to_document()))) == whole


def test_margins_have_no_differences_of_probabilities(rows):
    """For margins only right and wrong predictions are compared."""
    found = pairs.of_rows(*rows[:3])

    assert found.discordant > 0
    assert paired.log_loss_difference(found) is paired.brier_difference(found) is None
    few = PairStatistic(30, 5, 4, probability_events=30, loss_difference=3.0, loss_difference_squared=1.0)
    assert paired.log_loss_difference(few) == Estimate(0.1, None, None)
