"""Intervals and p-values: against scipy, and by how often they are right in simulations."""

import numpy as np
import pytest
from scipy import stats

from bespoke.errors import BespokeError
from bespoke.evaluation import mean_interval, paired_difference, ratio_interval


def normal(seed, count, mean=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(mean, spread, count)


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = normal(1, 50) ** 2
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0)
    low, high = expected.confidence_interval
    assert mean_interval(values, draws=20_000) == pytest.approx((low, high), abs=0.01)


def test_intervals_of_means_hold_the_truth_as_often_as_they_say():
    hits = [low <= 3 <= high for low, high in (mean_interval(normal(seed, 40, 3), draws=400) for seed in range(400))]
    assert 0.90 <= np.mean(hits) <= 0.98


def test_a_smaller_level_is_a_narrower_interval_and_the_seed_decides_it():
    values = normal(1, 30)
    wide, narrow = mean_interval(values, level=0.99), mean_interval(values, level=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)


@pytest.mark.parametrize("count", [2, 5, 12])
def test_few_pairs_have_the_exact_p_of_scipy(count):
    base, tuned = normal(1, count), normal(2, count, 0.4)
    expected = stats.permutation_test((tuned - base,), np.mean, permutation_type="samples", n_resamples=10_000)
    assert paired_difference(base, tuned).p == pytest.approx(expected.pvalue, abs=1e-12)


def test_a_tie_counts_although_sums_in_another_order_differ_in_the_last_digit():
    """Where all differences are above nothing, of all patterns of signs only all and none are as far from it."""
    for seed in range(50):
        assert paired_difference(np.zeros(11), np.abs(normal(seed, 11)), draws=2).p == 2 / 2**11
    assert paired_difference(np.zeros(20), np.zeros(20)).p == 1


def test_many_pairs_have_the_p_of_a_t_test_where_differences_are_normal():
    base, tuned = normal(1, 60), normal(2, 60, 0.1)
    expected = stats.ttest_rel(base, tuned).pvalue
    assert 0.01 < expected < 0.9
    assert paired_difference(base, tuned).p == pytest.approx(expected, abs=0.02)


def test_without_an_effect_every_p_is_as_likely():
    found = [
        paired_difference(normal(seed, 20), normal(seed + 9000, 20), flips=999, draws=2, seed=seed).p
        for seed in range(400)
    ]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_an_effect_has_a_small_p_but_never_none():
    found = paired_difference(normal(1, 100), normal(2, 100, 1.0))
    assert found.p == 1 / 10_001
    assert 0 < found.low < found.mean < found.high
    assert found.mean == pytest.approx((normal(2, 100, 1.0) - normal(1, 100)).mean())


def test_worse_is_below_nothing():
    found = paired_difference(normal(1, 100, 1.0), normal(2, 100))
    assert found.high < 0


def test_pairs_that_go_together_have_a_narrower_interval_than_strangers():
    base = normal(1, 80, 30, 5)
    tuned = base + normal(2, 80, 0.5, 0.5)
    found = paired_difference(base, tuned)
    strangers = paired_difference(base, np.random.default_rng(3).permutation(tuned))
    assert found.high - found.low < 0.2 * (strangers.high - strangers.low)
    assert found.p < 0.001 < strangers.p


def test_a_fixed_share_has_an_interval_of_no_width():
    """Only if both means are taken over the same drawn pictures."""
    base = normal(1, 30, 30, 5)
    assert ratio_interval(base, 0.9 * base) == pytest.approx((0.9, 0.9, 0.9), abs=1e-12)


def test_ratios_hold_the_truth_as_often_as_they_say():
    hits = []
    for seed in range(300):
        base = normal(seed, 40, 30, 5)
        ratio, low, high = ratio_interval(base, 0.8 * base + normal(seed + 5000, 40, 0, 3), draws=400)
        assert low < ratio < high
        hits.append(low <= 0.8 <= high)
    assert 0.90 <= np.mean(hits) <= 0.98


def test_a_part_of_nothing_is_unknown():
    ratio, low, high = ratio_interval(np.zeros(10), np.ones(10))
    assert np.isnan(ratio) and (low, high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("base", "tuned", "words"),
    [
        (np.ones(5), np.ones(6), "no pairs"),
        (np.ones(1), np.ones(1), "at least 2"),
        (np.ones(3), np.array([1.0, np.nan, 1.0]), "no finite number"),
    ],
)
def test_what_cannot_be_paired_is_refused_with_a_hint(base, tuned, words):
    for call in (paired_difference, ratio_interval):
        with pytest.raises(BespokeError, match=words) as raised:
            call(base, tuned)
        assert raised.value.hint


@pytest.mark.parametrize("values", [np.ones(1), np.array([1.0, np.inf])])
def test_a_mean_without_an_interval_is_refused(values):
    with pytest.raises(BespokeError):
        mean_interval(values)
