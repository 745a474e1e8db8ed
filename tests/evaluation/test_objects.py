"""The object metric: closed forms, scipy, models made to be near and far, and how often floors and intervals hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.spatial.distance import jensenshannon

from bespoke.errors import BespokeError
from bespoke.evaluation import objects as module
from bespoke.evaluation.objects import js_divergence, kl_divergence, objects
from bespoke.evaluation.things import Crops, Things

COUNTS = arrays.arrays(np.float64, st.integers(2, 9), elements=st.integers(0, 200).map(float))
CENTRES = 2 * np.random.default_rng(0).standard_normal((6, 8))
COMMON, RARE = np.array([0.4, 0.3, 0.2, 0.1, 0, 0]), np.array([0, 0, 0.1, 0.2, 0.3, 0.4])
QUICK = {"draws": 200, "exchanges": 200}


def crops(seed, kinds, pictures, spread=0.5):
    rng = np.random.default_rng(seed)
    features = CENTRES[kinds] + spread * rng.standard_normal((len(kinds), CENTRES.shape[1]))
    return Crops(features, np.asarray(pictures), rng.uniform(0.5, 1, len(kinds)))


def things(seed, weights=COMMON, pictures=60, per_picture=2, classes=("dog",), together=False):
    """Pictures of things whose kinds are drawn by weights; `together`: all in a picture are of one kind."""
    rng = np.random.default_rng(seed)
    found, of = {}, np.repeat(np.arange(pictures), per_picture)
    for number, name in enumerate(classes):
        kinds = rng.choice(6, pictures, p=weights)[of] if together else rng.choice(6, len(of), p=weights)
        found[name] = crops([seed, number], kinds, of)
    return Things(found, pictures)


def test_equal_histograms_are_at_no_divergence():
    counts = np.array([5.0, 0, 17, 2])
    assert kl_divergence(counts, counts) == js_divergence(counts, counts) == 0


def test_large_histograms_have_the_divergence_that_is_known():
    """Of a fair and a biased coin: ½ ln(½ / ¼) + ½ ln(½ / ¾)."""
    fair, biased = np.array([5e8, 5e8]), np.array([2.5e8, 7.5e8])
    assert kl_divergence(fair, biased) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-7)
    assert js_divergence(np.array([1e9, 0]), np.array([0, 1e9])) == pytest.approx(math.log(2), abs=1e-6)


@given(COUNTS, st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_divergences_are_those_of_scipy_on_smoothed_histograms(first, seed):
    second = np.random.default_rng(seed).permutation(first)
    p, q = ((counts + 0.5) / (counts.sum() + len(counts) / 2) for counts in (first, second))
    assert kl_divergence(first, second) == pytest.approx(stats.entropy(p, q), abs=1e-12)
    assert js_divergence(first, second) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-9)
    assert 0 <= js_divergence(first, second) <= math.log(2) and kl_divergence(first, second) >= 0


@pytest.mark.parametrize("mode", ["pooled", "matched"])
def test_a_model_whose_things_are_the_originals_gains_all(mode):
    """The same kinds as often, but no copies."""
    sets = {"original": things(1), "base": things(2, RARE), "tuned": things(3)}
    found = objects(**sets, mode=mode, draws=200, exchanges=50)
    value, low, high = found.domain_gain
    assert value > 0.85 and low > 0.5 and high == 1
    assert found.mean.base.told and found.mean.drift.told and not found.mean.tuned.told
    assert found.mode == mode


@pytest.mark.parametrize("mode", ["pooled", "matched"])
def test_a_model_that_is_the_base_gains_exactly_nothing(mode):
    base = things(2, RARE)
    found = objects(original=things(1), base=base, tuned=base, mode=mode, draws=200, exchanges=20)
    assert found.domain_gain == pytest.approx((0, 0, 0), abs=1e-12)
    drift = found.mean.drift
    assert (drift.kl, drift.corrected, drift.low, drift.js) == (0, 0, 0, 0) and not drift.told


def test_a_model_half_way_gains_about_half_and_one_further_away_less_than_nothing():
    weights = 0.5 * COMMON + 0.5 * RARE
    half = objects(original=things(1, pictures=300), base=things(2, RARE, 300), tuned=things(3, weights, 300), **QUICK)
    assert 0.5 < half.domain_gain[1] < half.domain_gain[0] < half.domain_gain[2] < 1
    away = objects(original=things(1), base=things(2, weights), tuned=things(3, RARE), **QUICK)
    assert away.domain_gain[0] < 0


def test_the_gain_is_that_of_the_corrected_means():
    found = objects(original=things(1), base=things(2, RARE), tuned=things(3, 0.7 * COMMON + 0.3 * RARE), **QUICK)
    mean = found.mean
    assert found.domain_gain[0] == pytest.approx(1 - mean.tuned.corrected / mean.base.corrected)
    for one in (mean.tuned, mean.base, mean.drift):
        assert 0 <= one.low <= one.corrected <= one.high
        assert one.corrected < one.kl


def test_where_the_base_is_already_there_the_gain_is_unbounded_and_says_so():
    found = objects(original=things(1), base=things(2), tuned=things(3), **QUICK)
    assert found.domain_gain[1] == -np.inf
    assert "gain says nothing" in found.note


def test_a_pooled_histogram_counts_things_of_known_clusters():
    """Two kinds far apart, 30 : 70 against 60 : 40, whatever the clusters' order."""
    kinds = {"original": np.repeat([0, 1], [30, 70]), "base": np.repeat([0, 1], [60, 40])}
    made = {name: Things({"dog": crops(n, k, np.arange(100), 0.01)}, 100) for n, (name, k) in enumerate(kinds.items())}
    few = {
        name: Things({"dog": crops(n, k[::4], np.arange(25), 0.01)}, 25) for n, (name, k) in enumerate(kinds.items())
    }
    found = objects(original=made["original"], base=few["base"], tuned=few["base"], least=20, **QUICK)
    # 25 things in the smallest set are two clusters.
    expected = kl_divergence(np.array([30.0, 70]), np.array([15.0, 10]))
    assert found.classes[0].divergences.base.kl == pytest.approx(expected)
    assert found.classes[0].divergences.base.js == pytest.approx(
        js_divergence(np.array([30.0, 70]), np.array([15.0, 10]))
    )


