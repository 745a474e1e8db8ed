"""Words that stand together more often than chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bespoke.text.phrases import ratio, suggested


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 500))
def test_the_ratio_is_scipys(both, rest_first, rest_second, neither):
    table = np.array([[both, rest_first], [rest_second, neither]])
    found = ratio(both, both + rest_first, both + rest_second, int(table.sum()))
    if both * neither <= rest_first * rest_second:
        assert found == 0
        return
    if rest_first + neither and rest_second + neither:
        expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        assert found == pytest.approx(expected, abs=1e-6)


def test_phrases_are_found_and_joined():
    things = ("bicycle", "chair", "boat", "racket", "bow", "guitar", "spoon", "mast")
    captions = [f"a carbon fiber {thing} on the red ground" for thing in things]
    captions += [f"the {thing} of a {colour} stone" for thing in things for colour in ("red", "grey", "black")]
    captions += [f"an art deco floor lamp beside the {thing}" for thing in things]
    found = {phrase.words: phrase for phrase in suggested(captions)}
    assert {"carbon fiber", "art deco", "art deco floor lamp"} <= set(found)
    assert found["carbon fiber"].captions == len(things)
    assert not any(phrase.split()[0] in {"a", "the", "of"} or phrase.split()[-1] in {"a", "the"} for phrase in found)
    assert len(suggested(captions, 1)) == 1


def test_chance_suggests_nothing():
    draw = np.random.default_rng(0)
    captions = [" ".join(draw.choice(["fox", "owl", "bee", "cow", "pig", "cat"], 5)) for _ in range(200)]
    assert suggested(captions) == []
    assert suggested([]) == []
    assert suggested(["fox, owl", "fox, owl", "fox, owl", "bee"] * 5) == []
