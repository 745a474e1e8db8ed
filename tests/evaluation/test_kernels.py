"""Kernel distances: against torchmetrics and definitions, whole populations, and by laws; intervals by simulation."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.kid import poly_mmd

from bespoke.errors import BespokeError
from bespoke.evaluation import kernels, kid, kid_gain_interval, kid_interval
from bespoke.evaluation.kernels import CMMD, CMMD_UNBIASED, KID, Discrepancy, median_distance, multi_bandwidth

SEEDS = st.integers(0, 2**32 - 1)


def gaussian(seed, count, width=4, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, width)) + shift


def kernel_sum(x, y):
    return ((np.einsum("id,jd->ij", np.asarray(x), np.asarray(y)) / len(x[0]) + 1) ** 3).sum()


@pytest.mark.parametrize(("count", "width"), [(2, 1), (9, 5), (40, 128)])
def test_the_distance_is_that_of_torchmetrics(count, width):
    x, y = gaussian(1, count, width), gaussian(2, count, width, 0.3)
    expected = float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y)))
    assert kid(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_sets_of_different_sizes_are_averaged_over_their_own_pairs():
    x, y = gaussian(1, 5), gaussian(2, 8, shift=0.5)
    within = [(kernel_sum(s, s) - sum(kernel_sum([a], [a]) for a in s)) / (len(s) * (len(s) - 1)) for s in (x, y)]
    assert kid(x, y) == pytest.approx(sum(within) - 2 * kernel_sum(x, y) / 40, rel=1e-9)


def test_half_precision_features_are_computed_in_double():
    x, y = gaussian(1, 20).astype(np.float16), gaussian(2, 20).astype(np.float16)
    assert kid(x, y) == kid(x.astype(np.float64), y.astype(np.float64))


POPULATIONS = gaussian(1, 300, 2), gaussian(2, 300, 2, 0.4)


def between_populations(x, y):
    """The distance itself: over whole populations a picture may also meet itself."""
    return kernel_sum(x, x) / len(x) ** 2 + kernel_sum(y, y) / len(y) ** 2 - 2 * kernel_sum(x, y) / len(x) / len(y)


@pytest.mark.parametrize("populations", [(POPULATIONS[0], POPULATIONS[0]), POPULATIONS], ids=["same", "different"])
def test_the_distance_is_unbiased(populations):
    truth, rng = between_populations(*populations), np.random.default_rng(3)
    found = np.array([kid(*(p[rng.integers(0, 300, 6)] for p in populations)) for _ in range(600)])
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - truth) < 4 * error
    # The estimator over all pairs would be this much off: the test could tell it.
    itself = sum(np.mean([kernel_sum([a], [a]) for a in p]) - kernel_sum(p, p) / 300**2 for p in populations)
    assert itself / 6 > 8 * error


@given(SEEDS)
def test_neither_the_order_of_pictures_nor_of_sets_matters(seed):
    x, y, rng = gaussian(seed, 7), gaussian(seed + 1, 9, shift=0.2), np.random.default_rng(seed)
    assert kid(rng.permutation(x), rng.permutation(y)) == pytest.approx(kid(x, y), abs=1e-9)
    assert kid(y, x) == pytest.approx(kid(x, y), abs=1e-9)


@given(SEEDS)
def test_a_set_compared_with_itself_is_below_nothing_by_what_leaving_itself_out_costs(seed):
    x = gaussian(seed, 6)
    itself = sum(kernel_sum([a], [a]) for a in x)
    others = (kernel_sum(x, x) - itself) / 30
    assert kid(x, x) == pytest.approx(-2 / 6 * (itself / 6 - others), rel=1e-6, abs=1e-9)


@given(SEEDS)
@settings(max_examples=30)
def test_the_distance_grows_as_a_set_is_blended_into_another(seed):
    x, near, far = gaussian(seed, 100), gaussian(seed + 1, 100), gaussian(seed + 2, 100, shift=1.5)
    blends = [kid(x, np.concatenate([near[: 100 - count], far[:count]])) for count in (0, 25, 50, 75, 100)]
    assert blends == sorted(blends)


def covered(interval, truth):
    return interval[0] <= truth <= interval[1]


def naive_interval(x, y, rng):
    draws = [kid(rng.choice(x, len(x)), rng.choice(y, len(y))) for _ in range(50)]
    return tuple(np.quantile(draws, [0.025, 0.975]))


@pytest.mark.parametrize("populations", [(POPULATIONS[0], POPULATIONS[0]), POPULATIONS], ids=["same", "different"])
def test_intervals_hold_the_truth_as_often_as_they_say(populations):
    truth, rng = between_populations(*populations), np.random.default_rng(5)
    hits = []
    for seed in range(150):
        x, y = (p[rng.integers(0, 300, 40)] for p in populations)
        hits.append(covered(kid_interval(x, y, draws=300, seed=seed), truth))
    assert np.mean(hits) >= 0.88


def test_an_interval_over_resampled_duplicates_would_miss_what_ours_holds():
    rng, ours, naive = np.random.default_rng(6), [], []
    for seed in range(20):
        x, y = rng.standard_normal((40, 16)), rng.standard_normal((40, 16))
        ours.append(covered(kid_interval(x, y, draws=200, seed=seed), 0))
        naive.append(covered(naive_interval(x, y, rng), 0))
    assert np.mean(naive) < 0.2 and np.mean(ours) >= 0.88


def test_interval_is_no_wider_than_it_need_be():
    """Its width is that of the distance's own scatter over fresh samples."""
    found = [kid(gaussian(seed, 60), gaussian(seed + 5000, 60, shift=0.8)) for seed in range(300)]
    widths = [
        np.diff(kid_interval(gaussian(seed, 60), gaussian(seed + 5000, 60, shift=0.8), draws=300)) for seed in range(20)
    ]
    assert np.mean(widths) == pytest.approx(np.diff(np.quantile(found, [0.025, 0.975]))[0], rel=0.25)


