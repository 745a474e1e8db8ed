"""Precision, recall, density and coverage: against definitions read pair by pair, known sets, and by laws."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.evaluation import manifold
from bespoke.evaluation.manifold import (
    coverage,
    coverage_left_out,
    density,
    density_left_out,
    precision,
    precision_left_out,
    recall,
    recall_left_out,
)
from bespoke.evaluation.significance import blocks

SEEDS = st.integers(0, 2**32 - 1)
MEASURES = (precision, recall, density, coverage)
LEFT_OUT = (precision_left_out, recall_left_out, density_left_out, coverage_left_out)


def gaussian(seed, count, width=4, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, width)) + shift


def radius(s, i, k):
    return sorted(np.linalg.norm(s[i] - other) for j, other in enumerate(s) if j != i)[k - 1]


def defined(x, y, k):
    """The four figures, each as its paper writes it; a ball holds its edge."""
    balls_x, balls_y = ([radius(s, i, k) for i in range(len(s))] for s in (x, y))
    held_by_y = np.array([[np.linalg.norm(a - b) <= r for b, r in zip(y, balls_y, strict=True)] for a in x])
    held_by_x = np.array([[np.linalg.norm(a - b) <= r for b, r in zip(x, balls_x, strict=True)] for a in y])
    return (
        held_by_y.any(axis=1).mean(),
        held_by_x.any(axis=1).mean(),
        held_by_y.sum() / k / len(x),
        held_by_y.any(axis=0).mean(),
    )


@pytest.mark.parametrize(("count", "other", "k"), [(12, 9, 5), (7, 20, 3), (30, 30, 1)])
def test_figures_are_as_their_papers_define_them(count, other, k):
    x, y = gaussian(1, count, shift=0.8), gaussian(2, other)
    expected = defined(x, y, k)
    assert len(set(expected)) == 4 or k > 1
    assert [measure(x, y, k=k) for measure in MEASURES] == pytest.approx(expected)


def test_five_neighbours_are_counted_without_the_picture_itself():
    """On a line at whole numbers, the fifth neighbour of the first of them is five away."""
    line = np.arange(11.0)[:, None]
    assert coverage(np.array([[-5.0], [-5.0]]), line) == 1 / 11
    assert coverage(np.array([[-5.001], [-5.001]]), line) == 0


def test_the_edge_is_within():
    """Both pictures lie exactly where the balls end."""
    reference, pictures = np.array([[0.0], [1.0]]), np.array([[2.0], [-1.0]])
    assert [measure(pictures, reference) for measure in MEASURES] == [1, 1, 0.5 * 2, 1]
    assert precision(pictures * 1.0001, reference) == 0


def test_a_neighbour_lies_on_the_edge_however_its_distance_was_computed():
    """The references' own pictures: each lies in its own ball and in those that it is among the five nearest of."""
    for seed in range(20):
        reference = gaussian(seed, 90, 64, 3.0)
        apart = np.linalg.norm(reference[:, None] - reference, axis=2)
        held = np.argsort(np.argsort(apart, axis=1), axis=1) <= 5
        assert density(reference[:7], reference) == pytest.approx(held[:, :7].sum() / 5 / 7)


@given(SEEDS, st.integers(1, 12))
@settings(max_examples=40)
def test_a_set_holds_itself(seed, k):
    x = gaussian(seed, 10)
    assert [measure(x, x, k=k) for measure in (precision, recall, coverage)] == [1, 1, 1]
    assert density(x, x, k=k) == pytest.approx((min(k, 9) + 1) / min(k, 9))


def test_copies_of_one_picture_hold_it_though_their_balls_are_points():
    """Rounding must not move a copy off a ball without size."""
    copies = np.repeat(gaussian(1, 1, 64) * 1e3, 8, axis=0)
    assert [measure(copies, copies[:7]) for measure in (precision, recall, coverage)] == [1, 1, 1]
    assert precision(copies + 1e-3, copies) == 0


def test_equal_distributions_are_dense_by_one():
    x, y = gaussian(1, 1500, 3), gaussian(2, 1500, 3)
    assert density(x, y) == pytest.approx(1, abs=0.05)
    # Naeem et al. 2020, lemma 2: 1 − (M − 1)…(M − k)/((2M − 1)…(2M − k)), near 1 − 2⁻ᵏ.
    assert coverage(x, y) == pytest.approx(1 - 2**-5, abs=0.015)


def test_half_of_what_there_is_covers_half():
    """Four groups of references far apart, two of which the model draws."""
    rng = np.random.default_rng(1)
    places = np.repeat(np.eye(4) * 100, 50, axis=0)
    reference, pictures = places + rng.standard_normal((200, 4)), (places + rng.standard_normal((200, 4)))[:100]
    assert coverage(pictures, reference) == pytest.approx(0.5, abs=0.03)
    assert recall(pictures, reference) < 0.52 and precision(pictures, reference) > 0.9
    whole = places + rng.standard_normal((200, 4))
    assert coverage(whole, reference) > 0.9 and recall(whole, reference) > 0.9


def test_more_noise_is_less_precise_and_covers_less():
    x, y, noise = gaussian(1, 150), gaussian(2, 150), gaussian(3, 150)
    for measure in (precision, density, coverage):
        found = [measure(x + strength * noise, y) for strength in (0, 2, 5, 20)]
        assert found == sorted(found, reverse=True) and found[0] > found[-1] + 0.3


@given(SEEDS)
@settings(max_examples=20)
def test_order_and_place_do_not_matter(seed):
    x, y, rng = gaussian(seed, 12, shift=0.5), gaussian(seed + 1, 15), np.random.default_rng(seed)
    for measure in MEASURES:
        assert measure(rng.permutation(x), rng.permutation(y)) == pytest.approx(measure(x, y))
        assert measure(3 * x + 100, 3 * y + 100) == pytest.approx(measure(x, y))


@pytest.mark.parametrize(("count", "other", "k"), [(30, 23, 5), (9, 7, 5), (60, 9, 3)])
@pytest.mark.parametrize(("measure", "left_out"), list(zip(MEASURES, LEFT_OUT, strict=True)))
def test_leaving_blocks_out_is_the_figure_of_what_is_left(measure, left_out, count, other, k, monkeypatch):
    """Also where distances are had in parts of a few rows."""
    monkeypatch.setattr(manifold, "PART", 100)
    x, y = gaussian(1, count, shift=0.7), gaussian(2, other)
    of_x, of_y = blocks(count, most=8), blocks(other, np.arange(other) // 2)
    found = left_out(x, y, of_x, of_y, k=k)
    assert found.value == pytest.approx(measure(x, y, k=k))
    np.testing.assert_allclose(found.samples[0], [measure(x[of_x != b], y, k=k) for b in range(of_x.max() + 1)])
    np.testing.assert_allclose(found.samples[1], [measure(x, y[of_y != b], k=k) for b in range(of_y.max() + 1)])


def test_memory_is_flat(monkeypatch):
    """All distances at once would take 8 · 1500² = 18 MB, a part of them 0.8 MB."""
    monkeypatch.setattr(manifold, "PART", 100_000)
    x, y = gaussian(1, 1500, 2), gaussian(2, 1500, 2)
    for left_out in LEFT_OUT:
        tracemalloc.start()
        left_out(x, y, blocks(1500), blocks(1500))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6e6


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("x", "words"), [(np.ones((1, 4)), "one has 1"), (np.ones((5, 3)), "numbers cannot be")])
def test_what_cannot_be_compared_is_refused(measure, x, words):
    with pytest.raises(BespokeError, match=words):
        measure(x, gaussian(1, 5))
