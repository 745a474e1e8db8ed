"""Maps between spaces: formulas against scipy; a planted map is found, shuffled pairs are not, few are said."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.words.mapping import LEAST, Frame, fit, procrustes, quality, ridge


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def planted(count=300, width=20, other=30, grain=0.3, seed=0):
    """Rows with a common mean and a strong common direction on either side, and a linear map between them."""
    meaning = noise(count, width, seed=seed)
    source = meaning + 5 * noise(width, seed=1) + 8 * noise(count, 1, seed=2) * noise(width, seed=3)
    rows = meaning @ noise(width, other, seed=4) / np.sqrt(width) + grain * noise(count, other, seed=5)
    return source, rows + 5 * noise(other, seed=6) + 8 * noise(count, 1, seed=7) * noise(other, seed=8)


@given(st.integers(0, 99), st.integers(2, 12), st.integers(1, 9), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_ridge_is_least_squares_with_rows_that_pull_to_zero(seed, width, other, penalty):
    x, y = noise(40, width, seed=seed), noise(40, other, seed=seed + 1)
    strength = penalty * np.trace(x.T @ x) / width
    taller = np.vstack([x, np.sqrt(strength) * np.eye(width)])
    expected = np.linalg.lstsq(taller, np.vstack([y, np.zeros((width, other))]), rcond=None)[0]
    np.testing.assert_allclose(ridge(x, y, penalty), expected, atol=1e-9)


@given(st.integers(0, 99), st.integers(2, 12))
@settings(max_examples=40)
def test_procrustes_of_equal_widths_is_scipys(seed, width):
    x, y = noise(40, width, seed=seed), noise(40, width, seed=seed + 1)
    expected = scipy.linalg.orthogonal_procrustes(x, y)[0]
    np.testing.assert_allclose(procrustes(x, y), expected, atol=1e-8)


@pytest.mark.parametrize(("width", "other"), [(6, 11), (11, 6), (8, 8)])
def test_procrustes_keeps_lengths_as_far_as_there_is_room(width, other):
    x = noise(200, width)
    turned = np.linalg.qr(noise(max(width, other), max(width, other), seed=1))[0][:width, :other]
    found = procrustes(x, x @ turned)
    singular = np.linalg.svd(found)[1]
    np.testing.assert_allclose(singular, 1, atol=1e-9)
    if width <= other:
        np.testing.assert_allclose(x @ found, x @ turned, atol=1e-8)


def test_a_frame_takes_out_the_mean_and_what_all_rows_share():
    source, _ = planted()
    inside = Frame.of(source).inside(source)
    np.testing.assert_allclose(np.linalg.norm(inside, axis=1), 1)
    strong = noise(20, seed=3) / np.linalg.norm(noise(20, seed=3))
    assert (
        np.abs(inside @ strong).mean()
        < 0.1
        < 0.5
        < np.abs(source @ strong).mean() / np.linalg.norm(source, axis=1).mean()
    )


def test_a_planted_map_is_found():
    source, rows = planted()
    found = fit(source, rows, seed=0)
    best = found.tried[0]
    assert found.map is not None and not found.reason and found.anchors == 300
    assert best.usable and best.kind == "ridge" and best.recall[-1] > 0.9 > 10 * best.null_recall[-1]
    assert best.recall == tuple(sorted(best.recall)) and best.cosine > 0.8 and abs(best.null_cosine) < 0.1
    fresh, true = planted(count=320)
    likeness = found.map(fresh[300:]) @ Frame.of(rows).inside(true).T
    assert (likeness.argmax(axis=1) == np.arange(300, 320)).mean() > 0.7


def test_a_planted_rotation_is_found_by_procrustes():
    source = noise(200, 10)
    rows = source @ np.linalg.qr(noise(25, 25, seed=1))[0][:10] + 0.05 * noise(200, 25, seed=2)
    assert quality(source, rows, "procrustes", seed=0).recall[-1] > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_pairs_give_no_map_and_that_is_said(seed):
    source, rows = planted(seed=seed)
    found = fit(source, np.random.default_rng(seed).permutation(rows), seed=seed)
    assert found.map is None and len(found.tried) == 2
    assert "shuffled" in found.reason and not any(tried.usable for tried in found.tried)


def test_too_few_pairs_give_no_map_and_that_is_said():
    source, rows = planted(count=LEAST - 1)
    found = fit(source, rows, seed=0)
    assert found.map is None and found.tried == () and f"only {LEAST - 1} words" in found.reason
    assert fit(source[:0], rows[:0], seed=0).map is None


def test_the_same_seed_gives_the_same_figures():
    source, rows = planted(count=80)
    assert quality(source, rows, "ridge", seed=3) == quality(source, rows, "ridge", seed=3)
    assert quality(source, rows, "ridge", seed=3) != quality(source, rows, "ridge", seed=4)
