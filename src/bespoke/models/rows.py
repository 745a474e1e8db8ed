"""A recipe that trains rows of new words turned into the words that it means, checked, and T5 made ready for them."""

from typing import Any

import torch
from torch import nn

from bespoke.errors import BespokeError
from bespoke.models.bases import T5
from bespoke.models.load import Checkpoint
from bespoke.models.quietly import quiet
from bespoke.models.vocabulary import NewWords
from bespoke.recipe.tree import Recipe


def words_of(checkpoint: Checkpoint, recipe: Recipe) -> NewWords:
    """The new words whose rows a recipe trains.

    Raises: BespokeError when there are none, or all of the text encoder is trained anyway; when rows for T5 are to be
    trained, also when there is no T5, they are not there, or in float16.
    """
    words = checkpoint.new_words
    if words is None:
        hint = "Make some with: bespoke words build DATASET, and name them: --set words.file=words/words.safetensors"
        raise BespokeError("There are no new words whose rows could be trained.", hint)
    if recipe.model.method == "full" and recipe.train.train_text_encoder:
        hint = "Take words.train out of the recipe."
        raise BespokeError("All of the text encoder is trained, the rows of new words among it.", hint)
    if recipe.trains_t5:
        _check_t5(checkpoint, words, recipe)
    return words


def _check_t5(checkpoint: Checkpoint, words: NewWords, recipe: Recipe) -> None:
    """Raises: BespokeError when new words have no rows for T5 that could be trained."""
    checkpoint.t5()
    if T5 not in words.rows:
        hint = "Build the words again with words.t5 = true, or take it out: T5 reads their pieces then."
        raise BespokeError("words.t5 is set, and the new words have no rows for T5.", hint)
    if recipe.train.mixed_precision == "fp16":
        hint = 'Set train.mixed_precision = "bf16" or "no", or take words.t5 out.'
        raise BespokeError("T5's inner values are too large for fp16, in which its rows cannot be trained.", hint)


def still(t5: Any, dtype: torch.dtype) -> None:
    """Lets a T5 that only reads answer in training as it does in drawing, without dropout, in place.

    Its weights are kept in bfloat16 where that is asked for; float16 is too narrow for it.
    """
    if dtype == torch.bfloat16:
        with quiet():
            t5.to(dtype)
    for module in t5.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # its layers of attention have the share alone
