"""What tests of new words in Stable Diffusion 3 share: the words, and plain pipelines that are extended by hand."""

import numpy as np
import torch
from PIL import Image
from torch import nn

import bespoke
from bespoke.models import NewWords, Word, find
from bespoke.models.bases import ENCODERS
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.naming import named
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from tests.flow.tiny import project_of

PARTS = {name: part for part, name in ENCODERS.items()}
"""The folder of each text encoder, by what files call its rows."""
PROMPT = "a vulpenor on a hill"
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)


VULPENORS = [f"a vulpenor {'on a hill' if number % 2 else 'by a house'}" for number in range(8)]
"""Captions with a word that is new."""


def spoken_project(base, factory):
    """A project whose captions have a new word of two rows, which a file has."""
    root = project_of(base, factory, VULPENORS)
    words_of(base, (Word("vulpenor"), 2)).save(root / FILE)
    return root


def words_of(base, *words, t5=True):
    checkpoint = find(str(base))
    parts = checkpoint.rows_for | (checkpoint.rows_besides if t5 else {})
    return NewWords.of(checkpoint.base_with(*parts), [
        (word, {
            name: torch.randn(
                count, checkpoint.table(part).shape[1],
                generator=torch.Generator().manual_seed(count + len(name + word.surface)),
            )
            for name, part in parts.items()
        })
        for word, count in words
    ])  # fmt: skip


def drawn(model, prompt=PROMPT):
    (one,) = draw(named(str(model)).pipeline(), [Request(prompt, 3)], WISH)
    return np.asarray(one.picture, int)


def with_words(base, prompt, folder, file):
    """What `bespoke sample --words` draws."""
    done = bespoke.sample(str(base), [prompt], out=folder / "drawn", seed=3, settings=WISH, words=[str(file)])
    return np.asarray(Image.open(done.pictures[0]).convert("RGB"), int)


def extended_by_hand(pipeline, word, rows):
    """A plain pipeline whose tokenizers and tables have a word's rows, as one would write it with transformers."""
    names = [word, *(f"{word}_{number}" for number in range(1, len(next(iter(rows.values())))))]
    tables = {}
    for encoder, own in rows.items():
        part = PARTS[encoder]
        tokenizer, network = (
            getattr(pipeline, part.replace("text_encoder", kind)) for kind in ("tokenizer", part[:12])
        )
        assert tokenizer.add_tokens(names) == len(own)
        size = len(tokenizer)
        table = network.get_input_embeddings().weight.detach()
        whole = nn.Embedding.from_pretrained(torch.cat([table[: size - len(own)], own, table[size:]]), freeze=False)
        network.set_input_embeddings(whole)
        network.config.eos_token_id = tokenizer.eos_token_id
        tables[encoder] = whole
    return tables


def by_hand(prompt, count=2):
    """A prompt with the names of all rows of the word, which Stable Diffusion 3's pipeline does not put there."""
    return prompt.replace("vulpenor", " ".join(["vulpenor", *(f"vulpenor_{n}" for n in range(1, count))]))