def test_clusters_that_overlap_are_matched_and_others_have_bins_of_their_own():
    """Both sets have kinds 0 and 1; the first alone has 2, the second alone 3."""
    x = crops(1, np.repeat([0, 1, 2], 10), np.zeros(30, int), 0.05).features
    y = crops(2, np.repeat([1, 3, 0], 10), np.zeros(30, int), 0.05).features
    of_x, of_y, bins = module._matched_bins(x, y, (0,))
    assert bins == 4
    assert of_x[20:].tolist() == [2] * 10 and of_y[10:20].tolist() == [3] * 10
    assert set(of_x[:10]) == set(of_y[20:]) and set(of_x[10:20]) == set(of_y[:10])
    assert len({of_x[0], of_x[10], of_x[20]}) == 3


def test_classes_count_by_the_first_sets_share_of_things():
    """The original has three dogs for each car, both models three cars for each dog."""

    def both(seed, weights, dogs, cars):
        dog, car = (things([seed, n], weights, 60, n).crops["dog"] for n in (dogs, cars))
        return Things({"dog": dog, "car": car}, 60)

    found = objects(
        original=both(1, COMMON, 3, 1), base=both(2, RARE, 1, 3), tuned=both(3, 0.5 * COMMON + 0.5 * RARE, 1, 3),
        **QUICK,
    )  # fmt: skip
    car, dog = (one.divergences for one in found.classes)
    assert [(one.name, one.counts) for one in found.classes] == [("car", (60, 180, 180)), ("dog", (180, 60, 60))]
    for name, of_dogs in (("base", 0.75), ("tuned", 0.75), ("drift", 0.25)):
        mean, cars, dogs = (getattr(some, name) for some in (found.mean, car, dog))
        for figure in ("kl", "js", "corrected"):
            expected = of_dogs * getattr(dogs, figure) + (1 - of_dogs) * getattr(cars, figure)
            assert getattr(mean, figure) == pytest.approx(expected)
    assert all(one.note == "rests on only 60 things in one set" for one in found.classes)
    assert objects(original=things(1), base=things(2), tuned=things(3), **QUICK).classes[0].note == ""


