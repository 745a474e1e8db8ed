"""Intervals and p-values: against scipy, and by how often they are right in simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bespoke.errors import BespokeError
from bespoke.evaluation import mean_interval, paired_difference, ratio_interval
from bespoke.evaluation.significance import (
    LeftOut,
    blocks,
    holm,
    jackknife,
    jackknife_p,
    jackknife_ratio,
    share_interval,
    swap_p,
)


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


def test_without_groups_each_picture_is_its_own():
    base, tuned = normal(1, 30, 5), normal(2, 30, 5.3)
    assert mean_interval(base, range(30)) == mean_interval(base)
    assert paired_difference(base, tuned, np.arange(30)) == paired_difference(base, tuned)
    assert ratio_interval(base, tuned, range(30)) == ratio_interval(base, tuned)


def test_what_numbers_groups_have_does_not_matter():
    base = normal(1, 6, 5)
    assert mean_interval(base, [10, 10, 20, 20, 30, 30]) == mean_interval(base, [0, 0, 1, 1, 2, 2])


def test_copies_of_one_picture_tell_no_more_than_it_does():
    """Groups of equal copies have the interval and the p of the single pictures."""
    base, tuned, groups = normal(1, 25, 5), normal(2, 25, 5.2), np.repeat(np.arange(25), 4)
    copies = np.repeat(base, 4), np.repeat(tuned, 4)
    assert mean_interval(copies[0], groups) == pytest.approx(mean_interval(base))
    assert ratio_interval(*copies, groups) == pytest.approx(ratio_interval(base, tuned))
    found, expected = paired_difference(*copies, groups), paired_difference(base, tuned)
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, expected.p))
    assert paired_difference(*copies).p < expected.p


def test_groups_of_unequal_sizes_keep_the_mean_of_pictures():
    """The mean of what was drawn is over pictures, not over groups; only two groups can be drawn four ways."""
    values = np.array([1.0, 1.0, 1.0, 5.0])
    assert mean_interval(values, [0, 0, 0, 1], level=0.99) == (1, 5)
    middle = mean_interval(values, [0, 0, 0, 1], level=0.01)
    assert middle == (2, 2)


def grouped(seed, effect=0.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((20, 1)) + 0.3 * rng.standard_normal((20, 4)) + effect).ravel()


def test_intervals_and_ps_over_groups_are_right_where_those_over_pictures_are_not():
    groups = np.repeat(np.arange(20), 4)
    whole = [paired_difference(np.zeros(80), grouped(s), groups, flips=500, draws=300, seed=s) for s in range(300)]
    single = [paired_difference(np.zeros(80), grouped(s), flips=500, draws=300, seed=s) for s in range(300)]
    assert np.mean([one.low <= 0 <= one.high for one in whole]) >= 0.9
    assert np.mean([one.low <= 0 <= one.high for one in single]) < 0.8
    assert stats.kstest([one.p for one in whole], "uniform").pvalue > 0.01
    assert np.mean([one.p <= 0.05 for one in single]) > 0.2


@pytest.mark.parametrize(("groups", "words"), [([0, 1], "2 group numbers for 3"), ([4, 4, 4], "one prompt")])
def test_groups_that_tell_nothing_are_refused_with_a_hint(groups, words):
    values = np.array([1.0, 2.0, 4.0])
    calls = [mean_interval, lambda v, g: paired_difference(v, v, g), lambda v, g: ratio_interval(v, v, g), swap_p]
    for call in calls:
        with pytest.raises(BespokeError, match=words) as raised:
            call(values, groups)
        assert raised.value.hint


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_procedure_by_its_own_words(found):
    """Step down from the smallest; stop at the first that is above what is left of the level."""
    adjusted = holm(found)
    for level in (0.01, 0.05, 0.3):
        refused, left = set(), len(found)
        for place in sorted(range(len(found)), key=found.__getitem__):
            if found[place] * left > level:
                break
            refused.add(place)
            left -= 1
        assert {place for place, p in enumerate(adjusted) if p <= level} == refused


def test_a_worked_example_of_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1, 1]
    with pytest.raises(AssertionError):
        holm([0.1, np.nan])


def test_blocks_keep_groups_whole_and_are_of_equal_sizes():
    assert sorted(np.bincount(blocks(43))) == [2] * 17 + [3] * 3
    assert sorted(blocks(7)) == list(range(7))
    groups = np.repeat(np.arange(50), 3)
    dealt = blocks(150, groups, seed=4)
    assert all(len(set(dealt[groups == group])) == 1 for group in range(50))
    assert dealt.max() == 19 and (blocks(150, groups, seed=5) != dealt).any()


@pytest.mark.parametrize(("count", "groups"), [(2, None), (4, [0, 0, 0, 1]), (5, [3] * 5)])
def test_where_too_little_would_be_left_there_are_no_blocks_and_no_interval(count, groups):
    assert set(blocks(count, groups)) == {-1}
    nothing = LeftOut(0.5, (np.array([]), np.array([])))
    assert jackknife(nothing) == (-np.inf, np.inf)
    assert jackknife_ratio(nothing, nothing)[1:] == (-np.inf, np.inf)
    assert share_interval(nothing, 5) == (0, 1)
    assert jackknife_p(nothing, 5) == 1


def means(values, most=20):
    """The mean as a statistic with blocks left out."""
    of = blocks(len(values), most=most)
    return LeftOut(values.mean(), (np.array([values[of != b].mean() for b in range(of.max() + 1)]),))


def test_the_jackknife_of_a_mean_is_students_interval():
    """Leaving single values out gives the usual standard error, exactly."""
    values = normal(1, 15)
    expected = stats.t.interval(0.95, 14, values.mean(), stats.sem(values))
    assert jackknife(means(values)) == pytest.approx(expected, rel=1e-12)
    assert jackknife_p(means(values), 15) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_variances_of_samples_add_up():
    """Welch's error of a difference of means."""
    x, y = normal(1, 12), normal(2, 17, 0.5, 3)
    found = LeftOut(0.0, (means(x).samples[0], -means(y).samples[0]))
    reach = stats.t.ppf(0.975, 11) * np.sqrt(stats.sem(x) ** 2 + stats.sem(y) ** 2)
    assert jackknife(found) == pytest.approx((-reach, reach))


