"""The words that call a style, found in its captions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.text import common_trigger, plain

WORD = st.text("abcdefghijklmnop", min_size=2, max_size=6).filter(
    lambda w: w not in {"of", "on", "in", "at", "by", "an"}
)


@pytest.mark.parametrize(
    ("captions", "trigger"),
    [
        (["8bit illustration of a fox", "8bit illustration of city view"], "8bit illustration"),
        (["oil painting, a fox", "oil painting, two cats"], "oil painting"),
        (["a fox", "a cat"], ""),
        (["a fox", "the cat"], ""),
        (["8bit illustration of a fox", "8bit illustration"], ""),
        (["8bit illustration of a fox"], ""),
        ([], ""),
        (["sks dog on grass", "sks dog in snow"], "sks dog"),
    ],
)
def test_the_trigger_is_what_all_captions_begin_with(captions: list[str], trigger: str) -> None:
    assert common_trigger(captions) == trigger


@pytest.mark.parametrize(
    ("caption", "trigger", "rest"),
    [
        ("8bit illustration of a fox", "8bit illustration", "a fox"),
        ("8bit illustration of city view", "8bit illustration", "city view"),
        ("oil painting, the sea", "oil painting", "the sea"),
        ("a fox", "8bit illustration", "a fox"),
        ("on a hill", "8bit illustration", "on a hill"),
        ("a fox", "", "a fox"),
    ],
)
def test_plain_leaves_what_the_picture_shows(caption: str, trigger: str, rest: str) -> None:
    assert plain(caption, trigger) == rest


@given(st.lists(WORD, min_size=1, max_size=3), st.lists(st.lists(WORD, min_size=1, max_size=3), min_size=2, max_size=5))
def test_trigger_and_rest_make_up_every_caption(first: list[str], rests: list[list[str]]) -> None:
    captions = [" ".join([*first, "of", "a", *rest]) for rest in rests]
    trigger = common_trigger(captions)
    for caption in captions:
        assert caption.startswith(trigger)
        assert caption.endswith(plain(caption, trigger))
        assert plain(caption, trigger)
    if len({rest[0] for rest in rests}) > 1:
        assert trigger == " ".join(first)
