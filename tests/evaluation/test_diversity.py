"""Vendi and Inception Scores: against their definitions, torchmetrics and known sets; intervals by simulation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image.inception import InceptionScore

from bespoke.errors import BespokeError
from bespoke.evaluation.diversity import inception_score, vendi, vendi_left_out
from bespoke.evaluation.significance import blocks, jackknife

SEEDS = st.integers(0, 2**32 - 1)


def gaussian(seed, count, width=4, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, width)) + shift


def posteriors(seed, count, classes=6, sharpness=2.0):
    raw = np.exp(sharpness * gaussian(seed, count, classes))
    return raw / raw.sum(axis=1, keepdims=True)


@given(SEEDS, st.sampled_from([(8, 3), (4, 12), (1, 2)]))
def test_vendi_is_the_exponential_entropy_of_the_eigenvalues_of_cosines(seed, size):
    x = gaussian(seed, *size)
    rows = torch.from_numpy(x)
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2)
    values = np.linalg.eigvalsh(cosines.numpy() / len(x))
    values = values[values > 1e-12]
    assert vendi(x) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-8)


def test_as_many_kinds_as_there_are_at_right_angles():
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.repeat(np.eye(3), [5, 5, 5], axis=0)) == pytest.approx(3)
    assert vendi(np.tile([1.0, 2.0], (9, 1))) == pytest.approx(1)


@given(SEEDS, st.floats(1e-3, 1e3))
def test_length_order_and_repeats_do_not_matter(seed, scale):
    x, rng = gaussian(seed, 9), np.random.default_rng(seed)
    for other in (rng.permutation(x), scale * x, np.repeat(x, 3, axis=0)):
        assert vendi(other) == pytest.approx(vendi(x))


def test_more_alike_is_fewer_kinds():
    x = gaussian(1, 50, 20)
    found = [vendi(x + shift) for shift in (0, 1, 3, 10)]
    assert found == sorted(found, reverse=True) and found[-1] < 1.2


@pytest.mark.parametrize(("count", "width"), [(30, 4), (12, 40)])
def test_leaving_blocks_out_is_the_score_of_what_is_left(count, width):
    x, of_x = gaussian(1, count, width), blocks(count, most=6)
    found = vendi_left_out(x, of_x)
    assert found.value == vendi(x)
    np.testing.assert_allclose(found.samples[0], [vendi(x[of_x != b]) for b in range(6)], rtol=1e-8)


def test_vendi_intervals_hold_the_mean_as_often_as_they_say():
    sets = [gaussian(seed, 40, 10) for seed in range(60)]
    truth = np.mean([vendi(x) for x in sets])
    hits = [low <= truth <= high for low, high in (jackknife(vendi_left_out(x, blocks(40))) for x in sets)]
    assert np.mean(hits) >= 0.9


def test_the_inception_score_is_that_of_torchmetrics():
    logits = gaussian(1, 40, 6)
    with pytest.warns(UserWarning, match="buffer"):
        score = InceptionScore(feature=torch.nn.Identity(), splits=1)
    score.update(torch.from_numpy(logits))
    with pytest.warns(UserWarning, match="degrees of freedom"):
        expected = float(score.compute()[0])
    found = inception_score(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    assert found.value == pytest.approx(expected, rel=1e-6)


def test_known_scores():
    assert inception_score(np.full((10, 4), 0.25)).value == pytest.approx(1)
    assert inception_score(np.tile(np.eye(5), (3, 1))).value == pytest.approx(5)
    assert inception_score(np.tile(np.eye(5)[:1], (9, 1))).value == pytest.approx(1)


def test_score_intervals_hold_the_mean_also_over_prompts():
    """Three pictures of a prompt that are named alike count as one."""
    groups = np.repeat(np.arange(30), 3)
    sets = [np.repeat(posteriors(seed, 30), 3, axis=0) for seed in range(60)]
    truth = np.mean([inception_score(s, groups).value for s in sets])
    found = [inception_score(s, groups) for s in sets]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.88
    single = [inception_score(s) for s in sets]
    assert np.mean([one.high - one.low for one in single]) < 0.75 * np.mean([one.high - one.low for one in found])


def test_few_pictures_are_said_to_mean_little():
    assert "means little below 5000 pictures and rests on 40" in inception_score(posteriors(1, 40)).note
    assert inception_score(posteriors(1, 5000)).note == ""
    two = inception_score(posteriors(1, 2))
    assert (two.low, two.high) == (1, np.inf)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (posteriors(1, 1), "at least 2"),
        (np.log(posteriors(1, 4)), "do not add up"),
        (posteriors(1, 4) * 1.1, "4 of 4"),
        (np.full((3, 2), np.nan), "no finite numbers"),
    ],
)
def test_what_is_no_distribution_is_refused_with_a_hint(given, words):
    with pytest.raises(BespokeError, match=words) as raised:
        inception_score(given)
    assert raised.value.hint


def test_nothing_has_no_variety():
    with pytest.raises(BespokeError, match="no pictures"):
        vendi(np.zeros((0, 4)))
    with pytest.raises(BespokeError, match="zeros only"):
        vendi(np.zeros((2, 4)))
