"""What tests of texts share: tokenizers."""

import importlib.resources

import pytest


@pytest.fixture
def pico_clip():
    """pico's tokenizer, to do with as one likes."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(importlib.resources.files("bespoke") / "models" / "pico" / "tokenizer"))