def test_a_class_that_vanished_shows_in_the_histogram_of_classes():
    original, base = things(1, classes=("dog", "car")), things(2, classes=("dog", "car"))
    kept, lost = things(3, classes=("dog", "car")), things(3, classes=("dog",))
    same, found = (objects(original=original, base=base, tuned=tuned, **QUICK) for tuned in (kept, lost))
    assert not same.histogram.tuned.told and same.histogram.tuned.kl == 0
    assert found.histogram.tuned.told and found.histogram.drift.told and not found.histogram.base.told
    assert found.histogram.tuned.low > 0.5
    # With ln 2: of the first set's things half are of a class that the second hardly has.
    expected = kl_divergence(np.array([120.0, 120, 0]), np.array([0.0, 120, 0]))
    assert found.histogram.tuned.kl == pytest.approx(expected)
    assert found.left_out == {"car": (120, 120, 0)} and "left out" in found.note
    assert [one.name for one in found.classes] == ["dog"]


def test_pictures_without_anything_show_even_where_there_is_one_class():
    tuned = things(3)
    few = crops(4, np.zeros(40, int), np.arange(20).repeat(2))
    found = objects(original=things(1), base=things(2), tuned=Things({"dog": few}, 60), **QUICK)
    assert found.histogram.tuned.kl == pytest.approx(kl_divergence(np.array([120.0, 0]), np.array([40.0, 40])))
    assert found.histogram.tuned.told
    assert not objects(original=things(1), base=things(2), tuned=tuned, **QUICK).histogram.tuned.told


def test_without_a_class_that_has_enough_only_the_facts_remain():
    found = objects(original=things(1), base=things(2), tuned=Things({}, 60), **QUICK)
    assert found.mean is None and found.classes == () and "draw more pictures" in found.note
    assert np.isnan(found.domain_gain[0]) and found.domain_gain[1:] == (-np.inf, np.inf)
    assert found.histogram.tuned.told
    assert found.facts["tuned"].things == 0 and np.isnan(found.facts["tuned"].confidence)


def test_facts_are_counted():
    confidences = np.array([0.5, 0.7, 0.9])
    few = Things({"dog": Crops(np.zeros((3, 8)), np.array([0, 0, 4]), confidences)}, 5)
    facts = objects(original=few, base=few, tuned=few, **QUICK).facts["base"]
    assert (facts.pictures, facts.things, facts.per_picture, facts.classes) == (5, 3, 0.6, {"dog": 3})
    assert facts.confidence == pytest.approx(0.7)


def told(seed, pair, **options):
    found = objects(original=things(3 * seed, **options), base=things(3 * seed + 1, **options),
                    tuned=things(3 * seed + 2, **options), draws=20, exchanges=100, seed=seed)  # fmt: skip
    return getattr(found.mean, pair).told


@pytest.mark.parametrize("pair", ["drift", "tuned"])
def test_floors_are_passed_by_chance_as_seldom_as_they_say(pair):
    """Also where all things in a picture are of one kind, of which a floor over things would know nothing."""
    alarms = [told(seed, pair, pictures=30, per_picture=4, together=True) for seed in range(80)]
    assert np.mean(alarms) <= 0.10


