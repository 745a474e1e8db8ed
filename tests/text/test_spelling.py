"""Misspelt words and their repair: one is the other's inverse, as far as repair is sure."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from pico.reading import distance

from bespoke.seeds import generator
from bespoke.text import Speller
from bespoke.text.spelling import common, edits, misspelt, slip

WORDS = [
    "elephant", "umbrella", "giraffe", "mountain", "strawberry", "butterfly", "castle", "helicopter", "turquoise",
]  # fmt: skip
SPELLER = Speller(dict.fromkeys(WORDS, 1.0))


@given(st.sampled_from(WORDS), st.integers(0, 10_000))
def test_a_misspelt_word_is_no_word_keeps_its_first_letter_and_is_near(word, seed):
    wrong = misspelt(word, generator("test", seed), SPELLER.known)
    assert wrong != word
    assert wrong[0] == word[0]
    assert not SPELLER.known(wrong)
    assert distance(wrong, word) <= 1 or common()[wrong] == word


@given(st.sampled_from(WORDS), st.integers(0, 10_000))
def test_repair_undoes_what_misspelling_did(word, seed):
    assert SPELLER.meant(misspelt(word, generator("test", seed), SPELLER.known)) == word


@given(st.text("abcxyz", min_size=1, max_size=5), st.text("abcxyz", min_size=1, max_size=5))
def test_edits_are_all_words_one_mistake_away(one, other):
    """The world's reader counts mistakes with code of its own."""
    assert (other in edits(one)) == (distance(one, other) == 1)


def test_the_more_frequent_word_is_meant_only_if_it_is_clearly_more_frequent():
    assert Speller({"mouse": 20.0, "moose": 1.0}).meant("moise") == "mouse"
    assert Speller({"mouse": 2.0, "moose": 1.0}).meant("moise") == "moise"


def test_a_text_is_mended_word_by_word_and_what_is_known_stays():
    speller = Speller(Counter(["a", "small", "elephant", "under", "the", "umbrella", "near", "elephants"]))
    text, changed = speller.mended("A small Elefant, under the umbrela; two elephants (xqzzt)")
    assert text == "A small Elephant, under the umbrella; two elephants (xqzzt)"
    assert changed == {"Elefant": "Elephant", "umbrela": "umbrella"}


def test_a_slip_is_never_a_word():
    known = Speller({"bear": 1, "beer": 1, "fresh": 1}).known
    assert not slip("beer", "bear", known)
    assert slip("frsh", "fresh", known)
    assert not slip("frsh", "bear", known)


def test_every_listed_mistake_is_a_mistake():
    listed = common()
    assert len(listed) > 150
    assert not set(listed) & set(listed.values())
    assert all(wrong == wrong.lower() and wrong != right for wrong, right in listed.items())
