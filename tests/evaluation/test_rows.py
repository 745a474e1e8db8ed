"""The rows of a scorecard: each is the arithmetic that its name says, over pairs, against the control."""

import numpy as np
import pytest

from bespoke.errors import BespokeError
from bespoke.evaluation import DISTANCES, agreement, kid, mean_interval, paired_difference, ratio_interval
from bespoke.evaluation.membership import Asked, membership
from bespoke.evaluation.memorisation import memorisation
from bespoke.evaluation.rows import (
    Pictures,
    agreement_row,
    copying_rows,
    distance_rows,
    likeness_row,
    membership_row,
    posterior_row,
    preference_row,
)
from bespoke.evaluation.scorecard import Instrument

CLIP = Instrument("pico-CLIP", "0" * 16, "as it is")


def gaussian(seed, count=60, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, 8)) + shift


def pictures(*shifts, groups=None):
    names = ("base", "tuned", "other")
    return Pictures({name: gaussian(5, shift=s) for name, s in zip(names, shifts, strict=False)}, groups)


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_every_distance_of_the_table_has_a_row_named_by_its_features():
    rows = list(distance_rows(pictures(2.0, 0.5), gaussian(4), CLIP, cosine=True, main="kid"))
    assert [row.name for row in rows] == [f"{one.name}_pico_clip_reference" for one in DISTANCES]
    assert [row.name for row in rows if row.main] == ["kid_pico_clip_reference"]
    assert all("pico-CLIP" in row.label and row.explanation for row in rows)
    assert not any("FID" in row.label for row in rows)


def test_only_the_weights_of_published_fid_are_called_fid():
    published = Instrument("Inception v3", "6726825d", "as it is", is_fid=True)
    for instrument, called in ((published, True), (Instrument("Inception v3 (mine)", "0", "as it is"), False)):
        rows = list(distance_rows(pictures(2.0, 0.5), gaussian(4), instrument, cosine=False))
        assert ("FID" in [row.label for row in rows]) is called


def test_distances_are_of_directions_only_where_that_is_asked_for():
    seen, goal = pictures(2.0, 0.5), gaussian(4)
    of_directions, of_features = (
        next(iter(distance_rows(seen, goal, CLIP, cosine=cosine, chosen=DISTANCES[:1]))) for cosine in (True, False)
    )
    for model in ("base", "tuned"):
        features = seen.features[model]
        turned = kid(unit(features) * 8**0.5, unit(goal) * 8**0.5)
        assert of_directions.scores[model].value == pytest.approx(turned, abs=1e-12)
        assert of_features.scores[model].value == pytest.approx(kid(features, goal), abs=1e-9)


def test_the_control_has_one_figure_whoever_is_compared_with_it():
    alone = next(iter(distance_rows(pictures(2.0, 0.5), gaussian(4), CLIP, cosine=True)))
    both = next(iter(distance_rows(pictures(2.0, 0.5, 1.0), gaussian(4), CLIP, cosine=True)))
    assert both.scores["base"] == alone.scores["base"]
    assert both.changes["tuned"] == alone.changes["tuned"]
    assert set(both.scores) == {"base", "tuned", "other"} and set(both.changes) == {"tuned", "other"}