def test_intervals_depend_on_level_and_seed_and_on_nothing_else():
    x, y = gaussian(1, 20), gaussian(2, 20, shift=0.5)
    wide, narrow = kid_interval(x, y, level=0.99), kid_interval(x, y, level=0.5)
    assert wide[0] < narrow[0] < kid(x, y) < narrow[1] < wide[1]
    np.random.default_rng().random()
    assert kid_interval(x, y, seed=3) == kid_interval(x, y, seed=3) != kid_interval(x, y, seed=4)


def test_both_sets_are_drawn_anew():
    """Copies of one picture are the same however they are drawn, so what moves the interval is the other set."""
    copies, other = np.ones((20, 4)), gaussian(1, 20)
    assert kid_interval(copies, other, seed=1) != kid_interval(copies, other, seed=2)
    assert kid_interval(other, copies, seed=1) != kid_interval(other, copies, seed=2)


def test_however_copies_of_one_picture_are_drawn_they_are_at_no_distance():
    """Only if each draw's sum is divided by the pairs it holds."""
    copies = np.ones((9, 4))
    assert kid_interval(copies, copies) == pytest.approx((0, 0), abs=1e-12)


def test_two_pictures_have_an_interval():
    low, high = kid_interval(gaussian(1, 2), gaussian(2, 2))
    assert np.isfinite([low, high]).all() and low <= high


def test_the_gain_is_the_ratio_of_distances_within_its_interval():
    base, tuned, reference = gaussian(1, 60, shift=1.0), gaussian(2, 60, shift=0.5), gaussian(3, 60)
    ratio, low, high = kid_gain_interval(base, tuned, reference)
    assert ratio == kid(tuned, reference) / kid(base, reference)
    assert 0 < low < ratio < high < 1


def test_an_unchanged_model_has_a_gain_of_exactly_one():
    """Only if both models' pictures, and the references, are drawn anew together."""
    base = gaussian(1, 30, shift=1.0)
    assert kid_gain_interval(base, base.copy(), gaussian(3, 40)) == (1, 1, 1)


def test_gains_hold_the_truth_as_often_as_they_say():
    base, tuned, reference = gaussian(1, 300, 2, 1.2), gaussian(1, 300, 2, 0.8), POPULATIONS[0]
    truth = between_populations(tuned, reference) / between_populations(base, reference)
    rng, hits = np.random.default_rng(8), []
    for seed in range(150):
        drawn, references = rng.integers(0, 300, 40), rng.integers(0, 300, 40)
        _, low, high = kid_gain_interval(base[drawn], tuned[drawn], reference[references], draws=300, seed=seed)
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.88


def test_where_the_base_is_as_near_as_can_be_told_the_gain_is_unbounded():
    _, low, high = kid_gain_interval(gaussian(1, 30), gaussian(2, 30), gaussian(3, 30))
    assert (low, high) == (-np.inf, np.inf)
    same = gaussian(4, 30)
    assert np.isnan(kid_gain_interval(same, gaussian(2, 30), same)[0])


