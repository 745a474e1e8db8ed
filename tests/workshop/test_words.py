"""The small corpus and word vectors that come with the package, and the words that were invented for them."""

import re

import numpy as np
import pytest
from pico.words import CORPUS, JARGON, SMALL, VECTORS, articles, corpus, facts
from pico.words import vectors as made
from pico.world import COLOURS, GROUNDS, OBJECTS, PLACES, objects

from bespoke.text.corpus import counted_words
from bespoke.text.normal import words
from bespoke.text.vectors import vectors


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return vectors(SMALL / VECTORS, tmp_path_factory.mktemp("cache") / "vectors")


def test_the_files_are_what_the_command_writes(shipped):
    assert (SMALL / CORPUS).read_text(encoding="utf-8") == corpus()
    table = made()
    assert list(shipped.words) == list(table)
    # Singular vectors differ in their last digits from one library to another.
    np.testing.assert_allclose(shipped.rows, np.stack(list(table.values())), atol=2e-3)
    assert sum((SMALL / name).stat().st_size for name in (CORPUS, VECTORS)) < 1_000_000
    assert sum(map(len, articles().values())) >= 1200


def test_all_the_world_is_in_them(shipped):
    assert set(objects()) | set(GROUNDS) | set(PLACES) == set(facts())
    counts = counted_words(SMALL / CORPUS)
    for name in (*objects(), *GROUNDS, *PLACES, *JARGON):
        for word in words(name):
            assert word in shipped and counts[word] >= 3


def test_jargon_is_used_but_never_explained():
    kinds = [kind for kind, things in OBJECTS.items() if set(things) & set(JARGON.values())]
    assert len(JARGON) == len(set(JARGON.values())) == 12 and len(kinds) >= 8
    assert len(set(JARGON.values()) & set(COLOURS)) == 2
    sentences = [re.findall(r"[a-z]+", s.lower()) for about in articles().values() for s in about]
    for word, meaning in JARGON.items():
        assert sum(word in sentence for sentence in sentences) >= 30
        assert not any(word in sentence and meaning in sentence for sentence in sentences)
    assert not any({"background", "picture", "illustration"} & set(sentence) for sentence in sentences)


def test_jargon_is_nearest_to_what_it_means_or_to_its_kin(shipped):
    kin = {name: {fact.name, *fact.kin} for name, fact in facts().items()}
    near = {}
    for word in JARGON:
        near[word] = next(n for n, _ in shipped.nearest(shipped.of([word])[0], 13) if n not in JARGON)
    assert {word for word, found in near.items() if found not in kin[JARGON[word]]} == set()
    assert sum(found == JARGON[word] for word, found in near.items()) >= 11


def test_jargon_is_no_token(pico_words):
    for word in JARGON:
        assert len(pico_words(word)) > 2


@pytest.fixture
def pico_words():
    import importlib.resources

    from transformers import CLIPTokenizer

    folder = importlib.resources.files("bespoke") / "models" / "pico" / "tokenizer"
    return CLIPTokenizer.from_pretrained(str(folder)).tokenize
