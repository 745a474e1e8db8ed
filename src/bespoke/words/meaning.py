"""What a word means, by its gloss or its neighbours, and whether the model knows it already."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bespoke.models import written
from bespoke.seeds import permutation
from bespoke.words.anchors import Neighbour, whole_words
from bespoke.words.lessons import PADS, TOGETHER, Context, Reader

TEACHERS = 4
"""So many neighbours say together what a word means."""
PROBES = tuple(Context(left, right) for left, right in (("a photo of a", ""), ("a picture of a", ""), ("the", "")))
OTHERS, CERTAIN = 64, 0.95
_INNER = re.compile(r"[a-z]+")
_ARTICLE = re.compile(r"^(?:a|an|the|some) ")

Source = Literal["gloss", "neighbours", ""]


@dataclass(frozen=True)
class Meaning:
    """What can stand in a word's place: the tokens of its gloss or, each for itself, its nearest neighbours."""

    source: Source = ""
    slots: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Standing:
    """Whether a model knows a word: its prompts lie nearer to those of its meaning than those of other words do."""

    known: bool | None = None
    """Nothing where there is neither gloss nor neighbour to tell by."""
    likeness: float = 0.0
    """The cosine of its pooled states and its meaning's, both without what all words share."""
    threshold: float = 0.0
    """What 95 % of 64 whole words stay below, and 95 % of 64 words of as many random pieces."""


def meaning(reader: Reader, gloss: str, neighbours: Sequence[Neighbour]) -> Meaning:
    """The meaning by the gloss, which a person gave, or else by the nearest neighbours."""
    if plain := without_article(gloss):
        return Meaning("gloss", (tuple(reader.pieces(plain)),))
    slots = tuple((neighbour.token,) for neighbour in neighbours[:TEACHERS])
    return Meaning("neighbours", slots) if slots else Meaning()


def without_article(gloss: str) -> str:
    """A gloss as it stands in a word's place."""
    return _ARTICLE.sub("", written(gloss))


class Judge:
    """Tells by a model's own states whether it knows words; what it compares with is drawn once, by the seed.

    Words of random pieces are needed beside whole words: what a model does not know may come near to a meaning only
    because it is not whole.
    """

    def __init__(self, reader: Reader, seed: int) -> None:
        self.reader, self.seed = reader, seed
        self.whole = list(whole_words(reader.tokenizer).values())
        pieces: dict[str, int] = reader.tokenizer.get_vocab()
        self.inner = sorted(number for token, number in pieces.items() if _INNER.fullmatch(token))
        self._pooled_of: dict[int, Tensor] = {}

    def standing(self, pieces: Sequence[int], found: Meaning) -> Standing:
        """Whether the model knows the word that has these pieces and this meaning."""
        if not found.slots or min(len(self.whole), len(self.inner)) < OTHERS:
            return Standing()
        whole, broken = self._others(1), self._others(len(pieces))
        centre = whole.mean(dim=0)
        aim = self._pooled(found.slots).mean(dim=0) - centre
        likeness = float(F.cosine_similarity(self._pooled([pieces])[0] - centre, aim, dim=0))
        usual = [F.cosine_similarity(others - centre, aim[None], dim=1) for others in (whole, broken)]
        threshold = max(float(found.quantile(CERTAIN)) for found in usual)
        return Standing(likeness > threshold, likeness, threshold)

    def _others(self, count: int) -> Float[Tensor, "n d"]:
        """The states of words of so many pieces that nobody wrote; of 1, whole words."""
        if count not in self._pooled_of:
            ends = self._drawn(self.whole, "end", count)
            starts = [self._drawn(self.inner, "inner", count, place) for place in range(count - 1)]
            self._pooled_of[count] = self._pooled(list(zip(*starts, ends, strict=True)))
        return self._pooled_of[count]

    def _drawn(self, tokens: Sequence[int], *key: str | int) -> list[int]:
        return [tokens[n] for n in permutation(len(tokens), self.seed, "other words", *key)[:OTHERS]]

    @torch.no_grad()
    def _pooled(self, slots: Sequence[Sequence[int]]) -> Float[Tensor, "n d"]:
        """The last state of prompts with each slot in their gap, over a few prompts."""
        ids = [self.reader.filled(probe, slot[: self._room]) for slot in slots for probe in PROBES]
        found = [
            row[len(one) - PADS - 1].cpu()
            for start in range(0, len(ids), TOGETHER)
            for row, one in zip(
                self.reader.states(ids[start : start + TOGETHER]), ids[start : start + TOGETHER], strict=True
            )
        ]
        return torch.stack(found).reshape(len(slots), len(PROBES), -1).mean(dim=1)

    @cached_property
    def _room(self) -> int:
        """How many tokens a probe has room for."""
        return self.reader.tokenizer.model_max_length - max(len(self.reader.filled(probe, ())) for probe in PROBES)
