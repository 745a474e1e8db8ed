"""The scorecard: what its figures are, and that its verdict says no more than they show."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bespoke.errors import BespokeError
from bespoke.evaluation import Scorecard, agreement, kid, kid_gain_interval, mean_interval, ratio_interval, scorecard
from bespoke.records import Score

DISTANCE, DOMAIN, GENERAL = "kid_pico_clip_reference", "agreement_reference", "agreement_general"
MARGINS = {"max_distance_ratio": 0.5, "max_agreement_loss": 0.05}


def gaussian(seed, count=60, shift=0.0):
    return np.random.default_rng(seed).standard_normal((count, 8)) + shift


def features(count=60, *, tuned_shift=1.0, lost=0.0) -> dict[str, Any]:
    """A base whose pictures follow their prompts and lie far from the references; `lost` of what is followed goes."""
    domain_texts, general_texts = gaussian(1, count), gaussian(2, count)
    base_general = general_texts + 0.5 * gaussian(3, count)
    return {
        "reference": gaussian(4, 60),
        "base_domain": domain_texts + 0.5 * gaussian(5, count) + 2.0,
        "tuned_domain": domain_texts + 0.5 * gaussian(5, count) + tuned_shift,
        "domain_texts": domain_texts,
        "base_general": base_general,
        "tuned_general": (1 - lost) * base_general + lost * gaussian(6, count),
        "general_texts": general_texts,
        "extractor": "pico-CLIP",
    }


def turned(features):
    """The features at length √d, written as the definition says."""
    return np.stack([row * np.sqrt(len(row)) / np.sqrt((row**2).sum()) for row in features])


def test_every_figure_is_what_its_name_says():
    given = features()
    card = scorecard(**given)
    assert set(card.base) == set(card.tuned) == set(card.labels) == {DISTANCE, DOMAIN, GENERAL}
    for model, scores in (("base", card.base), ("tuned", card.tuned)):
        assert [(name, score.name) for name, score in scores.items()] == [(name, name) for name in scores]
        follows = {
            DOMAIN: agreement(given[f"{model}_domain"], given["domain_texts"]),
            GENERAL: agreement(given[f"{model}_general"], given["general_texts"]),
        }
        for name, values in follows.items():
            low, high = mean_interval(values)
            assert scores[name] == Score(name, values.mean(), low, high, 60, "higher")
        distance = scores[DISTANCE]
        expected = kid(turned(given[f"{model}_domain"]), turned(given["reference"]))
        assert distance.value == pytest.approx(expected, abs=1e-12)
        assert distance.low < distance.value < distance.high
        assert (distance.better, distance.count, distance.note) == ("lower", 60, "")


def test_what_tuning_changed_is_measured_over_pairs():
    given = features()
    card = scorecard(**given)
    sets = (turned(given[name]) for name in ("base_domain", "tuned_domain", "reference"))
    assert card.kid_ratio == pytest.approx(kid_gain_interval(*sets), abs=1e-12)
    for part, name in (("domain", DOMAIN), ("general", GENERAL)):
        texts = given[f"{part}_texts"]
        base, tuned = (agreement(given[f"{model}_{part}"], texts) for model in ("base", "tuned"))
        assert getattr(card, f"{part}_agreement_ratio") == ratio_interval(base, tuned)
        change = getattr(card, f"{part}_agreement_change")
        assert change.mean == pytest.approx(card.tuned[name].value - card.base[name].value)


def test_how_long_a_clips_features_are_changes_nothing():
    given = features()
    lengths = np.random.default_rng(9).uniform(0.1, 10, (60, 1))
    names = ("reference", "base_domain", "tuned_domain", "base_general", "domain_texts")
    card, other = scorecard(**given), scorecard(**(given | {name: given[name] * lengths for name in names}))
    assert other.kid_ratio == pytest.approx(card.kid_ratio)
    for name in card.tuned:
        assert other.tuned[name].value == pytest.approx(card.tuned[name].value)


@pytest.mark.parametrize("extractor", ["pico-CLIP", "DINOv2 ViT-S/14", "Inception v3"])
def test_a_distance_always_says_on_whose_features_it_is(extractor):
    card = scorecard(**(features() | {"extractor": extractor}))
    assert card.labels[card.distance] == f"KID on {extractor} features"
    assert card.distance.startswith("kid_") and card.distance.endswith("_reference") and card.distance.isidentifier()
    assert card.verdict(**MARGINS)[0].detail.startswith(f"KID on {extractor} features")


def test_a_distance_of_few_pictures_says_so_in_the_score_and_the_verdict():
    card = scorecard(**features(count=12))
    for scores in (card.base, card.tuned):
        assert scores[DISTANCE].note == "rests on only 12 pictures (12 drawn, 60 of yours)"
        assert scores[DISTANCE].count == 12
    assert "rests on only 12 pictures" in card.verdict(**MARGINS)[0].detail
    few_references = scorecard(**(features() | {"reference": gaussian(4, 20)}))
    assert "only 20 pictures (60 drawn, 20 of yours)" in few_references.base[DISTANCE].note


def test_a_good_tuning_passes_all_three_questions():
    card = scorecard(**features(tuned_shift=0.5))
    questions = ["Closer to your pictures?", "Still follows the domain's prompts?", "Still follows plain prompts?"]
    verdict = card.verdict(**MARGINS)
    assert [judgement.question for judgement in verdict] == questions
    assert [(judgement.answer, judgement.ok) for judgement in verdict] == [("yes", True)] * 3


def test_an_unchanged_model_is_no_closer_and_follows_as_before():
    verdict = scorecard(**features(tuned_shift=2.0)).verdict(**MARGINS)
    assert [judgement.ok for judgement in verdict] == [False, True, True]
    assert verdict[0].answer == "no"


def test_a_model_that_forgot_plain_prompts_is_found_out():
    verdict = scorecard(**features(tuned_shift=0.5, lost=0.8)).verdict(**MARGINS)
    assert [judgement.ok for judgement in verdict] == [True, True, False]


def distance(value, low, high):
    return {DISTANCE: Score(DISTANCE, value, low, high, 60, "lower")}


def with_distances(base, tuned, ratio) -> Scorecard:
    card = scorecard(**features())
    return replace(card, base=card.base | distance(*base), tuned=card.tuned | distance(*tuned), kid_ratio=ratio)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("base", "tuned", "ratio", "answer", "ok"),
    [
        ((1.0, 0.8, 1.2), (0.4, 0.3, 0.5), (0.4, 0.3, 0.6), "yes", True),
        ((1.0, 0.8, 1.2), (0.4, 0.1, 0.9), (0.4, 0.1, 0.9), "closer, but perhaps less than asked", None),
        ((1.0, 0.8, 1.2), (0.6, 0.5, 0.7), (0.6, 0.45, 0.7), "closer, but perhaps less than asked", None),
        ((1.0, 0.8, 1.2), (0.7, 0.6, 0.75), (0.7, 0.6, 0.8), "closer, but less than asked", False),
        ((1.0, 0.8, 1.2), (1.0, 0.8, 1.2), (1.0, 0.9, 1.1), "no", False),
        ((1.0, 0.8, 1.2), (2.0, 1.8, 2.2), (2.0, 1.7, 2.4), "no", False),
        ((1.0, 0.1, 2.0), (0.7, 0.1, 1.4), (0.7, 0.3, 1.2), "cannot tell", None),
        ((0.1, -0.2, 0.5), (0.0, -0.2, 0.3), (0.0, -INF, INF), "cannot tell", None),
        ((-0.1, -0.2, 0.1), (-0.1, -0.2, 0.1), (NAN, -INF, INF), "cannot tell", None),
    ],
)
def test_closer_is_said_only_as_far_as_the_intervals_show(base, tuned, ratio, answer, ok):
    card = with_distances(base, tuned, ratio)
    judgement = card.verdict(**MARGINS)[0]
    assert (judgement.answer, judgement.ok) == (answer, ok)
    assert card.intervals_apart == (tuned[2] < base[1] or base[2] < tuned[1])
    assert "nan" not in judgement.detail and "inf" not in judgement.detail


@pytest.mark.parametrize(
    ("ratio", "ok"),
    [((0.98, 0.96, 1.0), True), ((0.97, 0.94, 1.0), None), ((0.94, 0.9, 0.96), None), ((0.9, 0.85, 0.94), False)],
)
@pytest.mark.parametrize("part", ["domain", "general"])
def test_agreement_is_judged_by_its_whole_interval(part, ratio, ok):
    changed = {"domain_agreement_ratio": (1.0, 1.0, 1.0), "general_agreement_ratio": (1.0, 1.0, 1.0)}
    card = replace(scorecard(**features()), **(changed | {f"{part}_agreement_ratio": ratio}))
    _, domain, general = card.verdict(**MARGINS)
    judged, other = (domain, general) if part == "domain" else (general, domain)
    assert judged.ok is ok and other.ok is True
    assert {True: "yes", False: "no", None: "cannot tell"}[ok] == judged.answer
    assert f"{100 * ratio[0]:.0f} % ({100 * ratio[1]:.0f} % to {100 * ratio[2]:.0f} %)" in judged.detail
    assert "asked for was at least 95 %" in judged.detail


def test_margins_decide():
    card = with_distances((1.0, 0.8, 1.2), (0.4, 0.3, 0.5), (0.4, 0.3, 0.6))
    assert [card.verdict(most, 0.05)[0].ok for most in (0.5, 0.35, 0.2)] == [True, None, False]
    card = replace(card, general_agreement_ratio=(0.9, 0.88, 0.92))
    assert [card.verdict(0.5, loss)[2].ok for loss in (0.15, 0.1, 0.05)] == [True, None, False]


def test_the_record_is_strict_json_even_where_a_ratio_is_unbounded():
    card = with_distances((0.1, -0.2, 0.5), (0.0, -0.2, 0.3), (NAN, -INF, INF))
    content = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert content["kid_ratio"] == {"value": None, "low": None, "high": None}
    assert content["general_agreement_ratio"]["value"] == card.general_agreement_ratio[0]
    assert content["domain_agreement_change"]["p"] == card.domain_agreement_change.p
    assert Score(**content["tuned"][DISTANCE]) == card.tuned[DISTANCE]
    assert content["extractor"] == "pico-CLIP" and content["intervals_apart"] is False


def test_the_seed_alone_decides_the_intervals():
    assert scorecard(**features(), seed=1) == scorecard(**features(), seed=1) != scorecard(**features(), seed=2)


@pytest.mark.parametrize("name", ["tuned_domain", "tuned_general", "domain_texts", "general_texts"])
def test_sets_that_do_not_fit_together_are_refused(name):
    given = features()
    with pytest.raises(BespokeError):
        scorecard(**{**given, name: given[name][:-1]})


def test_the_room_loads_no_network():
    code = "import sys, bespoke.evaluation; print(*sorted({'torch', 'transformers', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
