"""The Fréchet distance: against torchmetrics, a matrix root and closed forms, also with fewer pictures than numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from torchmetrics.image.fid import _compute_fid

from bespoke.errors import BespokeError
from bespoke.evaluation.frechet import frechet, frechet_left_out
from bespoke.evaluation.significance import blocks, jackknife

SEEDS = st.integers(0, 2**32 - 1)


def gaussian(seed, count, width=4, shift=0.0, spread=1.0):
    return np.random.default_rng(seed).standard_normal((count, width)) * spread + shift


@pytest.mark.parametrize(("count", "other", "width"), [(50, 40, 8), (300, 200, 64), (12, 9, 4)])
def test_the_distance_is_that_of_torchmetrics_and_of_a_matrix_root(count, other, width):
    mix = gaussian(0, width, width)
    x, y = gaussian(1, count, width) @ mix, gaussian(2, other, width, 0.3) @ mix
    moments = [(s.mean(axis=0), np.cov(s, rowvar=False)) for s in (x, y)]
    expected = float(_compute_fid(*(torch.from_numpy(part) for moment in moments for part in moment)))
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)
    root = np.trace(linalg.sqrtm(moments[0][1] @ moments[1][1]).real)
    apart = ((moments[0][0] - moments[1][0]) ** 2).sum() + sum(np.trace(m[1]) for m in moments)
    assert frechet(x, y) == pytest.approx(apart - 2 * root, rel=1e-8)


@pytest.mark.parametrize(("count", "other", "width"), [(10, 15, 64), (60, 20, 32), (2, 2, 8)])
def test_fewer_pictures_than_numbers_are_exact(count, other, width):
    """torchmetrics' eigenvalues of a singular matrix are exact to six digits only."""
    x, y = gaussian(1, count, width), gaussian(2, other, width, 0.3)
    moments = [torch.from_numpy(part) for s in (x, y) for part in (s.mean(axis=0), np.cov(s, rowvar=False))]
    assert frechet(x, y) == pytest.approx(float(_compute_fid(*moments)), rel=1e-5)


@pytest.mark.parametrize("count", [9, 40])
def test_independent_numbers_have_the_closed_form(count):
    """|μx − μy|² + Σ (σx − σy)², where no two numbers of a set vary together."""
    turned, _ = np.linalg.qr(np.column_stack([np.ones(count), gaussian(1, count, 6)]))
    straight = turned[:, 1:] * np.sqrt(count - 1)
    mean_x, mean_y, of_x, of_y = list(np.random.default_rng(2).uniform(0.5, 3, (4, 6)))
    expected = ((mean_x - mean_y) ** 2).sum() + ((of_x - of_y) ** 2).sum()
    assert frechet(straight * of_x + mean_x, straight[::-1] * of_y + mean_y) == pytest.approx(expected, rel=1e-10)


@given(SEEDS, st.floats(-3, 3), st.sampled_from([(30, 4), (5, 12)]))
def test_a_moved_set_is_as_far_as_it_moved(seed, shift, size):
    x = gaussian(seed, *size)
    assert frechet(x, x + shift) == pytest.approx(size[1] * shift**2, abs=1e-9)


@given(SEEDS, st.sampled_from([(20, 4), (5, 12)]))
def test_neither_order_nor_a_turn_of_all_matters(seed, size):
    x, y, rng = gaussian(seed, *size), gaussian(seed + 1, *size, shift=0.5), np.random.default_rng(seed)
    turn = linalg.qr(rng.standard_normal((size[1], size[1])))[0]
    for one, two in ((rng.permutation(x), y), (y, x), (x @ turn, y @ turn), (x + 5, y + 5)):
        assert frechet(one, two) == pytest.approx(frechet(x, y), rel=1e-8)


@given(SEEDS)
def test_more_noise_is_farther(seed):
    x, noise = gaussian(seed, 60), gaussian(seed + 1, 60)
    found = [frechet(x, x + strength * noise) for strength in (0, 0.5, 1, 2, 4)]
    assert found[0] < 1e-9 and found == sorted(found)


def test_small_samples_of_one_distribution_are_far_apart():
    found = [frechet(gaussian(1, count, 64), gaussian(2, count, 64)) for count in (50, 200, 2000)]
    assert found[0] > 3 * found[1] > 9 * found[2]


@pytest.mark.parametrize(("count", "other", "width"), [(30, 25, 4), (12, 9, 40), (30, 9, 20)])
def test_leaving_blocks_out_is_the_distance_of_what_is_left(count, other, width):
    x, y = gaussian(1, count, width, 2.0), gaussian(2, other, width)
    of_x, of_y = blocks(count, most=7), blocks(other, seed=3)
    found = frechet_left_out(x, y, of_x, of_y)
    assert found.value == frechet(x, y)
    expected = ([frechet(x[of_x != b], y) for b in range(7)], [frechet(x, y[of_y != b]) for b in range(of_y.max() + 1)])
    for sample, values in zip(found.samples, expected, strict=True):
        np.testing.assert_allclose(sample, values, rtol=1e-7)


@pytest.mark.parametrize(("count", "width"), [(40, 4), (20, 40)])
def test_intervals_hold_the_mean_distance_as_often_as_they_say(count, width):
    sets = [(gaussian(seed, count, width, 0.5), gaussian(seed + 10**6, count, width)) for seed in range(60)]
    truth = np.mean([frechet(x, y) for x, y in sets])
    found = [jackknife(frechet_left_out(x, y, blocks(count), blocks(count))) for x, y in sets]
    assert np.mean([low <= truth <= high for low, high in found]) >= 0.9
    scatter = np.diff(np.quantile([frechet(x, y) for x, y in sets], [0.025, 0.975]))[0]
    assert np.mean([high - low for low, high in found]) < 1.6 * scatter


@pytest.mark.parametrize(("x", "words"), [(np.ones((1, 4)), "one has 1"), (np.ones((5, 3)), "3 numbers")])
def test_what_cannot_be_compared_is_refused(x, words):
    with pytest.raises(BespokeError, match=words):
        frechet(x, gaussian(1, 5))
