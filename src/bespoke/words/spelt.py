"""New words given rows for T5, made of its table alone: T5 itself is not asked, and not read."""

import re
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bespoke.models import Checkpoint, NewWords, Word
from bespoke.models.bases import T5
from bespoke.words.meaning import without_article
from bespoke.words.report import Method
from bespoke.words.rows import Row, scaled

_WHOLE = re.compile(r"▁[a-z]{2,}")


def with_t5(words: NewWords, checkpoint: Checkpoint, method: Method) -> NewWords:
    """The same words with a row of each for T5, too: the mean of its gloss's pieces, or of its own where it has none.

    It has the median norm of whole words' rows, as CLIP's have. `method` "subwords" leaves glosses out; the others do
    for T5 what "tournament" does without a tournament: its prompts are not read, as it is large.

    Raises: BespokeError when there is no T5, its table cannot be read, or it has a word as a piece already.
    """
    folder, encoder = checkpoint.t5()
    tokenizer, table = checkpoint.tokenizer(folder), checkpoint.table(encoder)
    norm = _usual_norm(tokenizer, table)

    def row(word: Word) -> Row:
        said = ("" if method == "subwords" else without_article(word.gloss)) or word.surface
        pieces = tokenizer(said, add_special_tokens=False, verbose=False).input_ids
        return scaled(table[pieces].mean(dim=0), norm)

    made = [(word, {**rows, T5: row(word)[None]}) for word, rows in words.entries()]
    found = NewWords.of(checkpoint.base_with(T5), made)
    found.extended(tokenizer, T5)  # which refuses what it knows already
    return found


def _usual_norm(tokenizer: Any, table: Float[Tensor, "v d"]) -> float:
    """The median norm of the rows of whole words; of all where there are none."""
    whole = sorted(number for token, number in tokenizer.get_vocab().items() if _WHOLE.fullmatch(token))
    rows = table[whole] if whole else table[: len(tokenizer)]
    return float(rows.norm(dim=1).median())
