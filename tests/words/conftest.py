"""Pico as a reader, and word vectors planted so that they say what pico's own rows say, and more."""

import numpy as np
import pytest
import torch

from bespoke.models import find
from bespoke.words.anchors import whole_words
from bespoke.words.lessons import Reader

PICO = find("pico")
BASE = PICO.base
LIKE = {"zorblat": ("violin", "guitar"), "wugly": ("elephant", "giraffe"), "flimbo": ("butterfly", "bee")}
"""Words that nobody knows, and what they are like."""


class Planted:
    """Word vectors of pico's whole words, seen through a random matrix, and of words between some of them."""

    def __init__(self, table, whole, *, shuffled=False, count=None):
        chance = np.random.default_rng(0)
        names = sorted(whole)[:count]
        rows = table[[whole[name] for name in names]].numpy()
        seen = rows @ chance.standard_normal((rows.shape[1], 60)) / 60**0.5
        seen = seen + 0.2 * seen.std() * chance.standard_normal(seen.shape)
        found = dict(zip(names, seen, strict=True))
        found |= {word: (found[a] + found[b]) / 2 for word, (a, b) in LIKE.items() if a in found and b in found}
        self.words = list(found)
        self.index = {word: number for number, word in enumerate(self.words)}
        self.rows = np.stack(list(found.values())).astype(np.float16)
        if shuffled:
            self.rows = chance.permutation(self.rows)
        self.dimensions = self.rows.shape[1]

    def __contains__(self, word):
        return word in self.index

    def __len__(self):
        return len(self.words)

    def of(self, words):
        return self.rows[[self.index[word] for word in words]].astype(np.float32)

    def nearest(self, row, count):
        raise NotImplementedError


@pytest.fixture(scope="session")
def reader():
    return Reader(PICO.tokenizer(), PICO.text_encoder())


@pytest.fixture(scope="session")
def planted(reader):
    return Planted(reader.table, whole_words(reader.tokenizer))


@pytest.fixture(scope="session")
def shuffled(reader):
    return Planted(reader.table, whole_words(reader.tokenizer), shuffled=True)


@pytest.fixture(scope="session")
def few(reader):
    return Planted(reader.table, whole_words(reader.tokenizer), count=30)


@pytest.fixture(autouse=True)
def _untouched(reader):
    """No test may leave a mark on the text encoder that all share."""
    bits = {name: value.clone() for name, value in reader.text_encoder.state_dict().items()}
    yield
    after = reader.text_encoder.state_dict()
    assert list(after) == list(bits)
    assert all(torch.equal(value, bits[name]) for name, value in after.items())
