"""The limit of similarity: it tells what can be told apart, and says so where nothing can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from bespoke.text import calibrated, spoilt

COSINES = st.lists(st.integers(-100, 100).map(lambda n: n / 100), min_size=10, max_size=40)


@given(COSINES, COSINES, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_the_area_is_mann_whitneys_and_the_limit_keeps_what_was_asked(same, different, kept):
    found = calibrated(same, different, kept)
    oracle = mannwhitneyu(same, different).statistic / len(same) / len(different)
    assert found.area == pytest.approx(oracle)
    assert (found.value is None) == (found.area < 0.8)
    if found.value is not None:
        shares = [float(np.mean(np.array(part) >= found.value)) for part in (same, different)]
        assert [found.kept, found.let_through] == shares
        assert shares[0] >= kept - 1e-9
        assert np.mean(np.array(different) >= found.strict) <= 0.05
        higher = [value for value in same if value > found.value]
        assert not higher or np.mean(np.array(same) >= min(higher)) < kept + 1 / len(same)


def test_too_few_pairs_give_no_limit():
    assert calibrated([1.0] * 9, [0.0] * 50, 0.95).value is None


def test_spoilt_captions_differ_by_one_word_of_a_kind():
    captions = ["a red car on a road", "two dogs near a big tree", "an old boat"]
    pairs = spoilt(captions, 0)
    assert [before for before, _ in pairs] == captions
    for before, after in pairs:
        assert sum(a != b for a, b in zip(before.split(), after.split(), strict=True)) == 1
    assert spoilt(captions, 0) == pairs
    assert spoilt(captions, 1) != pairs