def test_matched_floors_are_passed_by_chance_as_seldom_as_they_say():
    alarms = []
    for seed in range(10):
        sets = [things(3 * seed + k, pictures=30) for k in range(3)]
        found = objects(original=sets[0], base=sets[1], tuned=sets[2], mode="matched", draws=20, exchanges=30)
        alarms.append(found.mean.tuned.told)
    assert np.mean(alarms) <= 0.25


def test_a_floor_over_things_instead_of_pictures_would_be_passed_far_more_often():
    alarms = []
    for seed in range(60):
        sets = [things(3 * seed + k, pictures=30, per_picture=4, together=True) for k in range(3)]
        apart = [Things({"dog": Crops(s.crops["dog"].features, np.arange(120), s.crops["dog"].confidences)}, 120)
                 for s in sets]  # fmt: skip
        found = objects(original=apart[0], base=apart[1], tuned=apart[2], draws=20, exchanges=100)
        alarms.append(found.mean.tuned.told)
    assert np.mean(alarms) > 0.2


def test_gains_hold_the_truth_as_often_as_they_say():
    """Half of the base's pictures are the original's kind, and three quarters of the tuned model's."""
    base, tuned = 0.2 * COMMON + 0.8 * RARE, 0.8 * COMMON + 0.2 * RARE
    truth = 1 - stats.entropy(COMMON, tuned) / stats.entropy(COMMON, base)
    hits = []
    for seed in range(40):
        sets = [things(3 * seed + k, w, 100) for k, w in enumerate((COMMON, base, tuned))]
        found = objects(original=sets[0], base=sets[1], tuned=sets[2], draws=200, exchanges=20, seed=seed)
        hits.append(found.domain_gain[1] <= truth <= found.domain_gain[2])
    assert np.mean(hits) >= 0.85


def test_prompts_drawn_several_times_tell_less():
    prompts = np.repeat(np.arange(15), 4)
    sets = {"original": things(1), "base": things(2, RARE), "tuned": things(3, 0.5 * COMMON + 0.5 * RARE)}
    for name in ("base", "tuned"):
        one = things(4, RARE if name == "base" else COMMON, 15, 2, together=True).crops["dog"]
        rows = np.tile(np.arange(30).reshape(15, 2), 4).reshape(-1)
        repeated = Crops(one.features[rows], np.repeat(np.arange(60), 2), one.confidences[rows])
        sets[name] = Things({"dog": repeated}, 60)
    alone, grouped = objects(**sets, **QUICK), objects(**sets, groups=prompts, **QUICK)
    assert alone.mean.tuned.kl == grouped.mean.tuned.kl
    assert grouped.mean.tuned.floor > 1.2 * alone.mean.tuned.floor
    widths = [found.mean.base.high - found.mean.base.low for found in (alone, grouped)]
    assert widths[1] > 1.3 * widths[0]


def test_the_seed_decides_and_the_order_of_things_does_not_matter_much():
    sets = {"original": things(1), "base": things(2, RARE), "tuned": things(3)}
    one, same, other = (objects(**sets, seed=seed, **QUICK) for seed in (1, 1, 2))
    assert one.domain_gain == same.domain_gain != other.domain_gain


def changed(some, **fields):
    old = some.crops["dog"]
    parts = {"features": old.features, "pictures": old.pictures, "confidences": old.confidences}
    return Things({"dog": Crops(**parts | fields)}, some.pictures)


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        (things(3, pictures=61), "no pairs"),
        (changed(things(3), features=np.zeros((120, 5))), "5 numbers"),
        (changed(things(3), features=np.full((120, 8), np.nan)), "120 of 120"),
        (changed(things(3), pictures=np.arange(120)), "beyond its 60"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_hint(tuned, words):
    with pytest.raises(BespokeError, match=words) as raised:
        objects(original=things(1), base=things(2), tuned=tuned, **QUICK)
    assert raised.value.hint
    with pytest.raises(BespokeError, match="one has 1"):
        objects(original=Things({}, 1), base=things(2), tuned=things(3), **QUICK)
