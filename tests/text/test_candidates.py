"""The few words that are worth a token of their own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from bespoke.errors import BespokeError
from bespoke.text.candidates import candidates
from bespoke.text.lexicon import Lexicon
from bespoke.text.normal import normal
from bespoke.text.terms import Terms
from bespoke.text.vectors import vectors


@pytest.fixture
def pieces(pico_clip):
    return lambda text: len(pico_clip.tokenize(text))


@pytest.fixture
def build(pico_clip, pieces):
    clip = [token[:-4] for token in pico_clip.get_vocab() if token.endswith("</w>")]

    def built(captions, terms=None, wiki=None, vectors=None):
        return Lexicon.built(captions, pieces, clip, wiki, vectors, terms)

    return built


def chosen(found):
    return [one.word for one in found if one.accepted]


def reasons(found):
    return {one.word: one.reason for one in found}


def tokens_with(clip, found, captions):
    for one in found:
        clip.add_tokens([AddedToken(s, single_word=True, normalized=True) for s in one.surfaces if one.accepted])
    return sum(len(clip.tokenize(caption)) for caption in captions)


CAPTIONS = [
    "a vulpenor on a red background", "the Vulpenor's carbon fiber car", "a fox, carbon fiber, on a vulpenor",
    "a carbon car and 35mm of fiber", "vulpenors, 35 mm", "a xylograph", "xylograph and a zyzzyva",
    "a zyzzyva, zyzzyva",
]  # fmt: skip


def test_words_that_save_tokens_are_taken_and_each_refusal_has_its_reason(build):
    found = candidates(build(CAPTIONS), CAPTIONS)
    assert chosen(found) == ["vulpenor"]  # the budget of half a percent is one token
    why = reasons(found)
    assert why["vulpenor"].startswith("it saves 15 of")
    assert why["red"] == "CLIP has it as one token already"
    assert why["xylograph"] == "captions have it 2 times, fewer than 3"
    assert why["zyzzyva"] == "the budget of 1 tokens is spent"
    assert [one.accepted for one in found] == sorted((one.accepted for one in found), reverse=True)


def test_a_word_of_one_caption_is_refused(build):
    captions = ["zyzzyva zyzzyva zyzzyva", "a fox"]
    assert reasons(candidates(build(captions), captions))["zyzzyva"] == "one caption alone has it"


def test_terms_force_ban_and_join(build):
    rules = Terms(
        multiword=("carbon fiber", "polka dot"), units=("mm",), triggers=("xylograph",), banned=("zyzzyva",),
        aliases={"vulpenor": ("vulpenors",)},
    )  # fmt: skip
    lexicon = build(CAPTIONS, rules)
    found = candidates(lexicon, CAPTIONS, rules)
    by_word = {one.word: one for one in found}
    assert set(chosen(found)) == {"carbon fiber", "xylograph", "vulpenor"}
    assert by_word["vulpenor"].surfaces == ("vulpenor", "vulpenors")
    assert by_word["35 mm"].surfaces == ("35 mm", "35mm") and "fewer than 3" in by_word["35 mm"].reason
    assert by_word["polka dot"].reason == "no caption has it"
    assert by_word["zyzzyva"].reason == "the terms ban it"
    assert candidates(lexicon, CAPTIONS, rules, budget=0)[0].accepted is False
    with pytest.raises(BespokeError, match="does not know “carbon fiber”"):
        candidates(build(CAPTIONS), CAPTIONS, rules)


def test_nothing_is_a_result(build):
    captions = ["a red car on a blue background"] * 5
    found = candidates(build(captions), captions, budget=9)
    assert chosen(found) == []
    assert {one.reason for one in found} == {"CLIP has it as one token already"}
    assert candidates(build([]), []) == []


def test_what_saves_little_is_refused(build):
    captions = [*CAPTIONS[5:], "a zyzzyva", *["a red car"] * 3000]
    assert "fewer than 46" in reasons(candidates(build(captions), captions))["zyzzyva"]
    assert "zyzzyva" in chosen(candidates(build(captions), captions, least_gain=0.0))


def test_slips_are_refused_unless_people_write_them(build, tmp_path):
    captions = ["a halbard", "one halbard", "the halbard", "a vulpenor", "one vulpenor", "the vulpenor"]
    wiki = {"halberd": 100, "vulpenol": 49}
    why = reasons(candidates(build(captions, None, wiki), captions, budget=9))
    assert why["halbard"] == "it looks like a slip of “halberd”, which is 50 times as frequent"
    assert why["vulpenor"].startswith("it saves")
    (tmp_path / "glove.txt").write_text("halbard 1 2\n")
    known = vectors(tmp_path / "glove.txt", tmp_path / "cache")
    assert "halbard" in chosen(candidates(build(captions, None, wiki, known), captions, budget=9))
    rules = Terms(triggers=("halbard",))
    assert "halbard" in chosen(candidates(build(captions, rules, wiki), captions, rules, budget=9))


PARTS = st.sampled_from(
    ["vulpenor", "zyzzyva", "kelp", "kelp-bed", "quixo", "zyzzyva kelp", "kelp quixo", "fox", ",", "'s"]
)
TEXTS = st.lists(st.lists(PARTS, min_size=1, max_size=7).map(" ".join), min_size=2, max_size=12)


@settings(max_examples=40)
@given(captions=TEXTS, budget=st.integers(0, 6), multiword=st.sets(st.sampled_from(["zyzzyva kelp", "kelp quixo"])))
def test_tokens_before_less_tokens_after_is_the_sum_of_what_was_saved(captions, budget, multiword, fresh_clip):
    clip = fresh_clip()
    rules = Terms(multiword=tuple(multiword))
    names = [token[:-4] for token in clip.get_vocab() if token.endswith("</w>")]
    lexicon = Lexicon.built(captions, lambda text: len(clip.tokenize(text)), names, terms=rules)
    found = candidates(lexicon, captions, rules, budget, least_gain=0.0)
    assert len(chosen(found)) <= budget
    assert lexicon.facts.tokens == sum(len(clip.tokenize(normal(caption))) for caption in captions)
    after = tokens_with(clip, found, captions)
    assert lexicon.facts.tokens - after == sum(one.saved for one in found if one.accepted)
    assert all(one.saved > 0 for one in found if one.accepted)
