"""Copying: against brute force and scipy, by generators that copy and that do not, and by how often intervals hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from bespoke.errors import BespokeError
from bespoke.evaluation import memorisation as module
from bespoke.evaluation.memorisation import authenticity, copies, copying_z, memorisation

SEEDS = st.integers(0, 2**32 - 1)


def gaussian(seed, count, width=16):
    return np.random.default_rng(seed).standard_normal((count, width))


def copied(training, seed, count, blur=0.01):
    rng = np.random.default_rng(seed)
    return training[rng.integers(0, len(training), count)] + blur * rng.standard_normal((count, training.shape[1]))


def sets(seed=0, tuned=None, training=200, held_out=400, count=200):
    known = gaussian(seed + 1, training)
    return {
        "training": known,
        "held_out": gaussian(seed + 2, held_out),
        "base": gaussian(seed + 3, count),
        "tuned": gaussian(seed + 4, count) if tuned is None else tuned(known),
    }


def test_a_model_that_copies_is_caught_by_every_figure():
    found = memorisation(**sets(tuned=lambda training: copied(training, 9, 200)))
    assert found.copies.tuned.value == 1 and found.copies.tuned.low > 0.97
    assert found.copies.base.value < 0.05
    assert found.copies.change.low > 0.9
    assert found.authenticity.value == 0 and found.authenticity.high < 0.03
    assert found.copying_z.high < -10
    assert abs(found.base_copying_z.value) < 3


def test_a_model_that_draws_afresh_is_as_held_out_pictures_are():
    found = [memorisation(**sets(10 * seed), seed=seed) for seed in range(12)]
    rates = [one.copies.tuned.value for one in found]
    assert found[0].copies.chance == 4 / 401
    assert np.mean(rates) == pytest.approx(0.01, abs=0.01)
    assert np.mean([one.copying_z.value for one in found]) == pytest.approx(0, abs=0.7)
    assert np.std([one.copying_z.value for one in found]) == pytest.approx(1, abs=0.5)
    gap = np.mean([one.authenticity.value - one.held_out_authenticity.value for one in found])
    assert gap == pytest.approx(0, abs=0.03)
    assert all(one.copies.change.low < 0 < one.copies.change.high for one in found)


def test_of_a_model_that_copies_half_the_time_half_is_copied():
    def half(training):
        return np.concatenate([copied(training, 9, 100), gaussian(8, 100)])

    found = copies(**sets(tuned=half))
    assert found.tuned.value == pytest.approx(0.505, abs=0.02)
    assert found.tuned.low < 0.5 < found.tuned.high
    assert {one.picture for one in found.suspects} >= set(range(100))


def test_pairs_are_those_of_brute_force_the_most_alike_first():
    given_sets = sets(tuned=lambda training: np.concatenate([copied(training, 9, 20, 0.3), gaussian(8, 30)]), count=50)
    found = copies(**given_sets)
    cosines = 1 - cdist(given_sets["tuned"], given_sets["training"], "cosine")
    alike = [one.similarity for one in found.nearest]
    assert alike == sorted(alike, reverse=True) and len(alike) == 50
    for one in found.nearest:
        assert one.training == cosines[one.picture].argmax()
        assert one.similarity == pytest.approx(cosines[one.picture].max(), abs=1e-12)
    beyond = np.flatnonzero(cosines.max(axis=1) > found.threshold)
    assert sorted(one.picture for one in found.suspects) == beyond.tolist()
    assert found.tuned.value == len(beyond) / 50


def test_the_threshold_is_the_percentile_of_what_was_held_out():
    given_sets = sets(held_out=999)
    found = copies(**given_sets)
    alike = (1 - cdist(given_sets["held_out"], given_sets["training"], "cosine")).max(axis=1)
    assert found.threshold == pytest.approx(np.sort(alike)[-10], abs=1e-12)
    assert found.chance == 0.01 and found.note == ""
    assert 0.01 < found.chance_high < 0.02


@pytest.mark.parametrize(("held_out", "chance", "loud"), [(20, 1 / 21, True), (98, 1 / 99, True), (99, 0.01, False)])
def test_few_held_out_pictures_give_the_largest_and_say_so(held_out, chance, loud):
    given_sets = sets(held_out=held_out)
    found = copies(**given_sets)
    alike = (1 - cdist(given_sets["held_out"], given_sets["training"], "cosine")).max()
    assert found.threshold == pytest.approx(alike, abs=1e-12)
    assert found.chance == pytest.approx(chance)
    assert (f"only {held_out} held-out" in found.note) == loud


def test_fresh_pictures_pass_the_threshold_as_seldom_as_it_says():
    """Also where only nine pictures were held out."""
    rates = []
    for seed in range(100):
        fresh = sets(10 * seed, training=40, held_out=9, count=100)
        rates.append(copies(**fresh).tuned.value)
    error = np.std(rates) / len(rates) ** 0.5
    assert abs(np.mean(rates) - 0.1) < 4 * error < 0.05


def test_held_out_copies_of_training_pictures_do_not_raise_the_threshold():
    clean = sets(tuned=lambda training: copied(training, 9, 200, 0.1))
    spoilt = clean | {"held_out": np.concatenate([clean["held_out"], copied(clean["training"], 7, 40)])}
    found, expected = copies(**spoilt), copies(**clean)
    assert found.doubtful == tuple(range(400, 440))
    assert "40 held-out pictures look like copies" in found.note
    assert (found.threshold, found.tuned.value) == (expected.threshold, 1)


def test_held_out_pictures_that_are_mostly_copies_are_refused():
    spoilt = sets()
    spoilt["held_out"] = spoilt["training"]
    with pytest.raises(BespokeError, match="More than half") as raised:
        copies(**spoilt)
    assert raised.value.hint


def test_by_distance_lengths_count_and_by_cosine_they_do_not():
    given_sets = sets(tuned=lambda training: 3 * training)
    assert copies(**given_sets).tuned.value == 1
    found = copies(**given_sets, measure="euclidean")
    assert found.tuned.value == 0
    distances = cdist(given_sets["tuned"], given_sets["training"])
    assert found.nearest[0].similarity == pytest.approx(-distances.min(), abs=1e-9)
    given_sets = sets()
    scaled = {name: features * np.linspace(0.1, 9, len(features))[:, None] for name, features in given_sets.items()}
    one, other = memorisation(**given_sets), memorisation(**scaled)
    assert (one.copies.tuned, one.authenticity) == (other.copies.tuned, other.authenticity)
    assert other.copying_z.value == pytest.approx(one.copying_z.value, abs=1e-9)


def brute_authenticity(pictures, training):
    among = cdist(training, training)
    np.fill_diagonal(among, np.inf)
    far = cdist(pictures, training)
    return np.mean([far[row].min() > among[far[row].argmin()].min() for row in range(len(pictures))])


@given(SEEDS)
@settings(max_examples=20)
def test_authenticity_is_that_of_brute_force(seed):
    pictures, training = copied(gaussian(seed, 30, 3), seed + 1, 25, 0.4), gaussian(seed, 30, 3)
    assert authenticity(pictures, training).value == brute_authenticity(pictures, training)


def test_an_exact_copy_is_not_authentic_even_of_a_picture_that_comes_twice():
    training = np.repeat(gaussian(1, 10) + 1e6, 2, axis=0)
    assert authenticity(training[:5], training).value == 0
    assert authenticity(training[:5] + 1e-3, training).value == 1


def test_distances_are_the_same_however_few_are_in_memory(monkeypatch):
    given_sets = sets()
    whole = memorisation(**given_sets)
    monkeypatch.setattr(module, "PAIRS", 700)
    assert memorisation(**given_sets) == whole


def scipy_z(of_pictures, fresh):
    """From the two-sided p of the normal approximation and the side on which U lies."""
    found = stats.mannwhitneyu(of_pictures, fresh, use_continuity=False, method="asymptotic")
    sign = np.sign(found.statistic - len(of_pictures) * len(fresh) / 2)
    return sign * stats.norm.isf(found.pvalue / 2)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_copying_z_is_that_of_scipy(shift):
    pictures, training, held_out = gaussian(1, 40) * (1 + shift), gaussian(2, 60), gaussian(3, 50)
    distances = [cdist(some, training).min(axis=1) for some in (pictures, held_out)]
    assert copying_z(pictures, training, held_out).value == pytest.approx(scipy_z(*distances), rel=1e-6)


def test_ties_count_as_scipy_counts_them():
    training = np.array([[0.0, 0.0], [10.0, 0.0]])
    pictures, held_out = (np.array([[x, 0.0] for x in some]) for some in ([1, 2, 2, 3.0], [2, 3, 4, 4, 1.0]))
    distances = [cdist(some, training).min(axis=1) for some in (pictures, held_out)]
    assert copying_z(pictures, training, held_out).value == pytest.approx(scipy_z(*distances), rel=1e-9)
    assert copying_z(training, training, training).value == 0


def test_wide_features_are_compared_along_the_axes_of_training():
    rng = np.random.default_rng(1)
    training = rng.standard_normal((300, 100)) * np.r_[np.full(64, 5.0), np.full(36, 0.1)]
    pictures, held_out = (
        training[:50].copy(),
        rng.standard_normal((60, 100)) * np.r_[np.full(64, 5.0), np.full(36, 0.1)],
    )
    noisy = pictures.copy()
    noisy[:, 64:] += 50 * rng.standard_normal((50, 36))
    assert copying_z(noisy, training, held_out).value < -8


def test_the_copying_z_moves_as_more_is_copied():
    training, fresh = gaussian(1, 200), gaussian(2, 200)
    found = [
        copying_z(np.concatenate([copied(training, 3, count), gaussian(4, 200)[count:]]), training, fresh).value
        for count in (0, 50, 100, 150, 200)
    ]
    assert found == sorted(found, reverse=True)
    assert copying_z(gaussian(5, 200) + 2, training, fresh).low > 3


def test_intervals_of_the_copying_z_hold_the_truth_as_often_as_they_say():
    hits = [
        one.low <= 0 <= one.high
        for one in (
            copying_z(gaussian(seed, 40), gaussian(9999, 60), gaussian(seed + 500, 40), draws=300, seed=seed)
            for seed in range(150)
        )
    ]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_the_interval_of_a_rate_is_wilsons():
    given_sets = sets(tuned=lambda training: np.concatenate([copied(training, 9, 37), gaussian(8, 163)]))
    found = copies(**given_sets)
    expected = stats.binomtest(round(200 * found.tuned.value), 200).proportion_ci(method="wilson")
    assert (found.tuned.low, found.tuned.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert copies(**given_sets, level=0.5).tuned.low > found.tuned.low


def test_groups_reach_every_figure():
    given_sets = sets(tuned=lambda training: np.repeat(copied(training, 9, 50, 0.8), 4, axis=0))
    groups = np.repeat(np.arange(50), 4)
    alone, grouped = memorisation(**given_sets), memorisation(**given_sets, groups=groups)
    for name in ("authenticity", "copying_z"):
        one, other = getattr(alone, name), getattr(grouped, name)
        assert one.value == other.value
        assert other.high - other.low > 1.3 * (one.high - one.low)
    assert grouped.copies.tuned.high - grouped.copies.tuned.low > alone.copies.tuned.high - alone.copies.tuned.low


def test_the_order_of_pictures_changes_nothing_but_their_rows():
    given_sets = sets(tuned=lambda training: copied(training, 9, 60, 0.5), count=60)
    order = np.random.default_rng(0).permutation(60)
    one, other = copies(**given_sets), copies(**given_sets | {"tuned": given_sets["tuned"][order]})
    assert one.tuned == other.tuned
    assert [(n.picture, n.training) for n in one.nearest] == [(order[n.picture], n.training) for n in other.nearest]


def broken(features):
    features = features.copy()
    features[2, 1] = np.nan
    return features


@pytest.mark.parametrize("name", ["tuned", "base", "training", "held_out"])
@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda x: x[:1], "There are 1"), (broken, "1 of"), (lambda x: x[:, :5], "5 numbers|features of 5")],
    ids=["one", "nan", "narrow"],
)
def test_what_cannot_be_measured_is_refused_with_a_hint(name, change, words):
    given_sets = sets(count=20, training=20, held_out=20)
    with pytest.raises(BespokeError, match=words) as raised:
        memorisation(**given_sets | {name: change(given_sets[name])})
    assert raised.value.hint
