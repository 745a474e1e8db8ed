"""Training captions told from unseen ones: by scipy, by models that redraw, by how often intervals hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bespoke.errors import BespokeError
from bespoke.evaluation.membership import Asked, membership, superiority

SEEDS = st.integers(0, 2**32 - 1)
TRIES = 3


def asked(seed, captions, *, learnt=0.0, said=0.6, width=32):
    """Pictures of captions that say `said` of their picture, by a model that mixes `learnt` of the very picture in."""
    rng = np.random.default_rng(seed)
    own, of = rng.standard_normal((captions, width)), np.repeat(np.arange(captions), TRIES)
    drawn = said * own[of] + (1 - said) * rng.standard_normal((len(of), width))
    return Asked(learnt * own[of] + (1 - learnt) * drawn, of, own, np.arange(captions))


def test_a_model_that_redraws_is_told_from_one_whose_captions_merely_say_much():
    fresh = asked(1, 60, said=0.6)
    copier = membership(asked(2, 24, learnt=0.7, said=0.6), fresh)
    assert copier.auc.value > 0.95 and copier.auc.low > 0.85
    honest = membership(asked(3, 24, said=0.6), fresh)
    assert honest.auc.low < 0.5 < honest.auc.high < 0.75
    assert copier.nearest[0].similarity > copier.most > copier.usual
    assert "24 training captions and 60" in copier.auc.note


def test_captions_that_say_little_do_not_hide_a_copier():
    """By likeness alone it is no nearer than an honest model whose captions say much."""
    found = membership(asked(1, 24, learnt=0.4, said=0.2), asked(2, 60, said=0.2))
    assert found.auc.low > 0.75


def test_over_many_models_that_learnt_nothing_by_heart_it_is_even_and_its_interval_holds():
    found = [membership(asked(2 * seed, 12), asked(2 * seed + 1, 30)).auc for seed in range(200)]
    assert np.mean([one.value for one in found]) == pytest.approx(0.5, abs=0.02)
    assert 0.92 <= np.mean([one.low <= 0.5 <= one.high for one in found]) <= 0.99


@given(SEEDS, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_superiority_is_mann_whitneys(seed, one, other, ties):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(one), rng.standard_normal(other)
    x, y = (np.round(x), np.round(y)) if ties else (x, y)
    value, low, high = superiority(x, y)
    assert value == pytest.approx(stats.mannwhitneyu(x, y).statistic / (one * other), abs=1e-12)
    assert 0 <= low <= value <= high <= 1
    assert superiority(y, x) == pytest.approx((1 - value, 1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("true", [0.5, 0.8, 0.97])
def test_the_interval_holds_the_truth_as_often_as_it_says(true):
    shift, hits = 2**0.5 * stats.norm.ppf(true), []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        _, low, high = superiority(shift + rng.standard_normal(8), rng.standard_normal(40))
        hits.append(low <= true <= high)
    assert 0.92 <= np.mean(hits) <= 0.985


def test_few_that_are_all_larger_leave_room_for_chance():
    value, low, high = superiority(np.arange(5) + 100.0, np.arange(40.0))
    assert (value, high) == (1.0, 1.0) and 0.7 < low < 0.95


@settings(max_examples=25)
@given(SEEDS)
def test_the_order_of_pictures_and_captions_changes_nothing(seed):
    rng, training, fresh = np.random.default_rng(seed), asked(seed, 8), asked(seed + 1, 14)
    rows, captions = rng.permutation(len(training.of)), rng.permutation(8)
    mixed = Asked(training.drawn[rows], captions[training.of[rows]], training.own, captions[training.said])
    one, other = membership(training, fresh), membership(mixed, fresh)
    assert one.auc == other.auc
    assert [n.similarity for n in one.nearest] == [n.similarity for n in other.nearest]
    assert [rows[n.picture] for n in other.nearest] == [n.picture for n in one.nearest]


def test_a_caption_of_several_pictures_counts_by_the_one_that_is_most_alike():
    training = asked(1, 12, learnt=0.9)
    rng = np.random.default_rng(5)
    more = replace(
        training,
        own=np.concatenate([rng.standard_normal((12, 32)), training.own]),
        said=np.concatenate([training.said, training.said]),
    )
    one, other = (membership(part, asked(2, 30)) for part in (training, more))
    assert [n.training + 12 for n in one.nearest] == [n.training for n in other.nearest]
    assert one.auc.value == other.auc.value


def test_too_few_captions_of_unseen_pictures_are_refused():
    with pytest.raises(BespokeError, match="9 captions of pictures that were held back"):
        membership(asked(1, 24), asked(2, 9))
