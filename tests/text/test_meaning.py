"""What captions say: the guard refuses what people find changed, and lets through what they find the same."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.text import Meaning, Speller, Synonyms, curated, words
from bespoke.text.classes import COLOURS, NUMBERS, PREFIX
from bespoke.text.meaning import tokens
from bespoke.text.spelling import slip

with (Path(__file__).parent / "meaning.csv").open(encoding="utf-8", newline="") as file:
    PAIRS = list(csv.DictReader(file))
SPELLER = Speller(Counter(word for pair in PAIRS for word in words(pair["caption"])))


def guard(trigger="", protected=()):
    return Meaning(trigger, protected, Synonyms(curated).same, lambda word, other: slip(word, other, SPELLER.known))


def wrongly(written, kept):
    """The pairs of one half of the set that people judge one way and the guard the other."""
    pairs = [pair for pair in PAIRS if (pair["written"], pair["kept"]) == (written, kept)]
    assert len(pairs) >= 50
    judged = [(pair["caption"], pair["other"], guard().changed(pair["caption"], pair["other"])) for pair in pairs]
    return [each for each in judged if bool(each[2]) == (kept == "yes")]


@pytest.mark.parametrize(("written", "most"), [("before", 2), ("after", 4)])
def test_few_pairs_of_another_meaning_pass_the_rules(written, most):
    assert len(wrongly(written, "no")) <= most


@pytest.mark.parametrize(("written", "most"), [("before", 12), ("after", 13)])
def test_three_of_four_pairs_of_one_meaning_pass_the_rules(written, most):
    assert len(wrongly(written, "yes")) <= most


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("a red car", "a blue car", "a colour"),
        ("two dogs", "three dogs", "a number"),
        ("a house without windows", "a house with windows", "negation"),
        ("a cat left of a dog", "a cat right of a dog", "left or right"),
        ("a cat above a dog", "a cat below a dog", "a relation"),
        ("a big cat", "a small cat", "a size"),
        ("a cat on a mat", "a mat on a cat", "the order"),
        ("a cat on a mat", "a cat on a rat", "the word 'rat'"),
        ("a (red hat:1.3)", "a (red hat:1.1)", "weights"),
        ("a fox", "a fox and a dog", "a relation"),
    ],
)
def test_what_changed_is_named(before, after, reason):
    found = guard().changed(before, after)
    assert found == reason or (before, found) == ("a fox", "the word 'and'")


def test_the_trigger_and_protected_terms_stay_letter_by_letter():
    kept = guard("8bit illustration", ["gray wolf"])
    assert kept.changed("8bit illustration of a fox", "a fox, 8bit illustration") == ""
    assert kept.changed("8bit illustration of a fox", "8bit illustration, a fox") == ""
    assert kept.changed("8bit illustration of a fox", "a fox") == "the protected '8bit illustration'"
    assert (
        kept.changed("8bit illustration of a gray wolf", "8bit illustration of a grey wolf")
        == "the protected 'gray wolf'"
    )


CAPTIONS = [pair["caption"] for pair in PAIRS]


@given(st.sampled_from(CAPTIONS))
def test_a_caption_says_what_it_says(caption):
    assert guard().changed(caption, caption) == ""
    assert guard().changed(caption, caption.upper()) == ""
    assert guard().changed(caption, f"a picture of {caption}") == "" or PREFIX.match(caption)


@settings(max_examples=200)
@given(st.sampled_from(CAPTIONS), st.sampled_from(sorted(COLOURS)), st.sampled_from(sorted(COLOURS)))
def test_no_colour_ever_passes_for_another(caption, colour, other):
    found = guard().changed(f"{caption}, {colour}", f"{caption}, {other}")
    assert (found == "") == (colour == other)


@given(st.sampled_from(CAPTIONS), st.sampled_from(sorted(NUMBERS)), st.sampled_from(sorted(NUMBERS)))
def test_no_number_ever_passes_for_another_and_digits_are_numbers(caption, number, other):
    found = guard().changed(f"{number} of these, {caption}", f"{NUMBERS[other]} of these, {caption}")
    assert (found == "") == (number == other)


@given(st.sampled_from(CAPTIONS), st.sampled_from(CAPTIONS))
def test_captions_of_other_clauses_say_something_else_and_it_does_not_matter_which_is_first(caption, other):
    there, back = guard().changed(caption, other), guard().changed(other, caption)
    assert bool(there) == bool(back) or sorted(tokens(caption)) != sorted(tokens(other))


def test_places_in_front_belong_behind_what_comes_next():
    assert guard().changed("two dogs on a beach", "on a beach, two dogs") == ""
    assert guard().changed("a cat, a dog on a beach", "on a beach, a cat, a dog") != ""
