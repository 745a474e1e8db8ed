"""Texts as CLIP's tokenizer sees them."""

import importlib.resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from bespoke.text.normal import normal, words

# No controls: what counts as space among them differs between Python and the tokenizer's regular expressions.
TEXT = st.text(st.characters(exclude_categories=("C",)))
LETTERS = st.text("abzÄé'’-_ 019.,\u0301\u0391\u03a3İ", max_size=12)


@pytest.fixture(scope="module")
def clip():
    return CLIPTokenizer.from_pretrained(str(importlib.resources.files("bespoke") / "models" / "pico" / "tokenizer"))


@given(TEXT | LETTERS)
def test_normal_twice_is_normal_once(text):
    assert normal(normal(text)) == normal(text)


@given(text=TEXT | LETTERS)
def test_normal_is_what_clips_normaliser_makes(text, clip):
    assert normal(text) == clip.backend_tokenizer.normalizer.normalize_str(text).strip(" ")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The fox's t-shirt,  35mm!", ["the", "fox", "t-shirt", "35mm"]),
        ("don't x-ray 1,000 owls' nests", ["don't", "x-ray", "owls", "nests"]),
        ("cafe\u0301 CAFÉ 12 3-4", ["café", "café"]),
        ("a_b -c- 'd' it’s", ["a", "b", "c", "d", "it"]),
        ("", []),
    ],
)
def test_words(text, found):
    assert words(normal(text)) == found


@given(TEXT | LETTERS)
def test_words_are_in_the_text_and_are_words_themselves(text):
    for word in words(normal(text)):
        assert word in normal(text)
        assert words(word) == [word]
