"""The table of distances: that each row is what it says, by the same laws for all; intervals and ps by simulation."""

from dataclasses import replace

import numpy as np
import pytest

from bespoke.errors import BespokeError
from bespoke.evaluation.distances import CMMD_CLIP, DISTANCES, ByJackknife
from bespoke.evaluation.diversity import vendi
from bespoke.evaluation.frechet import frechet
from bespoke.evaluation.kernels import CMMD, CMMD_UNBIASED, kid, kid_gain_interval, kid_interval, multi_bandwidth
from bespoke.evaluation.manifold import coverage, density, precision, recall
from bespoke.evaluation.significance import LeftOut
from bespoke.evaluation.sliced import mind

TABLE = {distance.name: distance for distance in DISTANCES}
VALUES = {
    "kid": kid,
    "fid": frechet,
    "cmmd": CMMD.between,
    "cmmd_unbiased": CMMD_UNBIASED.between,
    "mmd": lambda x, y: multi_bandwidth(y, x).between(x, y),
    "mind": mind,
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
    "vendi": lambda x, _y: vendi(x),
}
SLOW = ("mind",)
"""Tried by its own tests where many are drawn."""
every = pytest.mark.parametrize("distance", DISTANCES, ids=list(TABLE))


def gaussian(seed, count=40, width=4, shift=0.0, spread=1.0):
    return np.random.default_rng(seed).standard_normal((count, width)) * spread + shift


def test_the_table_holds_what_was_asked_for_in_words_for_people():
    assert list(TABLE) == list(VALUES)
    assert {name for name, distance in TABLE.items() if distance.better == "higher"} == {
        "precision",
        "recall",
        "density",
        "coverage",
    }
    assert TABLE["vendi"].better == "nearer"
    for distance in DISTANCES:
        assert distance.explanation.endswith(".") and distance.explanation.count(".") == 1


@every
def test_no_figure_has_a_published_name_on_features_that_are_not_the_published_ones(distance):
    label = distance.label("pico-CLIP")
    assert label.endswith(" on pico-CLIP features") and "FID" not in label
    for impostor in ("Inception v3", "FID", "FID's Inceptions", ""):
        assert distance.label(impostor).endswith(f" on {impostor} features")


def test_published_names_are_for_who_declares_itself_to_have_the_published_features():
    assert TABLE["fid"].label("Inception v3", is_fid=True) == "FID"
    assert TABLE["fid"].label("pico-CLIP") == "Fréchet distance on pico-CLIP features"
    assert TABLE["kid"].label("Inception v3", is_fid=True) == "KID"
    assert TABLE["cmmd"].label(CMMD_CLIP) == "CMMD"
    assert TABLE["cmmd"].label("Inception v3", is_fid=True) == "Biased CMMD on Inception v3 features"
    assert TABLE["precision"].label("Inception v3", is_fid=True) == "Precision on Inception v3 features"


@every
def test_a_figure_is_what_its_name_says_and_lies_in_its_interval(distance):
    x, y = gaussian(1, shift=0.7), gaussian(2)
    found = distance.of(x, y)
    assert found.value == pytest.approx(VALUES[distance.name](x, y))
    assert found.low <= found.value <= found.high and 0 < found.high - found.low < np.inf
    assert found.target == (pytest.approx(vendi(y)) if distance.name == "vendi" else None)


def test_the_kernel_distance_has_the_intervals_it_always_had():
    base, tuned, y = gaussian(1, shift=1.0), gaussian(3, shift=0.5), gaussian(2)
    found, change = TABLE["kid"].of(base, y, seed=3), TABLE["kid"].change(base, tuned, y, seed=3)
    assert (found.low, found.high) == kid_interval(base, y, seed=3)
    assert change.ratio == kid_gain_interval(base, tuned, y, seed=3)


@every
def test_the_seed_alone_decides_the_interval(distance):
    x, y = gaussian(1, shift=0.7), gaussian(2, 30)
    np.random.default_rng().random()
    assert distance.of(x, y, seed=1) == distance.of(x, y, seed=1) != distance.of(x, y, seed=2)


