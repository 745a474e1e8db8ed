"""What tests of texts share: tokenizers."""

import importlib.resources

import pytest


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