def with_a(value):
    features = gaussian(1, 5)
    features[2, 1] = value
    return features


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (gaussian(1, 1), "one has 1"),
        (gaussian(1, 0), "one has 0"),
        (gaussian(1, 5, width=3), "4 numbers|3 numbers"),
        (with_a(np.nan), "1 of 5"),
        (with_a(np.inf), "1 of 5"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_hint(x, words):
    y = gaussian(2, 5)
    calls = [kid, kid_interval, lambda a, b: kid_gain_interval(a, a, b), lambda a, b: kid_gain_interval(b, b, a)]
    for call in calls:
        with pytest.raises(BespokeError, match=words) as raised:
            call(x, y)
        assert raised.value.hint


def test_models_with_unequal_numbers_of_pictures_are_no_pairs():
    with pytest.raises(BespokeError, match="no pairs"):
        kid_gain_interval(gaussian(1, 5), gaussian(2, 6), gaussian(3, 5))


def defined(x, y, kernel, *, biased):
    """MMD², written as its definition says, pair by pair."""

    def within(s):
        pairs = [(i, j) for i, j in product(range(len(s)), repeat=2) if biased or i != j]
        return np.mean([kernel(s[i], s[j]) for i, j in pairs])

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a, b in product(x, y)])


def rbf(*widths):
    return lambda a, b: np.mean([np.exp(-((a - b) ** 2).sum() / 2 / width**2) for width in widths])


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_cmmd_is_what_its_paper_says_and_has_an_unbiased_twin():
    x, y = gaussian(1, 7, 5), gaussian(2, 9, 5, 0.5)
    for cmmd, biased in ((CMMD, True), (CMMD_UNBIASED, False)):
        expected = 1000 * defined(unit(x), unit(y), rbf(10.0), biased=biased)
        assert cmmd.between(x, y) == pytest.approx(expected, rel=1e-7)


def test_cmmd_sees_little_but_the_mean():
    """The kernel is almost straight at so large a bandwidth, so that it is ten times the means' squared distance."""
    x, y = gaussian(1, 40, 16), gaussian(2, 40, 16, 0.3)
    apart = ((unit(x).mean(axis=0) - unit(y).mean(axis=0)) ** 2).sum()
    assert CMMD.between(x, y) == pytest.approx(10 * apart, rel=0.01)


def test_cmmd_refuses_features_without_direction():
    with pytest.raises(BespokeError, match="zeros only"):
        CMMD.between(np.zeros((3, 4)), gaussian(1, 3))


def test_several_bandwidths_are_a_mean_of_kernels_around_the_median_distance():
    x, y = gaussian(1, 8, 3), gaussian(2, 6, 3, 1.0)
    both = np.concatenate([y, x])
    median = np.median([np.linalg.norm(a - b) for i, a in enumerate(both) for b in both[:i]])
    assert median_distance(y, x) == pytest.approx(median)
    expected = defined(x, y, rbf(median / 2, median, 2 * median), biased=False)
    assert multi_bandwidth(y, x).between(x, y) == pytest.approx(expected, rel=1e-9)


def test_copies_have_no_say_in_the_median_distance():
    y, x = gaussian(1, 3), gaussian(2, 3)
    assert median_distance(np.ones((9, 4)), np.ones((9, 4))) == 1
    median = np.median([np.linalg.norm(a - b) for i, a in enumerate([*y, *x]) for b in [*y, *x][:i]])
    assert median_distance(np.concatenate([y, y]), np.concatenate([x, x])) == pytest.approx(median, rel=0.1)


@pytest.mark.parametrize("width", [0.3, 1.0, 5.0])
def test_a_kernel_distance_of_gaussians_is_its_closed_form(width):
    """E k(x, y) of normal x and y of variance 1 is √(w²/(w² + 2)) · exp(−shift²/(2(w² + 2)))."""
    size = np.sqrt(width**2 / (width**2 + 2))
    expected = 2 * size * (1 - np.exp(-(1.5**2) / (2 * (width**2 + 2))))
    found = Discrepancy(kernels.gaussian(width)).between(gaussian(1, 1500, 1), gaussian(2, 1500, 1, 1.5))
    assert found == pytest.approx(expected, rel=0.1)


KERNELS = [KID, CMMD, CMMD_UNBIASED, Discrepancy(kernels.gaussian(1.0, 2.0))]


