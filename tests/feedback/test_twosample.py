"""The permutation test: the distance and its p-value are those of other implementations, and the p-value is valid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bespoke.errors import BespokeError
from bespoke.evaluation.kernels import Discrepancy, gaussian
from bespoke.feedback import twosample
from bespoke.feedback.twosample import apart, bandwidth


def rows(seed: int, count: int, width: int = 3, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, width))


def naive(x: np.ndarray, y: np.ndarray, width: float) -> float:
    """Gretton's equation 3 as it is printed: three double sums."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * width**2)))

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_the_distance_is_the_unbiased_one_by_its_formula_and_by_the_scorecards():
    x, y = rows(0, 7), rows(1, 5, shift=0.5)
    width = bandwidth(np.concatenate([x, y]))
    found = apart(x, y, draws=9).distance
    assert found == pytest.approx(naive(x, y, width), abs=1e-12)
    assert found == pytest.approx(Discrepancy(gaussian(width)).between(x, y), abs=1e-12)


def test_the_bandwidth_is_the_median_of_the_distances():
    x = rows(0, 30)
    apart_by = [float(np.linalg.norm(x[i] - x[j])) for i in range(30) for j in range(i)]
    assert bandwidth(x) == pytest.approx(np.median(apart_by))
    assert bandwidth(np.ones((5, 2))) == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.5])
def test_p_is_that_of_scipys_permutation_test(shift):
    x, y = rows(2, 5), rows(3, 4, shift=shift)
    width = bandwidth(np.concatenate([x, y]))
    labels = np.arange(9)
    both = np.concatenate([x, y])

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return naive(both[a.astype(int)], both[b.astype(int)], width)

    exact = stats.permutation_test(
        (labels[:5], labels[5:]), statistic, n_resamples=np.inf, alternative="greater", vectorized=False
    ).pvalue  # all 126 divisions
    draws = 20_000
    p = apart(x, y, draws=draws).p
    assert abs(p - exact) < 4 * (exact * (1 - exact) / draws) ** 0.5 + 2 / draws


@pytest.mark.parametrize("enough", [None, 10])
def test_p_is_uniform_where_nothing_changed(enough):
    ps = np.array(
        [apart(rows(2 * n, 8, 2), rows(2 * n + 1, 6, 2), draws=99, enough=enough, seed=n).p for n in range(250)]
    )
    for level in (0.05, 0.1, 0.2, 0.5):
        spread = (level * (1 - level) / len(ps)) ** 0.5
        assert abs((ps <= level).mean() - level) < 3.5 * spread, level


def test_p_is_never_nothing_and_a_clear_difference_has_the_least():
    found = apart(rows(0, 30), rows(1, 20, shift=5.0), draws=499)
    assert found == (found.distance, 1 / 500, 499) and found.distance > 0.5


def test_it_stops_once_enough_divisions_are_as_far_apart():
    x, y = rows(0, 40), rows(1, 20)
    whole, stopped = apart(x, y, draws=5000), apart(x, y, draws=5000, enough=20)
    assert stopped.draws < 300 and stopped.p == 20 / stopped.draws
    assert stopped.p == pytest.approx(whole.p, abs=0.25) and stopped.distance == whole.distance


def test_equal_sets_are_not_apart():
    x = np.repeat(rows(0, 4), 5, axis=0)
    assert apart(x, x, draws=99).p > 0.5
    same = np.ones((6, 3))
    assert apart(same, same, draws=99) == (0.0, 1.0, 99)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.randoms(use_true_random=False))
def test_nothing_depends_on_the_order_of_rows(seed, first, second, random):
    x, y = rows(seed, first), rows(seed + 1, second)
    mixed = [one[random.sample(range(len(one)), len(one))] for one in (x, y)]
    assert apart(*mixed, draws=50) == apart(x, y, draws=50)


def test_rows_in_blocks_and_not_kept_give_the_same(monkeypatch):
    x, y = rows(0, 50), rows(1, 30, shift=0.4)
    whole = apart(x, y, draws=300)
    monkeypatch.setattr(twosample, "PART", 17)
    monkeypatch.setattr(twosample, "HELD", 10)
    parts = apart(x, y, draws=300)
    assert parts.distance == pytest.approx(whole.distance, abs=1e-13) and parts.draws == whole.draws


def test_thousands_of_rows():
    found = apart(rows(0, 2400, 8), rows(1, 700, 8), draws=200, enough=5)
    assert found.p > 0.01
    assert apart(rows(0, 2600, 16), rows(1, 900, 16, shift=0.15), draws=99).p == 0.01


def test_sets_that_cannot_be_compared():
    with pytest.raises(BespokeError, match="at least 2"):
        apart(rows(0, 1), rows(1, 5))
    with pytest.raises(BespokeError, match="no finite numbers"):
        apart(rows(0, 4), np.full((4, 3), np.nan))
