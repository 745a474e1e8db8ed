"""Words that may stand for one another: by our list, by WordNet, by vectors; never opposites or measures."""

import itertools

import numpy as np
import pytest
import wn
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.text import Synonyms, curated, neighbours, wordnet
from bespoke.text.classes import opposed
from bespoke.text.synonyms import _groups, alone

LISTED = sorted(_groups())


@given(st.sampled_from(LISTED))
def test_the_list_is_symmetric_and_no_word_is_its_own_synonym(word):
    assert word not in curated(word)
    assert all(word in curated(other) for other in curated(word))


def test_no_word_is_in_two_groups_and_none_holds_opposites():
    groups = {frozenset((word, *curated(word))) for word in LISTED}
    assert sum(map(len, groups)) == len(LISTED)
    assert not any(opposed(one, other) for group in groups for one, other in itertools.combinations(group, 2))


def test_plurals_have_plural_synonyms():
    assert "automobiles" in curated("cars")
    assert "bunnies" in curated("rabbits")
    assert curated("glass") == []


@pytest.mark.parametrize(
    ("before", "word", "after", "stands"),
    [
        ("a", "car", "on", True), ("red", "car", "", True), ("police", "car", "", False), ("", "sea", "lion", False),
        ("a", "flower", "pot", False), ("the", "car", "parked", True), ("a", "big", "lion", True),
        ("very", "happy", "dog", True),
    ],
)  # fmt: skip
def test_a_word_of_a_name_of_several_does_not_stand_alone(before, word, after, stands):
    assert alone(before, word, after) is stands


class Space:
    """Words on a circle: near is alike."""

    degrees = {"boat": 0, "ship": 10, "vessel": 20, "red": 5, "automobile": 90, "truck": 95, "car": 92}  # noqa: RUF012

    def __contains__(self, word):
        return word in self.degrees

    def of(self, words):
        angles = np.radians([self.degrees[word] for word in words])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def nearest(self, row, count):
        found = [(word, float(self.of([word])[0] @ row)) for word in self.degrees]
        return sorted(found, key=lambda pair: -pair[1])[:count]


def test_neighbours_are_near_say_no_measure_and_come_from_no_other_group():
    source = neighbours(Space())
    assert source("boat") == ("ship", "vessel")
    assert "truck" not in source("car")  # our list has both, in two groups
    assert "automobile" in source("car")
    assert source("red") == ()
    assert source("unknown") == ()


LMF = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.0.dtd">
<LexicalResource xmlns:dc="http://purl.org/dc/elements/1.1/">
<Lexicon id="own" label="own" language="en" email="a@b.c" license="own" version="1" url="">
{entries}
<Synset id="own-1-n" ili="" partOfSpeech="n"/>
{more}
</Lexicon></LexicalResource>"""


def entry(word, synsets):
    senses = "".join(f'<Sense id="own-{word}-{s}" synset="own-{s}-n"/>' for s in synsets)
    return f'<LexicalEntry id="own-{word}"><Lemma writtenForm="{word}" partOfSpeech="n"/>{senses}</LexicalEntry>'


@pytest.fixture
def own_wordnet(tmp_path, monkeypatch):
    """A WordNet of our own in WordNet's own format, read by `wn`."""
    monkeypatch.setattr(wn.config, "data_directory", tmp_path / "wn")
    entries = [entry("dog", [1]), entry("hound", [1]), entry("bank", [2, 3, 4]), entry("shore", [2])]
    synsets = "".join(f'<Synset id="own-{n}-n" ili="" partOfSpeech="n"/>' for n in (2, 3, 4))
    file = tmp_path / "own.xml"
    file.write_text(LMF.format(entries="".join(entries), more=synsets), encoding="utf-8")
    wn.add(file, progress_handler=None)
    return "own:1"


def test_wordnet_gives_synonyms_of_words_with_few_senses(own_wordnet):
    source = wordnet(own_wordnet)
    assert list(source("dog")) == ["hound"]
    assert list(source("bank")) == []
    assert Synonyms(curated, source).same("hound", "dog")


def test_a_wordnet_that_is_not_here_is_told_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(wn.config, "data_directory", tmp_path / "empty")
    with pytest.raises(BespokeError, match="not on this machine"):
        wordnet("oewn:2024")
