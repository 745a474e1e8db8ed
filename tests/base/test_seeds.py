"""Keyed randomness: the same key gives the same numbers, another key independent ones."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bespoke import seeds

parts = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=12))
keys = st.lists(parts, min_size=1, max_size=5).map(tuple)


def test_known_answers():
    """Frozen: a change here changes every run that was ever recorded."""
    assert seeds.generator(0, "noise", 3, "ab12").bit_generator.random_raw(2).tolist() == [
        2207302875476054539,
        11219228272003764386,
    ]
    assert seeds.permutation(8, 7, "order", 0).tolist() == [3, 1, 6, 0, 4, 7, 2, 5]
    assert seeds.uniform("flip", 1) == 0.04636765629617745


def test_the_stream_is_philox_under_the_hash_of_the_key():
    content = b"".join(len(part).to_bytes(4, "little") + part for part in (b"snoise", b"i-3"))
    philox = np.random.Philox(key=int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little"))
    expected = np.random.Generator(philox).standard_normal(5, dtype=np.float32)
    np.testing.assert_array_equal(seeds.normal((5,), "noise", -3), expected)


@given(keys)
def test_the_same_key_gives_the_same_numbers_in_any_order_of_asking(key):
    first = seeds.normal((4,), *key)
    seeds.normal((9,), "something", "else")
    np.testing.assert_array_equal(seeds.normal((4,), *key), first)
    np.testing.assert_array_equal(seeds.normal((8,), *key)[:4], first)


@given(keys, st.integers(1, 5))
def test_what_is_drawn_is_what_a_fresh_generator_draws(key, count):
    """Whatever was drawn before, halves of words that are left over among it."""
    for before in range(2):
        seeds.normal((count + before,), "before")
        assert seeds.uniform(*key) == seeds.generator(*key).random()
        seeds.whole_number(7, "before")
        assert seeds.whole_number(1000, *key) == seeds.generator(*key).integers(1000)
        fresh = seeds.generator(*key).standard_normal((count,), dtype=np.float32)
        np.testing.assert_array_equal(seeds.normal((count,), *key), fresh)


@given(keys, keys)
def test_different_keys_give_different_numbers(one, other):
    same = [(type(p), p) for p in one] == [(type(p), p) for p in other]
    assert np.array_equal(seeds.normal((4,), *one), seeds.normal((4,), *other)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", 1), ("a1",)),
        (("a", 1), ("a", "1")),
        (("a", "b"), ("ab",)),
        (("a", "b"), ("b", "a")),
        (("ab", "c"), ("a", "bc")),
        ((1, 23), (12, 3)),
        ((1,), (-1,)),
        (("",), ("", "")),
        ((0,), ("i0",)),
        (("a\x00",), ("a",)),
    ],
)
def test_keys_that_look_alike_are_told_apart(one, other):
    assert not np.array_equal(seeds.normal((4,), *one), seeds.normal((4,), *other))


@given(st.integers(-(2**31), 2**31 - 1))
def test_numpy_numbers_are_the_same_key_as_pythons(number):
    for kind in (np.int32, np.int64):
        np.testing.assert_array_equal(seeds.normal((2,), "n", kind(number)), seeds.normal((2,), "n", number))


def test_a_key_is_not_a_fraction():
    with pytest.raises(Exception, match=r"float|1\.0"):
        seeds.generator("n", 1.0)  # pyright: ignore[reportArgumentType]


def test_numbers_are_standard_normal_within_a_key_and_across_keys():
    within = seeds.normal((100, 200), "within")
    across = np.array([seeds.normal((1,), "across", n)[0] for n in range(5000)])
    assert within.dtype == np.float32
    for sample in (within.ravel(), across):
        assert stats.kstest(sample, "norm").pvalue > 0.001


def test_streams_of_neighbouring_keys_are_uncorrelated():
    rows = np.stack([seeds.normal((1000,), "noise", n) for n in range(20)])
    correlations = np.corrcoef(rows)[np.triu_indices(20, 1)]
    # 190 correlations of standard deviation 1/sqrt(1000): beyond 4.5 of them about once in a thousand runs.
    assert np.abs(correlations).max() < 4.5 / np.sqrt(1000)


def test_uniform_numbers_are_uniform():
    numbers = [seeds.uniform("u", n) for n in range(5000)]
    assert stats.kstest(numbers, "uniform").pvalue > 0.001


def test_permutations_hold_every_number_and_every_order_is_as_likely():
    assert sorted(seeds.permutation(50, "p")) == list(range(50))
    orders = [tuple(seeds.permutation(3, "p", n).tolist()) for n in range(3000)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.001