@pytest.mark.parametrize("mmd", KERNELS)
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 2, 2]])
def test_swapping_pictures_turns_the_signs_of_what_they_add(mmd, groups, monkeypatch):
    """The whole permutation test, against distances computed anew for every pattern of swaps."""
    monkeypatch.setattr(kernels, "PART", 4)
    base, tuned, reference = gaussian(1, 5, 3), gaussian(2, 5, 3, 0.3), gaussian(3, 6, 3)
    labels = np.arange(5) if groups is None else np.array(groups)
    for pattern in product([False, True], repeat=labels.max() + 1):
        swapped = np.array(pattern)[labels][:, None]
        one, two = np.where(swapped, tuned, base), np.where(swapped, base, tuned)
        expected = mmd.between(two, reference) - mmd.between(one, reference)
        found = mmd.swaps(base, tuned, reference) @ np.where(swapped[:, 0], -1, 1)
        assert found == pytest.approx(expected, abs=1e-10 * mmd.scale)


@pytest.mark.parametrize("mmd", KERNELS)
def test_groups_drawn_once_are_the_distance_itself(mmd):
    x, y, groups = gaussian(1, 7, 3), gaussian(2, 5, 3), [4, 1, 1, 0, 4, 4, 9]
    assert mmd.resampled([x], y, groups)[0].value == pytest.approx(mmd.between(x, y), abs=1e-10 * mmd.scale)


@pytest.mark.parametrize("mmd", KERNELS)
def test_a_group_drawn_twice_makes_no_pairs_with_its_copy(mmd, monkeypatch):
    """The distance of the pictures that were drawn, pair by pair, but for pairs of two copies of one group."""
    counts, groups = np.array([2.0, 0.0, 1.0]), np.array([0, 0, 1, 2, 2])
    monkeypatch.setattr(kernels, "_drawn", lambda count, *_: (counts if count == 3 else np.ones(4))[None])
    x, y = gaussian(1, 5, 3), gaussian(2, 4, 3)
    kernel = mmd.kernel(np.concatenate([x, y]), np.concatenate([x, y]))
    drawn = [(0, 0), (1, 0), (0, 1), (1, 1), (3, 2), (4, 2)]  # a picture, and which copy of its group
    kept = [
        kernel[i, j]
        for (i, copy), (j, other) in product(drawn, repeat=2)
        if (copy == other or groups[i] != groups[j]) and (mmd.biased or i != j)
    ]
    others = [kernel[i, j] for i, j in product(range(5, 9), repeat=2) if mmd.biased or i != j]
    across = [kernel[i, j] for (i, _), j in product(drawn, range(5, 9))]
    expected = mmd.scale * (np.mean(kept) + np.mean(others) - 2 * np.mean(across))
    assert mmd.resampled([x], y, groups)[0].draws == pytest.approx([expected], rel=1e-9, abs=1e-9)


def test_without_groups_each_picture_is_its_own():
    x, y = gaussian(1, 12), gaussian(2, 9, shift=0.5)
    assert kid_interval(x, y, range(12)) == kid_interval(x, y)


def several(seed, prompts, of_each=4):
    """Pictures of prompts: most of what moves them is the prompt's."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((prompts, 1, 3)) + 0.3 * rng.standard_normal((prompts, of_each, 3))).reshape(-1, 3)


def test_intervals_over_prompts_hold_the_truth_where_those_over_pictures_do_not():
    """The truth is the mean over fresh prompts of the distance, which pairs of one prompt's pictures raise a little."""
    reference, groups = gaussian(9, 60, 3), np.repeat(np.arange(15), 4)
    truth = np.mean([kid(several(seed, 15), reference) for seed in range(1000, 1500)])
    whole, single = [], []
    for seed in range(100):
        pictures = several(seed, 15)
        whole.append(covered(kid_interval(pictures, reference, groups, draws=200, seed=seed), truth))
        single.append(covered(kid_interval(pictures, reference, draws=200, seed=seed), truth))
    assert np.mean(whole) >= 0.88 and np.mean(whole) > np.mean(single) + 0.05


@pytest.mark.parametrize(("groups", "words"), [([0, 1, 2], "3 group numbers for 5"), ([7] * 5, "one prompt")])
def test_groups_that_tell_nothing_are_refused_with_a_hint(groups, words):
    with pytest.raises(BespokeError, match=words) as raised:
        kid_interval(gaussian(1, 5), gaussian(2, 5), groups)
    assert raised.value.hint
