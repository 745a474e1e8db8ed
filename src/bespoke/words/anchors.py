"""A text encoder's whole words turned into anchors: words that word vectors know too, and a new word's nearest ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from bespoke.words.mapping import Frame

LEAST_LIKE = 0.3
"""A word whose nearest neighbour is less like it, as a cosine, has none."""
_END = "</w>"
_WHOLE = re.compile(r"[a-z]{2,}</w>")


@runtime_checkable
class Vectors(Protocol):
    """Word vectors, such as those of `text`."""

    @property
    def words(self) -> Sequence[str]:
        """The words, in the order of their rows."""
        ...

    def __contains__(self, word: object) -> bool: ...

    def of(self, words: Sequence[str]) -> np.ndarray:
        """The rows of words, float32 [n d]."""
        ...


@dataclass(frozen=True)
class Neighbour:
    """A word near another one."""

    word: str
    token: int
    cosine: float


@dataclass(frozen=True, eq=False)
class Anchors:
    """Whole words that both sides know, in the order of their token ids."""

    words: tuple[str, ...]
    tokens: tuple[int, ...]
    vectors: Float[np.ndarray, "n d"]
    rows: Float[np.ndarray, "n e"]

    @staticmethod
    def of(whole: Mapping[str, int], vectors: Vectors, table: Float[np.ndarray, "v e"]) -> "Anchors":
        """The anchors among a tokenizer's whole words, with their rows of a text encoder's table."""
        words = tuple(word for word in whole if word in vectors)
        tokens = tuple(whole[word] for word in words)
        found = np.asarray(vectors.of(words), np.float32) if words else np.zeros((0, 1), np.float32)
        return Anchors(words, tokens, found, table[list(tokens)].astype(np.float32))

    def nearest(self, vector: Float[np.ndarray, " d"], count: int) -> tuple[Neighbour, ...]:
        """The anchors nearest to a vector, both without what all words share; none where all are far."""
        if len(self.words) <= count:
            return ()
        frame, inside = self._framed
        likeness = inside @ frame.inside(vector[None])[0]
        order = np.argsort(-likeness, kind="stable")[:count]
        if likeness[order[0]] < LEAST_LIKE:
            return ()
        return tuple(Neighbour(self.words[n], self.tokens[n], float(likeness[n])) for n in order)

    @cached_property
    def _framed(self) -> tuple[Frame, Float[np.ndarray, "n d"]]:
        frame = Frame.of(self.vectors)
        return frame, frame.inside(self.vectors)


def whole_words(tokenizer: Any) -> dict[str, int]:
    """The words of the letters a to z that are one token of CLIP's, and their ids, in order of these."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    ordered = sorted(vocabulary.items(), key=lambda item: item[1])
    return {token.removesuffix(_END): number for token, number in ordered if _WHOLE.fullmatch(token)}


def vector_of(word: str, vectors: Vectors) -> Float[np.ndarray, " d"] | None:
    """The vector of a word or, of a term whose parts alone are known, their mean direction; nothing if one is not."""
    if word in vectors:
        return np.asarray(vectors.of([word]), np.float32)[0]
    parts = [part for part in re.split(r"[\s-]+", word) if part]
    if len(parts) < 2 or not all(part in vectors for part in parts):
        return None
    rows = np.asarray(vectors.of(parts), np.float32)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).mean(axis=0)
