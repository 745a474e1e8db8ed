"""The lexicon and its candidates with CLIP's real vocabulary; skipped where `make clip-table` was not run."""

import csv
from pathlib import Path

import pytest
from pico.words import CORPUS, JARGON, SMALL, VECTORS
from tokenizers import AddedToken

from bespoke.text.candidates import candidates
from bespoke.text.corpus import counted_words
from bespoke.text.lexicon import Lexicon
from bespoke.text.terms import Terms
from bespoke.text.vectors import vectors

EXAMPLE = Path(__file__).parents[2] / "examples" / "8bit" / "train" / "metadata.csv"


@pytest.fixture
def captions():
    """The example's captions, in which things have their invented names."""
    with EXAMPLE.open(encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    for word, meaning in JARGON.items():
        texts = [f"{text} ".replace(f" {meaning} ", f" {word} ").strip() for text in texts]
    return texts


@pytest.fixture
def lexicon(captions, real_clip, tmp_path):
    clip = [token[:-4] for token in real_clip.get_vocab() if token.endswith("</w>")]
    known = vectors(SMALL / VECTORS, tmp_path / "cache")
    wiki = counted_words(SMALL / CORPUS)
    return Lexicon.built(captions, lambda text: len(real_clip.tokenize(text)), clip, wiki, known)


def test_the_tokenizer_is_clips(real_clip):
    """Ids that are known from CLIP's own documentation."""
    assert len(real_clip) == 49_408
    assert real_clip("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_the_jargon_costs_more_than_one_token_and_is_chosen(lexicon, captions, real_clip):
    assert all(lexicon.entry(word).pieces > 1 for word in JARGON)
    found = candidates(lexicon, captions, budget=16)
    chosen = {one.word for one in found if one.accepted}
    used = {word for word in JARGON if lexicon.entry(word).domain >= 3}
    assert used and used <= chosen


def test_new_tokens_save_what_was_said_and_leave_all_other_ids(lexicon, captions, real_clip, clip_tables):
    rules = Terms(triggers=("8bit",))
    found = [one for one in candidates(lexicon, captions, rules, budget=16, least_gain=0.0) if one.accepted]
    before = [real_clip(caption)["input_ids"] for caption in captions]
    real_clip.add_tokens([AddedToken(one.word, single_word=True, normalized=True) for one in found])
    after = [real_clip(caption)["input_ids"] for caption in captions]
    assert sum(map(len, before)) - sum(map(len, after)) == sum(one.saved for one in found) > 0
    assert sum(map(len, before)) - 2 * len(captions) == lexicon.facts.tokens
    assert [real_clip.convert_tokens_to_ids(one.word) for one in found] == list(range(49_408, 49_408 + len(found)))
    words = {one.word for one in found}
    for caption, old, new in zip(captions, before, after, strict=True):
        assert (old == new) == words.isdisjoint(caption.split())
    vocabulary, _ = clip_tables
    assert all(real_clip.convert_tokens_to_ids(token) == number for token, number in list(vocabulary.items())[::97])


def test_fertility_falls_by_what_was_saved(lexicon, captions):
    facts = lexicon.facts
    saved = sum(one.saved for one in candidates(lexicon, captions, budget=16) if one.accepted)
    assert 1 <= (facts.tokens - saved) / facts.words < facts.tokens / facts.words < 2
