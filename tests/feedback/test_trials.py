"""What raters are shown: everything, balanced, in an order of their own, some of it twice."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.feedback import Comparison, Item, Trial, rater_name
from bespoke.feedback.trials import APART


def of(models: int, items: int, repeated: float = 0.2, seed: int = 0) -> Comparison:
    names = tuple(f"m{n}" for n in range(models))
    return Comparison(names, tuple(Item(f"{n}", f"thing {n}", names) for n in range(items)), seed, repeated)


sizes = st.tuples(st.integers(2, 4), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))


def pair(trial: Trial) -> tuple[int, frozenset[str]]:
    return trial.item, frozenset((trial.left, trial.right))


@given(sizes, st.text(min_size=1, max_size=9))
def test_every_pair_of_models_is_shown_once_on_every_item_and_some_again_with_the_sides_changed(size, rater):
    comparison = of(*size)
    trials = comparison.trials(rater)
    assert [trial.position for trial in trials] == list(range(len(trials)))
    first = [trial for trial in trials if not trial.repeated]
    again = [trial for trial in trials if trial.repeated]
    wanted = {(n, frozenset(two)) for n in range(len(comparison.items)) for two in combinations(comparison.models, 2)}
    assert Counter(map(pair, first)) == Counter(wanted)
    assert len(again) == round(comparison.repeated * len(first)) == len(set(map(pair, again)))
    before = {pair(trial): trial for trial in first}
    for trial in again:
        shown = before[pair(trial)]
        assert shown.position < trial.position and (trial.left, trial.right) == (shown.right, shown.left)


@given(sizes, st.text(min_size=1, max_size=9))
def test_each_of_two_models_is_on_the_left_as_often_as_the_other_or_once_more(size, rater):
    comparison = of(*size)
    first = [trial for trial in comparison.trials(rater) if not trial.repeated]
    for one, other in combinations(comparison.models, 2):
        lefts = Counter(trial.left for trial in first if {trial.left, trial.right} == {one, other})
        assert abs(lefts[one] - lefts[other]) == len(comparison.items) % 2


@given(st.integers(12, 40), st.floats(0, 0.5), st.integers(0, 99))
def test_a_pair_comes_again_only_after_others(items, repeated, seed):
    trials = of(2, items, repeated, seed).trials("Ann")
    at = {pair(trial): trial.position for trial in trials if not trial.repeated}
    assert all(trial.position - at[pair(trial)] > APART for trial in trials if trial.repeated)


def test_order_and_sides_are_a_function_of_seed_and_rater_and_of_nothing_else():
    comparison = of(2, 20)
    assert comparison.trials("Ann") == of(2, 20).trials("Ann")
    assert len({comparison.trials("Ann"), comparison.trials("Ben"), of(2, 20, seed=1).trials("Ann")}) == 3
    orders = [tuple(t.item for t in of(2, 20, 0.0, seed).trials(who)) for seed in (0, 1) for who in ("Ann", "Ben")]
    assert len(set(orders)) == 4


def test_over_raters_each_place_and_side_is_given_by_chance():
    trials = [of(2, 10, 0.0).trials(f"rater {n}")[0] for n in range(600)]
    assert all(35 <= count <= 90 for count in Counter(trial.item for trial in trials).values())
    assert 240 <= sum(trial.left == "m0" for trial in trials) <= 360


def test_masks_name_all_models_and_their_order_is_chance():
    masks = [of(3, 1, seed=seed).masks() for seed in range(60)]
    assert all(sorted(mask.values()) == ["model 1", "model 2", "model 3"] for mask in masks)
    assert len({tuple(mask.values()) for mask in masks}) == 6


def test_what_was_written_is_read_back():
    comparison = of(3, 4)
    assert Comparison.from_json(comparison.to_json()) == comparison
    assert replace(comparison.items[0], prompt="").group == "0" and comparison.items[0].group == "thing 0"


def test_names_of_raters():
    assert rater_name("  Ann \t Lee ") == "Ann Lee" and rater_name("Zoë 🦊") == "Zoë 🦊"
    for wrong in ("", "  ", "a\0", "x" * 61):
        with pytest.raises(BespokeError, match="name"):
            rater_name(wrong)
