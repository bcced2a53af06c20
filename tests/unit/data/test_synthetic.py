"""The generator: deterministic, in Criteo's format, with a known best possible score."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamscore.data import synthetic


def write(path, rows, seed=7, bayes_auc=0.8):
    """Write rows and return the lines."""
    assert list(synthetic.write(path, rows, seed, bayes_auc))[-1] == rows
    return path.read_text().splitlines()


def test_same_seed_same_rows_and_a_prefix_of_a_longer_file(tmp_path):
    """The same seed gives the same rows, and a shorter file is a prefix of a longer one."""
    short = write(tmp_path / "a.tsv", 1000)
    long = write(tmp_path / "b.tsv", 60_000)

    assert long[:1000] == short
    assert write(tmp_path / "c.tsv", 1000, seed=8) != short


def test_two_trainings_may_write_the_same_file_at_the_same_time(tmp_path):
    """Concurrent writers each leave a complete file."""
    path = tmp_path / "a.tsv"
    first, second = (synthetic.write(path, 60_000, 7, 0.8) for _ in range(2))
    for _ in zip(first, second, strict=True):
        pass

    assert len(path.read_text().splitlines()) == pq.read_table(synthetic.truth_path(path)).num_rows == 60_000
    assert len(list(tmp_path.iterdir())) == 2


def test_broken_off_generation_leaves_nothing_behind(tmp_path):
    """An interrupted generation leaves no partial file."""
    rows = synthetic.write(tmp_path / "a.tsv", 60_000, 7, 0.8)
    next(rows)
    rows.close()

    assert list(tmp_path.iterdir()) == []


def test_lines_are_of_criteo_s_format(tmp_path):
    """A line has a label, 13 optional whole numbers and 26 optional tokens of eight hexadecimal digits."""
    for line in write(tmp_path / "a.tsv", 500):
        label, *rest = line.split("\t")

        assert label in {"0", "1"}
        assert len(rest) == 39
        assert all(value == "" or value.lstrip("-").isdigit() for value in rest[:13])
        assert all(value == "" or (len(value) == 8 and int(value, 16) >= 0) for value in rest[13:])


@pytest.mark.parametrize("target", [0.7, 0.8])
def test_best_possible_score_and_base_rate_are_what_was_asked_for(tmp_path, target):
    """Bayes AUC and base rate are as requested; an AUC near .8 has a standard error of .0025 at 50,000 rows."""
    path = tmp_path / "a.tsv"
    lines = write(path, 50_000, bayes_auc=target)
    clicks = np.array([line[0] == "1" for line in lines])

    assert synthetic.best_possible(path, 50_000).auc == pytest.approx(target, abs=0.005)
    assert clicks.mean() == pytest.approx(synthetic.BASE_RATE, abs=0.008)


def test_labels_follow_the_true_probabilities(tmp_path):
    """In every decile by probability, the share of clicks is the mean probability."""
    path = tmp_path / "a.tsv"
    clicks = np.array([line[0] == "1" for line in write(path, 50_000)])
    probability = pq.read_table(synthetic.truth_path(path))["p"].to_numpy()
    for part in np.array_split(np.argsort(probability), 10):
        expected = probability[part].mean()

        assert clicks[part].mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / len(part)))


def test_best_scores_of_a_coin_and_of_certainty():
    """The formulas have the known values for a coin and for certainty."""
    coin = synthetic.best_scores(np.full(1000, 0.5))
    certain = synthetic.best_scores(np.array([0.0, 1.0] * 500))

    assert coin == pytest.approx((0.5, np.log(2), 0.5))
    assert certain == pytest.approx((1.0, 0.0, 1.0), abs=1e-9)


def test_columns_of_a_block_are_missing_together(tmp_path):
    """C19, C20, C25 and C26 have values in some 56% of the rows, always together."""
    rows = [line.split("\t") for line in write(tmp_path / "a.tsv", 5000)]
    block = [tuple(row[13 + number] == "" for number in (19, 20, 25, 26)) for row in rows]

    assert set(block) == {(True,) * 4, (False,) * 4}
    assert np.mean([empty[0] for empty in block]) == pytest.approx(1 - 0.5595, abs=0.03)


@pytest.mark.parametrize(("seed", "target"), [(7, 0.55), (7, 0.8), (8, 0.95)])
def test_calibration_ends_at_the_base_rate_and_at_the_score_that_was_asked_for(seed, target):
    """The calibration reaches base rate and Bayes AUC to the last digits, for weak and strong effects."""
    logit = synthetic.Logit.calibrated(seed, target, sample=20_000)
    rows = synthetic._draw(np.random.default_rng([seed, 2**32]), 20_000)
    probability = logit.probability(rows)

    assert probability.mean() == pytest.approx(synthetic.BASE_RATE, abs=1e-9)
    assert synthetic._auc(np.sort(probability)) == pytest.approx(target, abs=1e-9)