@every
def test_a_comparison_holds_both_figures_and_the_change_between_them(distance):
    base, tuned, y, groups = gaussian(1, shift=0.7), gaussian(3, shift=0.3), gaussian(2, 30), np.arange(40) // 2
    found = distance.comparison(base, tuned, y, groups, 5)
    assert found.base == distance.of(base, y, groups, 5)
    if distance.name == "mmd":
        assert found.tuned.value == pytest.approx(multi_bandwidth(y, base).between(tuned, y))
    else:
        assert found.tuned == distance.of(tuned, y, groups, 5)
    assert found.change == distance.change(base, tuned, y, groups, 5)
    assert found.change.difference == pytest.approx(found.tuned.value - found.base.value)
    assert found.change.ratio[0] == pytest.approx(found.tuned.value / found.base.value)
    assert found.change.low <= found.change.difference <= found.change.high
    assert 0 < found.change.p <= 1


@every
def test_an_unchanged_model_has_not_changed_at_all(distance):
    x, y = gaussian(1, shift=0.7), gaussian(2)
    found = distance.comparison(x, x.copy(), y)
    assert (found.change.difference, found.change.low, found.change.high, found.change.p) == (0, 0, 0, 1)
    assert found.change.ratio == pytest.approx((1, 1, 1))
    assert distance.improved(found) is None


@every
def test_what_is_nearer_to_the_references_has_improved_and_what_is_farther_has_not(distance):
    y = gaussian(2, 80)
    near, far = gaussian(1, 80), gaussian(3, 80, spread=0.2, shift=2.5)
    better, worse = distance.comparison(far, near, y), distance.comparison(near, far, y)
    assert distance.improved(better) is True and distance.improved(worse) is False
    assert better.change.difference == pytest.approx(-worse.change.difference, rel=0.2)
    assert better.change.p < 0.01


def test_too_many_kinds_are_as_wrong_as_too_few():
    y = gaussian(1, 60, 3) + 1
    narrow, fit, wide = gaussian(2, 60, 3) + 4, gaussian(3, 60, 3) + 1, gaussian(4, 60, 3)
    vendis = TABLE["vendi"]
    assert vendis.of(narrow, y).value < vendis.of(fit, y).value < vendis.of(wide, y).value
    assert vendis.improved(vendis.comparison(narrow, fit, y)) is True
    assert vendis.improved(vendis.comparison(wide, fit, y)) is True
    assert vendis.improved(vendis.comparison(fit, wide, y)) is False


@pytest.mark.parametrize(("count", "others"), [(40, 15), (15, 40)])
def test_as_many_pictures_as_references_are_counted_in_kinds(count, others):
    found = TABLE["vendi"].of(np.eye(40)[:count], np.eye(40)[:others])
    assert found.value == pytest.approx(15) and found.target == pytest.approx(15)


@every
def test_a_set_is_as_near_to_itself_as_can_be(distance):
    x = gaussian(1)
    found = distance.of(x, x.copy())
    if distance.name in ("precision", "recall", "coverage"):
        assert found.value == 1 and 0.8 < found.low < found.high == 1
    elif distance.name == "vendi":
        assert found.value == found.target
    elif distance.better == "lower":
        # Unbiased ones are below nothing: of two sets with the same pictures they expect different ones.
        assert found.value < 1e-9 and (found.low <= 0 or distance.name == "cmmd")


@pytest.mark.parametrize("distance", [d for d in DISTANCES if d.name != "recall"], ids=lambda d: d.name)
def test_more_noise_is_farther(distance):
    """But for recall: pictures that lie far from each other have large balls, which hold much."""
    x, y, noise = gaussian(1, 80), gaussian(2, 80), gaussian(3, 80, shift=1.0)
    found = [distance.of(x + strength * noise, y).value for strength in (0, 1, 2, 4)]
    if distance.name == "vendi":
        found = [abs(value - vendi(y)) for value in found]
    assert found == sorted(found, reverse=distance.better == "higher")
    assert abs(found[-1] - found[0]) > 0.01


@every
def test_order_does_not_matter(distance):
    x, y, rng = gaussian(1, shift=0.5), gaussian(2), np.random.default_rng(3)
    found = distance.of(rng.permutation(x), rng.permutation(y))
    assert found.value == pytest.approx(distance.of(x, y).value)


