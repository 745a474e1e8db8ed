"""Whether to train anew: no fact that asks for it ever speaks against it, and what holds it back always does."""

from dataclasses import asdict, replace
from math import isclose

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize
from scipy.stats import norm

from bespoke.feedback.proposals import Facts, Heard, fall, propose
from bespoke.recipe.update import Update

RULE = Update()
CALM = Facts(Heard("m@2"), days=10.0, pictures=100)
"""A champion of which nothing is said, on the pictures that it learnt."""


@st.composite
def said(draw, model="m@2"):
    thumbs, kept = draw(st.integers(0, 300)), draw(st.integers(0, 1000))
    ups, flagged = draw(st.integers(0, thumbs)), draw(st.integers(0, kept))
    return Heard(model, ups, thumbs, draw(st.integers(0, 6)), flagged, kept)


days = st.dictionaries(st.dates().map(str), st.sampled_from([("pictures",), ("prompts", "saturation")]), max_size=4)
facts = st.fixed_dictionaries(
    {
        "heard": said(),
        "days": st.floats(0, 400),
        "pictures": st.integers(1, 500),
        "before": st.none() | said("m@1"),
        "alarms": days,
        "fresh": st.integers(0, 300),
        "steps": st.integers(0, 10_000),
        "hours": st.none() | st.floats(0, 30),
        "spent": st.floats(0, 30),
        "idle": st.none() | st.floats(0, 30),
    }
)
"""What facts are made of: checking the types of a mapping draws numbers, which no strategy may."""
rules = st.builds(
    Update,
    alarm_days=st.integers(1, 3),
    least_served=st.integers(1, 500),
    least_ratings=st.integers(1, 50),
    least_raters=st.integers(1, 4),
    least_liked=st.floats(0, 1),
    new_share=st.floats(0.01, 1),
    most_age_days=st.integers(1, 300),
    cool_down_days=st.floats(0, 20),
    budget_hours=st.floats(0, 40),
)


def disliked(heard: Heard, how: str) -> Heard:
    """The same version, liked less: a thumb that turned down, one more that is, a flag, and more people who say so."""
    match how:
        case "turned":
            return replace(heard, ups=max(0, heard.ups - 1))
        case "one more down":
            return replace(heard, thumbs=heard.thumbs + 1)
        case "flagged":
            return replace(heard, flagged=min(heard.kept, heard.flagged + 1))
        case _:
            return replace(heard, raters=heard.raters + 1)


@given(facts, rules, st.sampled_from(["turned", "one more down", "flagged", "one more person"]))
def test_worse_ratings_never_turn_a_yes_into_a_no(found, rule, how):
    found = Facts(**found)
    worse = replace(found, heard=disliked(found.heard, how))
    assert propose(worse, rule).retrain >= propose(found, rule).retrain


@given(facts, rules, st.dates().map(str), st.integers(0, 50), st.integers(0, 50), st.floats(0, 100))
def test_more_drift_use_pictures_or_age_never_turn_a_yes_into_a_no(found, rule, day, fresh, gone, older):
    found = Facts(**found)
    for more in (
        replace(found, alarms={**found.alarms, day: ("clipped",)}),
        replace(found, fresh=found.fresh + fresh),
        replace(found, gone=found.gone + min(gone, found.pictures)),
        replace(found, days=found.days + older),
    ):
        assert propose(more, rule).retrain >= propose(found, rule).retrain


@given(facts, rules, st.integers(0, 500))
def test_more_use_of_what_drifted_never_turns_a_yes_into_a_no(found, rule, kept):
    found = Facts(**found)
    assume(propose(replace(found, alarms={}), rule).retrain is False)  # flags are a share of use
    used = replace(found, heard=replace(found.heard, kept=found.heard.kept + kept))
    assert propose(used, rule).retrain >= propose(found, rule).retrain


@given(facts, rules)
def test_cool_down_budget_consent_and_an_unchanged_dataset_always_hold_it_back(found, rule):
    found = Facts(**found)
    assert not propose(replace(found, fresh=0, gone=0, reworded=0), rule).retrain
    assert not propose(replace(found, withdrawn=1), rule).retrain
    if rule.cool_down_days > 0.001:  # half of the smallest number is itself
        assert not propose(replace(found, idle=rule.cool_down_days / 2), rule).retrain
    assert not propose(replace(found, spent=rule.budget_hours), rule).retrain
    assert not propose(replace(found, hours=rule.budget_hours - found.spent + 0.01), rule).retrain


@given(facts, rules)
def test_there_is_a_yes_only_for_a_reason_and_what_it_takes_fits_the_budget(found, rule):
    found = Facts(**found)
    made = propose(found, rule)
    assert not made.retrain or made.reasons_for
    assert all(reason.words for reason in (*made.reasons_for, *made.reasons_against))
    assert {r.about for r in made.reasons_for}.isdisjoint({r.about for r in made.reasons_against})
    if made.retrain and made.cost.hours is not None:
        assert found.spent + made.cost.hours <= rule.budget_hours * (1 + 1e-9)
    assert all(one.now > one.before for one in made.changes)


