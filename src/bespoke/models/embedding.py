"""A text encoder's token table turned into one whose new rows alone can be trained, and back."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.bases import ENCODER
from bespoke.models.vocabulary import NewWords, mend_pooling


class SplitEmbedding(nn.Module):
    """A frozen table, and below it new rows as a parameter of their own: whatever the optimizer does, old rows stay.

    Ids from the table's size on are looked up in `places`, which says the row of each: an alias has its word's row.
    """

    def __init__(self, table: nn.Embedding, rows: Float[Tensor, "n d"], places: Int[Tensor, " t"]) -> None:
        super().__init__()
        self.table = table.requires_grad_(requires_grad=False)
        self.rows = nn.Parameter(rows.detach().float().to(table.weight.device).clone())
        self.places: Tensor
        self.register_buffer("places", places.to(table.weight.device), persistent=False)

    @property
    def weight(self) -> Float[Tensor, "v d"]:
        """The table that a plain embedding of the same answers would have."""
        return torch.cat([self.table.weight, self.rows[self.places].to(self.table.weight)])

    def forward(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """The rows of ids."""
        size = self.table.num_embeddings
        new = ids >= size
        old = self.table(ids.masked_fill(new, 0))
        fresh = F.embedding(self.places[(ids - size).clamp(min=0)], self.rows)
        return torch.where(new[..., None], fresh.to(old), old)


def trainable_rows(text_encoder: Any, words: NewWords, encoder: str = ENCODER) -> nn.Parameter:
    """The words' rows as a parameter to train, in float32; the text encoder looks them up from now on, in place.

    The text encoder may know the words already or not; training begins at the rows in `words`. Nothing else of it
    becomes trainable, and the rows of its own words cannot move.

    Raises: BespokeError when there are no words.
    """
    if not words.words:
        raise BespokeError("There are no new words whose rows could be trained.", "Make some first.")
    table, vocabulary = text_encoder.get_input_embeddings(), words.base.readers[encoder]
    own = (table.table if isinstance(table, SplitEmbedding) else table).weight.detach()[: vocabulary.size]
    split = SplitEmbedding(nn.Embedding.from_pretrained(own, freeze=True), words.rows[encoder], words.places)
    mend_pooling(text_encoder, vocabulary.eos)
    text_encoder.set_input_embeddings(split)
    return split.rows


def settle_rows(text_encoder: Any, words: NewWords, encoder: str = ENCODER) -> NewWords:
    """The words with the rows that were trained; the text encoder has one plain table again, in place.

    Raises: BespokeError when training made rows that are no numbers.
    """
    split = text_encoder.get_input_embeddings()
    assert isinstance(split, SplitEmbedding), "rows settle after `trainable_rows`"
    found = words.with_rows(split.rows, encoder)
    text_encoder.set_input_embeddings(split.table)
    found.extend(text_encoder, encoder)
    return found
