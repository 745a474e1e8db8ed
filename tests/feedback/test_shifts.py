"""Figures now and then: scipy's tests, the index by hand, and what chance does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bespoke.feedback.shifts import edges, moved, psi, psi_by_chance, rank_score

numbers = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=30).map(np.array)


def drawn(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, count)


def test_p_of_numbers_is_scipys_kolmogorov_smirnov():
    x, y = drawn(0, 80), drawn(1, 30, 0.4)
    assert moved(x, y).p == stats.ks_2samp(x, y).pvalue
    assert moved(x, x).p == 1


def test_p_of_shares_is_fishers():
    x, y = np.repeat([0.0, 1.0], [95, 5]), np.repeat([0.0, 1.0], [20, 10])
    assert moved(x, y).p == stats.fisher_exact([[5, 95], [10, 20]]).pvalue < 0.01
    none = np.zeros(50)
    assert (moved(none, none[:20]).p, moved(none, none[:20]).score) == (1.0, 0.0)


@given(numbers, numbers)
def test_the_score_is_mann_and_whitneys_with_its_correction_for_ties(x, y):
    if len(np.unique(np.concatenate([x, y]))) == 1:
        assert rank_score(x, y) == 0
        return
    two_sided = stats.mannwhitneyu(y, x, method="asymptotic", use_continuity=False).pvalue
    assert 2 * stats.norm.sf(abs(rank_score(x, y))) == pytest.approx(two_sided, abs=1e-12)


@given(numbers, numbers)
def test_the_score_turns_with_the_sides_and_orders_do_not_matter(x, y):
    assert rank_score(x, y) == pytest.approx(-rank_score(y, x), abs=1e-9)
    assert moved(x[::-1], y[::-1]).psi == pytest.approx(moved(x, y).psi, abs=1e-12)
    assert psi(x, y) >= 0


def test_one_wild_value_does_not_move_the_score():
    x, y = drawn(0, 200), drawn(1, 40)
    wild = np.concatenate([y[:-1], [1e9]])
    assert abs(rank_score(x, wild) - rank_score(x, y)) < 0.3 and moved(x, wild).value > 1e6


def test_the_index_by_hand():
    reference = np.arange(100.0)
    assert len(edges(reference)) == 9
    now = np.concatenate([np.arange(0.0, 50, 5), np.arange(90.0, 100)])  # two in each lower bin, ten in the last
    counts = np.array([2, 2, 2, 2, 2, 0, 0, 0, 0, 10])
    q, p = (counts + 0.5) / 25, np.full(10, 10.5 / 105)
    assert psi(reference, now) == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_empty_bins_and_a_reference_of_one_value_give_finite_indices():
    assert 0.5 < psi(drawn(0, 100), np.full(50, 99.0)) < 20
    assert psi(np.zeros(50), np.zeros(20)) < 0.05 < psi(np.zeros(50), np.ones(20)) < 20
    assert psi(np.zeros(50), -np.ones(20)) == pytest.approx(psi(np.zeros(50), np.ones(20)))


def test_bins_hold_equal_parts_of_the_reference_and_no_value_is_in_two():
    reference = drawn(3, 1000)
    held = np.bincount(np.searchsorted(edges(reference), reference, side="left"))
    assert (held == 100).all()
    few = np.repeat([0.0, 1.0, 2.0], [800, 100, 100])
    assert list(edges(few)) == [0.0, 1.0]


def test_what_chance_makes_of_the_index_is_what_it_makes():
    limit = psi_by_chance(400, 100)
    passed = np.mean([psi(drawn(2 * n, 400), drawn(2 * n + 1, 100)) > limit for n in range(600)])
    assert 0.02 < passed < 0.08
    assert psi_by_chance(400, 30) > 0.5  # where the usual limits are 0.1 and 0.25
