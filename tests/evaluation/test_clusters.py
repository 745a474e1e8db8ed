"""Principal components against numpy, k-means against all ways there are, and groups drawn whole."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from bespoke.errors import BespokeError
from bespoke.evaluation.clusters import k_means, nearest_centres, principal_axes
from bespoke.evaluation.significance import drawn_groups, numbered


def points(seed, count, width=3):
    return np.random.default_rng(seed).standard_normal((count, width)) * np.arange(width, 0, -1)


@pytest.mark.parametrize(("count", "width"), [(50, 6), (6, 50), (7, 7)])
def test_axes_are_those_of_the_covariance(count, width):
    some = points(1, count, width)
    axes = principal_axes(some, 4)
    variances = np.linalg.eigvalsh(np.cov(some, rowvar=False))[::-1]
    np.testing.assert_allclose(axes(some).var(axis=0, ddof=1), variances[:4], rtol=1e-9)
    np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(axes(some).mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("count", [200, 5])
def test_the_fewest_axes_hold_the_share_that_is_asked_for(count):
    some = points(1, count, 8)
    variances = np.linalg.eigvalsh(np.cov(some, rowvar=False))[::-1]
    for share in (0.3, 0.6, 0.9):
        kept = principal_axes(some, 8, share).directions.shape[1]
        held = np.cumsum(variances) / variances.sum()
        assert held[kept - 1] >= share and (kept == 1 or held[kept - 2] < share)


def test_all_axes_keep_every_distance():
    some = points(1, 9, 20)
    np.testing.assert_allclose(pdist(principal_axes(some, 99)(some)), pdist(some), rtol=1e-9)


def test_points_that_are_all_the_same_have_one_axis():
    assert principal_axes(np.ones((5, 3)), 3, 0.9)(np.ones((5, 3))).tolist() == [[0.0]] * 5


def inertia(some, centres):
    return cdist(some, centres, "sqeuclidean").min(axis=1).sum()


def test_no_other_way_to_part_a_few_points_is_better():
    for seed in range(5):
        some = points(seed, 7, 2)
        ways = (np.array(way) for way in itertools.product(range(3), repeat=7) if len(set(way)) == 3)
        best = min(sum(((some[way == c] - some[way == c].mean(axis=0)) ** 2).sum() for c in range(3)) for way in ways)
        assert inertia(some, k_means(some, 3, seed, restarts=20)) == pytest.approx(best, rel=1e-9)


def test_clusters_that_lie_apart_are_found():
    middles = np.array([[0, 0], [20, 0], [0, 20], [20, 20]])
    some = np.repeat(middles, 25, axis=0) + points(1, 100, 2)
    centres = k_means(some, 4, 0)
    own = nearest_centres(some, centres)
    assert all(len(set(own[start : start + 25])) == 1 for start in (0, 25, 50, 75)) and len(set(own)) == 4
    for cluster, centre in enumerate(centres):
        np.testing.assert_allclose(centre, some[own == cluster].mean(axis=0), rtol=1e-9)


def test_the_key_decides_the_clusters():
    some = points(1, 60)
    assert np.array_equal(k_means(some, 5, 1, "a"), k_means(some, 5, 1, "a"))
    assert not np.array_equal(k_means(some, 5, 1, "a", restarts=1), k_means(some, 5, 2, "a", restarts=1))


def test_points_fewer_than_clusters_have_a_centre_each():
    some = np.repeat(points(1, 2), 10, axis=0)
    centres = k_means(some, 5, 0)
    assert centres.shape == (2, 3)
    np.testing.assert_allclose(np.sort(centres, axis=0), np.sort(some[[0, 10]], axis=0), rtol=1e-12)


def test_groups_are_numbered_and_drawn_whole():
    groups = numbered(4, [7, 3, 7, 9])
    assert groups.tolist() == [1, 0, 1, 2]
    counts = drawn_groups(groups, 500, 0)
    assert counts.shape == (500, 4) and (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert numbered(3, None).tolist() == [0, 1, 2]


def test_group_numbers_must_be_one_for_each_picture():
    with pytest.raises(BespokeError, match="3 group numbers for 4 pictures") as raised:
        numbered(4, [1, 2, 3])
    assert raised.value.hint
