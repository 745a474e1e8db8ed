"""Choices in prompts, and adapters that prompts call."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.text.called import called
from bespoke.text.wildcards import expanded

LISTS = {"colour": ["red", "blue"], "things/animal": ["a {small|large} dog", "a __colour__ cat"]}


@given(st.text(alphabet=st.characters(blacklist_characters="{}_\\"), max_size=40), st.integers(0, 99))
def test_a_prompt_without_choices_stays_as_it_is(prompt, seed):
    assert expanded(prompt, LISTS, seed) == prompt


@given(st.integers(0, 10_000))
def test_each_seed_makes_the_same_choices_each_time_of_what_there_is(seed):
    prompt = "{red|blue|} hat, __things/animal__"
    made = expanded(prompt, LISTS, seed)
    assert made == expanded(prompt, LISTS, seed)
    hat, _, animal = made.partition(" hat, ")
    assert hat in ("red", "blue", "")
    assert animal in ("a small dog", "a large dog", "a red cat", "a blue cat")


def test_choices_come_as_often_as_their_weights_say_and_twice_the_same_choice_is_made_twice():
    counted = Counter(expanded("{3::a|b}", {}, seed) for seed in range(2000))
    assert abs(counted["a"] / 2000 - 0.75) < 0.04  # four standard deviations
    pairs = Counter(expanded("{a|b} {a|b}", {}, seed) for seed in range(400))
    assert len(pairs) == 4


def test_choices_lie_in_one_another_and_brackets_are_written_with_a_backslash():
    made = {expanded("{a|{b|c} d}", {}, seed) for seed in range(60)}
    assert made == {"a", "b d", "c d"}
    assert expanded(r"a \{red|blue\} hat", {}, 1) == "a {red|blue} hat"


@pytest.mark.parametrize(
    ("prompt", "lists", "problem"),
    [
        ("__place__", LISTS, "no list 'place'"),
        ("__place__", {}, "no list 'place'"),
        ("__a__", {"a": ["__b__"], "b": ["__a__"]}, "without end"),
    ],
)
def test_a_list_that_is_not_there_or_has_no_end_is_told(prompt, lists, problem):
    with pytest.raises(BespokeError, match=problem):
        expanded(prompt, lists, 1)


@pytest.mark.parametrize(
    ("prompt", "words", "adapters"),
    [
        ("a cat", "a cat", {}),
        ("a cat <lora:style:0.8>", "a cat", {"style": 0.8}),
        ("<lora:style> a cat", "a cat", {"style": 1.0}),
        (
            "a cat <lora:style:0.5>, red <lora:style:0.25> <lyco:my thing:-1>",
            "a cat, red",
            {"style": 0.75, "my thing": -1},
        ),
    ],
)
def test_what_a_prompt_calls_is_parted_from_its_words(prompt, words, adapters):
    assert called(prompt) == (words, adapters)


def test_a_weight_that_is_no_number_is_told():
    with pytest.raises(BespokeError, match="no weight that is a number"):
        called("a cat <lora:style:0.5:OUTD>")