LIKED = Heard("m@2", ups=60, thumbs=100, raters=9, kept=400)
REASONS = {
    "drift": replace(CALM, heard=LIKED, alarms={"2026-11-02": ("pictures",), "2026-11-05": ("saturation",)}, fresh=1),
    "ratings": replace(CALM, heard=replace(LIKED, ups=30), fresh=1),
    "predecessor": replace(CALM, heard=LIKED, before=Heard("m@1", ups=90, thumbs=100, raters=9), fresh=1),
    "flags": replace(CALM, heard=replace(LIKED, flagged=80), fresh=1),
    "new pictures": replace(CALM, heard=LIKED, fresh=25),
    "age": replace(CALM, heard=LIKED, fresh=1, days=200.0),
}


@pytest.mark.parametrize("about", REASONS)
def test_each_reason_alone_is_enough_and_none_other_is_given(about):
    made = propose(REASONS[about], RULE)
    assert made.retrain and [reason.about for reason in made.reasons_for] == [about]
    assert not propose(replace(CALM, heard=LIKED, fresh=1), RULE).retrain


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ("drift", replace(REASONS["drift"], heard=replace(LIKED, kept=199))),
        ("drift", replace(REASONS["drift"], alarms={"2026-11-02": ("pictures", "saturation")})),
        ("ratings", replace(REASONS["ratings"], heard=Heard("m@2", ups=2, thumbs=19, raters=9))),
        ("ratings", replace(REASONS["ratings"], heard=replace(LIKED, ups=30, raters=2))),
        ("predecessor", replace(REASONS["predecessor"], before=Heard("m@1", ups=70, thumbs=100, raters=9))),
        ("new pictures", replace(REASONS["new pictures"], fresh=24)),
        ("age", replace(REASONS["age"], fresh=0, reworded=1)),
    ],
)
def test_what_is_not_quite_a_reason_is_told_with_its_figures(about, found):
    made = propose(found, RULE)
    assert not made.retrain
    (words,) = (reason.words for reason in made.reasons_against if reason.about == about)
    assert any(character.isdigit() for character in words)


def test_what_holds_it_back_is_told_with_its_figures():
    wanted = replace(REASONS["new pictures"], hours=2.0, spent=23.0, idle=3.0)
    told = {reason.about: reason.words for reason in propose(wanted, RULE).reasons_against}
    assert "23.0 hours in 30 days, and another takes 2.0 hours; 24 hours" in told["budget"]
    assert "3.0 days ago; 7 days" in told["cool-down"]
    assert (
        "same pictures gives the same model"
        in {r.about: r.words for r in propose(CALM, RULE).reasons_against}["nothing new"]
    )


def test_more_pictures_take_more_steps_as_far_as_the_budget_goes():
    grown = replace(REASONS["new pictures"], fresh=100, steps=1000, hours=1.0)
    (change,) = propose(grown, RULE).changes
    assert (change.key, change.before, change.now) == ("train.max_train_steps", 1000, 2000)
    assert propose(grown, RULE).cost.hours == 2.0
    tight = propose(replace(grown, spent=22.5), RULE)
    assert tight.retrain and tight.changes[0].now == 1500 and "budget" in tight.changes[0].why
    assert propose(replace(grown, hours=None), RULE).changes == ()


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_the_fall_of_a_share_is_newcombes(mine, theirs, data):
    """Against the interval's own definition: Wilson's ends are where a score test just rejects."""
    ups, before = data.draw(st.integers(0, mine)), data.draw(st.integers(0, theirs))
    value, low, high = fall(Heard("b", ups, mine, 1), Heard("a", before, theirs, 1))
    (l1, u1), (l2, u2) = _ends(ups, mine), _ends(before, theirs)
    p1, p2 = ups / mine, before / theirs
    assert isclose(value, p1 - p2, abs_tol=1e-12)
    assert isclose(low, p1 - p2 - ((p1 - l1) ** 2 + (u2 - p2) ** 2) ** 0.5, abs_tol=1e-6)
    assert isclose(high, p1 - p2 + ((u1 - p1) ** 2 + (p2 - l2) ** 2) ** 0.5, abs_tol=1e-6)


def _ends(hits, count):
    p, z = hits / count, norm.ppf(0.975)

    def rejects(q):
        return (p - q) ** 2 - z**2 * q * (1 - q) / count

    low = 0.0 if hits == 0 else optimize.brentq(rejects, 0.0, min(p, 1 - 1e-9), xtol=1e-14)
    high = 1.0 if hits == count else optimize.brentq(rejects, max(p, 1e-9), 1.0, xtol=1e-14)
    return low, high


def test_a_known_difference():
    """56 of 70 against 48 of 80: Newcombe's (1998) table II, example (a), method 10."""
    value, low, high = fall(Heard("b", 56, 70, 1), Heard("a", 48, 80, 1))
    assert (round(value, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)


def test_facts_and_proposals_are_json():
    import json

    found = REASONS["predecessor"]
    assert json.loads(json.dumps(asdict(found)))["before"]["ups"] == 90
    assert json.loads(json.dumps(asdict(propose(found, RULE))))["retrain"] is True