def prompted(seed, prompts=10, of_each=6, shift=0.3):
    """Pictures of prompts: most of what moves them is the prompt's."""
    rng = np.random.default_rng(seed)
    whole = rng.standard_normal((prompts, 1, 4)) + 0.2 * rng.standard_normal((prompts, of_each, 4)) + shift
    return whole.reshape(-1, 4)


@pytest.mark.parametrize("distance", [d for d in DISTANCES if d.name != "recall"], ids=lambda d: d.name)
def test_pictures_of_one_prompt_tell_less_than_strangers(distance):
    """But for recall: without one picture of each of many prompts all balls reach to other prompts."""
    x, y, groups = prompted(1), gaussian(2, 300), np.repeat(np.arange(10), 6)
    single, whole = distance.of(x, y), distance.of(x, y, groups)
    assert whole.value == pytest.approx(single.value)
    assert whole.high - whole.low > 1.3 * (single.high - single.low)


@every
def test_swaps_are_of_whole_prompts(distance):
    """Three prompts can be swapped in eight ways, half of which are the others mirrored: no p is below a quarter."""
    base, tuned, y = prompted(1, 3, 20), prompted(2, 3, 20, shift=3.0), gaussian(3)
    assert distance.change(base, tuned, y, np.repeat(np.arange(3), 20)).p >= 0.25


@pytest.mark.parametrize("distance", [d for d in DISTANCES if d.name not in SLOW], ids=lambda d: d.name)
def test_between_equal_models_intervals_hold_nothing_and_ps_are_small_as_often_as_they_say(distance):
    held, refused = [], []
    for seed in range(50):
        sets = (gaussian(seed, 24, 3, 0.5), gaussian(seed + 1000, 24, 3, 0.5), gaussian(seed + 2000, 20, 3))
        change = distance.change(*sets, seed=seed)
        held.append(change.low <= 0 <= change.high)
        refused.append(change.p <= 0.05)
    assert np.mean(held) >= 0.88 and np.mean(refused) <= 0.12


@pytest.mark.parametrize("distance", [d for d in DISTANCES if d.name not in SLOW], ids=lambda d: d.name)
def test_intervals_hold_the_mean_figure_as_often_as_they_say(distance):
    found = [distance.of(gaussian(s, 24, 3, 0.7), gaussian(s + 2000, 20, 3), seed=s) for s in range(50)]
    truth = np.mean([one.value for one in found])
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.88


@every
def test_two_pictures_have_a_figure_and_the_widest_interval(distance):
    found = distance.of(gaussian(1, 2), gaussian(2, 2))
    assert np.isfinite(found.value) and found.low <= found.high
    assert "rests on 2 (2 drawn, 2 of yours)" in found.note
    if distance.name in ("fid", "mind", "density", "vendi"):
        assert (found.low, found.high) == (0, np.inf)


@every
def test_the_note_is_there_below_enough_and_nowhere_else(distance):
    tried = replace(distance, method=ByJackknife(lambda *_: LeftOut(0.5, (np.array([0.4, 0.6]),))))
    enough = np.zeros((distance.enough, 1))
    assert tried.of(enough, enough).note == ""
    for few in ((enough[1:], enough), (enough, enough[1:])):
        note = tried.of(*few).note
        assert f"below {distance.enough} pictures and rests on {distance.enough - 1}" in note


def with_a(value):
    features = gaussian(1, 5)
    features[2, 1] = value
    return features


@every
@pytest.mark.parametrize(
    ("x", "groups", "words"),
    [
        (gaussian(1, 1), None, "one has 1"),
        (gaussian(1, 5, width=3), None, "4 numbers|3 numbers"),
        (with_a(np.nan), None, "1 of 5"),
        (with_a(np.inf), None, "1 of 5"),
        (gaussian(1, 5), [1, 2], "2 group numbers for 5"),
        (gaussian(1, 5), [1] * 5, "one prompt"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_hint(distance, x, groups, words):
    y = gaussian(2, 5)
    for call in (lambda: distance.of(x, y, groups), lambda: distance.change(x, x, y, groups)):
        with pytest.raises(BespokeError, match=words) as raised:
            call()
        assert raised.value.hint


@every
def test_models_with_unequal_numbers_of_pictures_are_no_pairs(distance):
    with pytest.raises(BespokeError, match="no pairs"):
        distance.change(gaussian(1, 5), gaussian(2, 6), gaussian(3, 5))
