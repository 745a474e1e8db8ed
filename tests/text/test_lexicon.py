"""The master vocabulary."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.text.lexicon import Entry, Facts, Lexicon
from bespoke.text.normal import words
from bespoke.text.terms import Terms
from bespoke.text.vectors import vectors

CAPTIONS = ["A Halberd on a carbon  fiber rack", "the halberd's carbon fiber, 35mm", "the halberd's carbon fiber, 35mm"]
CLIP = ["the", "a", "on", "rack", "carbon", "fox", "'s", "!"]
WIKI = {"the": 900, "fox": 40, "rare": 4, "common": 5, "halberd": 2}
TERMS = Terms(multiword=("carbon fiber",), units=("mm",), aliases={"halberd": ("pole axe",)})


def pieces(text):
    """A stand-in for a tokenizer: two letters a piece, and nothing across spaces."""
    return sum(math.ceil(len(word) / 2) for word in text.split())


@pytest.fixture
def glove(tmp_path):
    names = ["the", "<user>", "fox", "halberd", "12"]
    (tmp_path / "glove.txt").write_text("".join(f"{name} {n} 1\n" for n, name in enumerate(names)))
    return vectors(tmp_path / "glove.txt", tmp_path / "cache")


@pytest.fixture
def lexicon(glove):
    return Lexicon.built(CAPTIONS, pieces, CLIP, Counter(WIKI), glove, TERMS)


def test_an_entry_has_what_each_source_knows(lexicon):
    assert lexicon.entry("Halberd") == Entry("halberd", 4, False, 2, 3, 3, 3)
    assert lexicon.entry("halberd").vector
    assert lexicon.entry("carbon fiber") == Entry("carbon fiber", 6, False, 0, None, 3, 3)
    assert lexicon.entry("35mm") == Entry("35mm", 2, False, 0, None, 2, 2)
    assert lexicon.entry("the") == Entry("the", 1, True, 900, 0, 2, 2)
    assert lexicon.entry("a") == Entry("a", 1, True, 0, None, 2, 1)
    assert lexicon.entry("pole axe") == Entry("pole axe", 4, False, 0, None, 0, 0)
    assert lexicon.entry("zebra") is None
    assert "FOX" in lexicon and "rare" not in lexicon and "<user>" not in lexicon and "!" not in lexicon


def test_words_of_each_source(lexicon):
    assert lexicon.words("clip") == ["a", "carbon", "fox", "on", "rack", "the"]
    assert lexicon.words("wiki") == ["common", "fox", "the"]
    assert lexicon.words("social") == ["fox", "halberd", "the"]
    assert lexicon.words("domain") == ["35mm", "a", "carbon fiber", "halberd", "on", "rack", "the"]


def test_facts(lexicon):
    assert lexicon.facts == Facts(3, sum(pieces(" ".join(c.lower().split())) for c in CAPTIONS), 17, 951, 5)


def test_frequency_falls_with_count_and_rank(lexicon):
    said = [lexicon.frequency(word) for word in ("the", "fox", "common", "zebra")]
    assert said == sorted(said, reverse=True)
    assert said[0] == 1 and said[3] == 0 and all(0 < one < 1 for one in said[1:3])
    assert lexicon.frequency("fox") == pytest.approx(max(math.log(41) / math.log(901), 1 - math.log(3) / math.log(6)))


def test_captions_alone_make_a_lexicon():
    lexicon = Lexicon.built(["a fox"], pieces, [])
    assert lexicon.entry("fox") == Entry("fox", 2, False, 0, None, 1, 1)
    assert lexicon.frequency("fox") == 1
    assert (lexicon.words("social"), lexicon.words("clip"), lexicon.words("domain")) == ([], [], ["a", "fox"])
    empty = Lexicon.built([], pieces, [])
    assert len(empty) == 0 and "fox" not in empty and empty.words("wiki") == []


WORDS = st.lists(st.text("abcé'- \U0001f98a", max_size=5), max_size=8)


@settings(max_examples=50)
@given(captions=WORDS, clip=WORDS, wiki=st.dictionaries(st.text("abcdé", min_size=1, max_size=4), st.integers(1, 99)))
def test_what_is_saved_is_loaded(captions, clip, wiki, tmp_path_factory):
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.parquet"
    lexicon = Lexicon.built(captions, pieces, clip, wiki)
    lexicon.save(path)
    loaded = Lexicon.load(path)
    assert loaded.table.equals(lexicon.table) and loaded.facts == lexicon.facts
    for word in {*clip, *wiki, *(word for caption in captions for word in words(caption.lower()))}:
        assert loaded.entry(word) == lexicon.entry(word)
        assert 0 <= loaded.frequency(word) <= 1


def test_files_that_are_no_lexicon(tmp_path):
    import pyarrow
    from pyarrow import parquet

    with pytest.raises(BespokeError, match="There is no lexicon"):
        Lexicon.load(tmp_path / "none.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing PAR1")
    parquet.write_table(pyarrow.table({"word": ["fox"]}), tmp_path / "b.parquet")
    for name in ("a.parquet", "b.parquet"):
        with pytest.raises(BespokeError, match="is no lexicon"):
            Lexicon.load(tmp_path / name)
