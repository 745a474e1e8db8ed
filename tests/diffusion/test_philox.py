"""Noise made of keys by a device: numpy's very words, and normal numbers that no neighbour changes."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bespoke import seeds
from bespoke.diffusion.philox import keys_of, normals, words

word = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from((0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1)))
keys = st.lists(st.tuples(word, word), min_size=1, max_size=4)


def as_tensor(pairs):
    return torch.from_numpy(np.array(pairs, np.uint64).view(np.int64))


@given(keys, st.integers(1, 41))
def test_the_words_are_numpys(pairs, count):
    ours = words(as_tensor(pairs), count).numpy().view(np.uint64)
    theirs = [np.random.Philox(key=np.array(pair, np.uint64)).random_raw(count) for pair in pairs]
    np.testing.assert_array_equal(ours, np.stack(theirs).reshape(len(pairs), count))


def test_the_words_of_a_key_are_those_of_the_host():
    named = [("noise", 3, 5, "ab12", 0), ("posterior", 3, 5, "ab12", 1)]
    ours = words(keys_of(named), 1000).numpy().view(np.uint64)
    for row, key in zip(ours, named, strict=True):
        np.testing.assert_array_equal(row, seeds.generator(*key).bit_generator.random_raw(1000))


@given(st.integers(1, 6), st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
def test_no_neighbour_changes_a_picture_s_noise(count, shape):
    named = keys_of([("noise", number) for number in range(count)])
    whole = normals(named, shape)
    assert whole.shape == (count, *shape) and whole.dtype == torch.float32
    for number in range(count):
        assert torch.equal(normals(named[number : number + 1], shape)[0], whole[number])
    assert torch.equal(normals(named.flip(0), shape).flip(0), whole)


def test_they_are_standard_normal():
    """By Kolmogorov and Smirnov, by chi-square over equal parts and in the tails; many keys, and one."""
    many = normals(keys_of([("a", number) for number in range(4000)]), (4, 5, 5)).flatten().double().numpy()
    one = normals(keys_of([("b",)]), (400_000,)).flatten().double().numpy()
    for drawn in (many, one):
        assert stats.kstest(drawn, "norm").pvalue > 1e-3
        parts = np.bincount((stats.norm.cdf(drawn) * 1000).astype(int), minlength=1000)
        assert stats.chisquare(parts).pvalue > 1e-3
        for far in (3.0, 4.0):
            seen, wanted = (np.abs(drawn) > far).sum(), 2 * stats.norm.sf(far) * len(drawn)
            assert stats.poisson.sf(seen - 1, wanted) > 1e-3 and stats.poisson.cdf(seen, wanted) > 1e-3
        assert np.isfinite(drawn).all() and np.abs(drawn).max() < 6.8


def test_keys_pairs_and_neighbours_are_independent():
    """The two numbers of a word, words one after another, and keys that differ in one part."""
    drawn = normals(keys_of([("noise", number) for number in range(64)]), (2000,)).double().numpy()
    apart = np.corrcoef(drawn)[np.triu_indices(64, 1)]
    assert stats.kstest(apart * 2000**0.5, "norm").pvalue > 1e-3
    for power in (1, 2):  # squares too: a radius that both numbers of a pair share must not show
        for lag in (1, 2, 4, 8):
            left, right = drawn[:, :-lag].ravel() ** power, drawn[:, lag:].ravel() ** power
            assert stats.pearsonr(left, right).pvalue > 1e-4, (power, lag)
    other = normals(keys_of([("posterior", number) for number in range(64)]), (2000,)).double().numpy()
    assert stats.pearsonr(drawn.ravel(), other.ravel()).pvalue > 1e-3


def test_the_extremes_of_a_word_are_numbers():
    """A radius of nothing where the upper half is full, the longest where it is empty: no infinity, no NaN."""
    halves = torch.tensor([0, 1, 2**32 - 1])
    part = (halves.float() + 0.5) * 2.0**-32
    radius = (-2 * part.log()).sqrt()
    assert radius.isfinite().all() and float(radius.max()) < 6.8 and float(radius.min()) == 0.0