@pytest.mark.parametrize("count", [10, 200])
def test_jackknife_intervals_hold_the_truth_as_often_as_they_say(count):
    hits, refused = [], []
    for seed in range(400):
        found = means(normal(seed, count, 1.0))
        low, high = jackknife(found)
        hits.append(low <= 1 <= high)
        refused.append(jackknife_p(LeftOut(found.value - 1, (found.samples[0] - 1,)), count) <= 0.05)
    assert 0.92 <= np.mean(hits) <= 0.98
    assert 0.02 <= np.mean(refused) <= 0.08


def test_the_ratio_of_jackknifed_means_is_fiellers():
    """The interval holds just those ratios r for which a − r·b is not told from nothing."""
    a, b = normal(1, 15, 2), normal(2, 15, 5)
    ratio, low, high = jackknife_ratio(means(a), means(b))
    assert ratio == a.mean() / b.mean() and low < ratio < high
    for end in (low, high):
        assert stats.ttest_1samp(a - end * b, 0).pvalue == pytest.approx(0.05)
    assert jackknife_ratio(means(a), means(a)) == pytest.approx((1, 1, 1))


def test_a_jackknifed_part_of_what_may_be_nothing_is_unbounded():
    noise = means(normal(3, 15))
    ratio, *ends = jackknife_ratio(means(normal(1, 15, 2)), LeftOut(abs(noise.value), noise.samples))
    assert ratio > 0 and ends == [-np.inf, np.inf]
    assert np.isnan(jackknife_ratio(means(normal(1, 15)), means(np.zeros(15)))[0])


def test_a_p_is_never_below_what_swapping_could_show():
    sure = LeftOut(1.0, (np.ones(6),))
    assert jackknife_p(sure, 6) == 2 / 2**6
    assert jackknife_p(LeftOut(0.0, (np.zeros(6),)), 6) == 1


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_shares_have_wilsons_interval(share):
    """Of independent pictures the jackknife's variance is that of n − 1 draws."""
    values = np.repeat([1.0, 0.0], [round(20 * share), 20 - round(20 * share)])
    low, high = share_interval(means(values), 19)
    reach = stats.t.ppf(0.975, 19)
    for end in {low, high} - {0, 1}:
        assert abs(share - end) == pytest.approx(reach * np.sqrt(end * (1 - end) / 19), abs=1e-8)
    assert 0 <= low <= share <= high <= 1 and high - low > 0.1


def test_swapping_whole_groups_is_scipys_test_of_their_sums():
    differences, groups = normal(1, 12, 0.4), [0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 6, 6]
    sums = np.bincount(groups, weights=differences)
    expected = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=10_000)
    assert swap_p(differences, groups) == pytest.approx(expected.pvalue, abs=1e-12)
