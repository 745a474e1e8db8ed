"""Agreement of pictures and texts: torch's cosine, and what has no direction."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.evaluation import agreement

SEEDS = st.integers(0, 2**32 - 1)


def features(seed, count=12, width=6):
    return np.random.default_rng(seed).standard_normal((count, width))


@given(SEEDS)
def test_agreement_is_the_cosine_in_hundredths_and_never_below_nothing(seed):
    pictures, texts = features(seed), features(seed + 1)
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(pictures), torch.from_numpy(texts)).numpy()
    np.testing.assert_allclose(agreement(pictures, texts), np.maximum(100 * cosine, 0), atol=1e-10)


@given(SEEDS, st.floats(1e-3, 1e3))
def test_lengths_do_not_matter_and_the_same_direction_is_a_hundred(seed, scale):
    pictures = features(seed)
    np.testing.assert_allclose(agreement(pictures, scale * pictures), 100)
    np.testing.assert_array_equal(agreement(pictures, -pictures), 0)


def test_each_picture_is_compared_with_its_own_text():
    pictures, texts, order = features(1), features(2), np.random.default_rng(3).permutation(12)
    np.testing.assert_allclose(agreement(pictures[order], texts[order]), agreement(pictures, texts)[order])


def test_half_precision_does_not_overflow():
    large = np.full((2, 4), 3e4, np.float16)
    np.testing.assert_allclose(agreement(large, large), 100)


def replaced(row):
    pictures = features(1)
    pictures[3] = row
    return pictures


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (replaced(0.0), "1 of 12 .* zeros only"),
        (replaced(np.nan), "1 of 12"),
        (features(1, count=11), "11 pictures"),
        (features(1, width=5), "5 numbers"),
    ],
)
def test_what_has_no_direction_or_no_text_is_refused_with_a_hint(pictures, words):
    with pytest.raises(BespokeError, match=words) as raised:
        agreement(pictures, features(2))
    assert raised.value.hint


def test_a_text_without_direction_is_called_a_text():
    with pytest.raises(BespokeError, match="texts have features of zeros only"):
        agreement(features(1), np.zeros((12, 6)))
