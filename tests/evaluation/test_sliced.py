"""The sliced Wasserstein distance: against scipy along each line, closed forms and laws; intervals by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from bespoke.errors import BespokeError
from bespoke.evaluation.significance import blocks, jackknife
from bespoke.evaluation.sliced import _coupled, mind, mind_left_out

SEEDS = st.integers(0, 2**32 - 1)


def gaussian(seed, count, width=4, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, width)) + shift


def transported(a, b):
    """The squared Wasserstein distance of points on a line as the linear programme that defines it."""
    n, m = len(a), len(b)
    rows = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    masses = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return optimize.linprog(((a[:, None] - b) ** 2).ravel(), A_eq=rows, b_eq=masses).fun


@pytest.mark.parametrize(("count", "other"), [(1, 1), (6, 6), (4, 6), (5, 7), (9, 2)])
def test_along_a_line_it_is_optimal_transport(count, other):
    a, b = (np.sort(gaussian(seed, size, 1), axis=0).T for seed, size in ((1, count), (2, other)))
    assert _coupled(a, b)[0] == pytest.approx(transported(a[0], b[0]), rel=1e-9)


def test_of_equal_sizes_it_is_the_papers_formula():
    x, y = gaussian(1, 30, 5), gaussian(2, 30, 5, 0.7)
    u = np.random.default_rng(3).standard_normal((20_000, 5))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    expected = 3 * 5 * ((np.sort(x @ u.T, axis=0) - np.sort(y @ u.T, axis=0)) ** 2).mean()
    assert mind(x, y) == pytest.approx(expected, rel=0.1)


@given(SEEDS, st.floats(0.1, 3))
@settings(max_examples=10)
def test_a_set_moved_by_c_is_three_times_its_square_away(seed, shift):
    """Of a shift every direction sees the d-th part of its square on average."""
    x = gaussian(seed, 20, 6)
    assert mind(x, x + shift, seed=seed) == pytest.approx(3 * 6 * shift**2, rel=0.15)


@given(SEEDS)
@settings(max_examples=10)
def test_order_and_sides_do_not_matter_and_doubling_every_picture_changes_nothing(seed):
    x, y, rng = gaussian(seed, 9), gaussian(seed + 1, 6, shift=0.5), np.random.default_rng(seed)
    assert mind(rng.permutation(x), y) == pytest.approx(mind(x, y))
    assert mind(y, x) == pytest.approx(mind(x, y))
    assert mind(np.repeat(x, 2, axis=0), y) == pytest.approx(mind(x, y))
    assert mind(x, np.repeat(x, 3, axis=0)) == pytest.approx(0, abs=1e-12)


def test_more_noise_is_farther_and_the_seed_chooses_the_directions():
    x, noise = gaussian(1, 60), gaussian(2, 60)
    found = [mind(x, x + strength * noise) for strength in (0, 0.5, 1, 2)]
    assert found[0] == 0 and found == sorted(found)
    assert mind(x, noise, seed=1) == mind(x, noise, seed=1) != mind(x, noise, seed=2)


def test_leaving_blocks_out_is_the_distance_of_what_is_left():
    x, y = gaussian(1, 25), gaussian(2, 11, shift=0.5)
    of_x, of_y = blocks(25), blocks(11)
    found = mind_left_out(x, y, of_x, of_y, seed=5)
    assert found.value == pytest.approx(mind(x, y, seed=5))
    np.testing.assert_allclose(found.samples[0], [mind(x[of_x != b], y, seed=5) for b in range(20)])
    np.testing.assert_allclose(found.samples[1], [mind(x, y[of_y != b], seed=5) for b in range(11)])


def test_intervals_hold_the_mean_over_pictures_and_directions():
    """Of pictures that lie along one line, what chance makes of the directions is the larger part."""
    x, y = np.zeros((20, 64)), np.zeros((20, 64))
    x[:, 0] = 5 + 0.1 * gaussian(1, 20, 1)[:, 0]
    truth = 3 * 25
    hits = []
    for seed in range(50):
        low, high = jackknife(mind_left_out(x, y, blocks(20), blocks(20), seed=seed))
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.88


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(BespokeError, match="no finite numbers"):
        mind(np.full((3, 4), np.nan), gaussian(1, 3))