def test_agreement_is_a_mean_over_pairs_of_whole_prompts():
    texts, groups = gaussian(1), [n // 3 for n in range(60)]
    seen = Pictures({"base": texts + gaussian(2), "tuned": texts + 0.5 * gaussian(3)}, groups)
    row = agreement_row(seen, texts, "agreement_general", "Agreement", "words")
    base, tuned = (agreement(seen.features[model], texts) for model in ("base", "tuned"))
    score, change = row.scores["tuned"], row.changes["tuned"]
    assert score.value == tuned.mean() and (score.low, score.high) == mean_interval(tuned, groups)
    expected = paired_difference(base, tuned, groups)
    assert (change.difference, change.low, change.high, change.p) == (
        expected.mean, expected.low, expected.high, expected.p,
    )  # fmt: skip
    assert change.ratio == ratio_interval(base, tuned, groups)
    assert row.main and score.count == 60


def test_likeness_is_the_mean_cosine_of_all_pairs():
    seen, goal = pictures(1.0, 0.5), gaussian(4, 7, 0.5)
    row = likeness_row(seen, goal, CLIP, "CLIP-I")
    for model, features in seen.features.items():
        assert row.scores[model].value == pytest.approx((unit(features) @ unit(goal).T).mean(), abs=1e-12)
    assert (row.name, row.label) == ("clip_i_pico_clip", "CLIP-I (pico-CLIP)")


def test_preference_is_the_scaled_cosine_with_the_prompt():
    texts, seen = gaussian(1), pictures(1.0, 0.0)
    row = preference_row(seen, texts, 20.0, CLIP)
    expected = 20 * (unit(seen.features["tuned"]) * unit(texts)).sum(axis=1).mean()
    assert row.scores["tuned"].value == pytest.approx(expected, abs=1e-12)


def test_the_inception_score_of_sure_and_various_classes_is_their_number():
    sure = np.eye(10)[np.arange(60) % 10]
    row = posterior_row({"base": np.full((60, 10), 0.1), "tuned": sure}, None, CLIP)
    assert row.scores["base"].value == pytest.approx(1) and row.scores["tuned"].value == pytest.approx(10)
    assert "60" in row.scores["tuned"].note  # so few pictures say little


def test_a_model_that_copies_is_seen_beside_one_that_does_not():
    training, held = gaussian(1, 50), gaussian(2, 120)
    drawn = {"base": gaussian(3), "copier": training[np.arange(60) % 50] + 1e-3 * gaussian(4), "honest": gaussian(5)}
    found = {
        model: memorisation(tuned=drawn[model], base=drawn["base"], training=training, held_out=held)
        for model in ("copier", "honest")
    }
    rate, authenticity, z = copying_rows(found, "base", 60)
    assert rate.scores["copier"].value == 1 and rate.scores["honest"].value < 0.1
    assert rate.changes["copier"].low > 0.5 and rate.changes["honest"].low < 0 < rate.changes["honest"].high
    assert authenticity.scores["copier"].value < 0.1 < authenticity.scores["honest"].value
    assert z.scores["copier"].value < -3 < z.scores["honest"].value
    assert [row.scores["base"] for row in copying_rows(found, "base", 60)] == [
        row.scores["base"] for row in copying_rows({"honest": found["honest"]}, "base", 60)
    ]


def test_a_model_that_redraws_is_seen_beside_its_base_and_an_honest_one():
    def of(seed, learnt, count):
        rng = np.random.default_rng(seed)
        own, numbers = rng.standard_normal((count, 16)), np.repeat(np.arange(count), 3)
        drawn = learnt * own[numbers] + rng.standard_normal((3 * count, 16))
        return Asked(drawn, numbers, own, np.arange(count))

    found = {
        model: membership(of(seed, learnt, 60), of(seed + 1, 1.0, 120))
        for model, seed, learnt in (("base", 1, 1.0), ("copier", 3, 9.0), ("honest", 5, 1.0))
    }
    row = membership_row(found, "base")
    assert (row.part, row.name, list(row.scores)) == ("copying", "membership_auc", ["base", "copier", "honest"])
    assert row.scores["copier"].low > 0.85 and row.scores["copier"].count == 60
    assert row.changes["copier"].low > 0.2 and row.changes["honest"].low < 0 < row.changes["honest"].high
    assert "base" not in row.changes


def test_pictures_that_are_no_pairs_are_refused():
    seen = Pictures({"base": gaussian(1), "tuned": gaussian(2, 59)}, None)
    with pytest.raises(BespokeError, match="no pairs"):
        list(distance_rows(seen, gaussian(4), CLIP, cosine=True))
