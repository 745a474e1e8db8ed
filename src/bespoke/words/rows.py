"""A new word turned into rows that it might have, and the best of them by what they do in prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bespoke.models import NewWords, Word
from bespoke.models.bases import ENCODER
from bespoke.seeds import generator, normal
from bespoke.words.anchors import Anchors, Neighbour, Vectors, vector_of, whole_words
from bespoke.words.lessons import Lesson, Reader, graded
from bespoke.words.mapping import Fitted, fit
from bespoke.words.meaning import Meaning

NEAREST = 16
APART = 0.1
"""How far the rows of one word begin from one another, as a part of their length."""
SHARPNESS = 0.1
"""The temperature of the softmax over neighbours' cosines."""
FROM_VECTORS = ("neighbours", "mapped", "blend")

Row = Float[Tensor, " d"]
Vector = Float[np.ndarray, " e"]


@dataclass(frozen=True, eq=False)
class Space:
    """What rows are made from: a text encoder's table and, where there are word vectors, anchors and a map."""

    table: Float[Tensor, "v d"]
    norm: float
    """The median norm of whole words' rows, which every new row gets."""
    whole: Mapping[str, int]
    vectors: Vectors | None
    anchors: Anchors | None
    fitted: Fitted
    """Its `reason` says why no row comes from vectors, where none does."""

    @staticmethod
    def of(reader: Reader, vectors: Vectors | None, seed: int) -> "Space":
        """The space of a text encoder and, if they are given, word vectors."""
        table, whole = reader.table, whole_words(reader.tokenizer)
        rows = table[list(whole.values())] if whole else table
        norm = float(rows.norm(dim=1).median())
        if vectors is None:
            return Space(table, norm, whole, None, None, Fitted(None, 0, (), "there are no word vectors"))
        anchors = Anchors.of(whole, vectors, table.numpy())
        return Space(table, norm, whole, vectors, anchors, fit(anchors.vectors, anchors.rows, seed))

    def vector(self, word: str, *, shuffled: bool, seed: int) -> Vector | None:
        """A word's vector, if it has one; `shuffled`, that of another word drawn by the seed."""
        if self.vectors is None:
            return None
        if shuffled:
            words = self.vectors.words
            word = words[int(generator(seed, "shuffled", word).integers(len(words)))]
        return vector_of(word, self.vectors)

    def neighbours(self, vector: Vector | None) -> tuple[Neighbour, ...]:
        """The nearest anchors."""
        return self.anchors.nearest(vector, NEAREST) if self.anchors and vector is not None else ()

    def near(self, row: Row, count: int) -> tuple[str, ...]:
        """The whole words whose rows point most nearly along a row."""
        words = list(self.whole)
        rows = self.table[[self.whole[word] for word in words]]
        likeness = torch.nn.functional.cosine_similarity(rows, row[None], dim=1)
        return tuple(words[int(n)] for n in likeness.argsort(descending=True)[:count])


def candidates(
    space: Space, pieces: Sequence[int], found: Meaning, vector: Vector | None, *, trusting: bool = False
) -> dict[str, Row]:
    """Rows that a word might have, by where they come from, all of the same norm.

    `subwords`, the mean of its pieces; `gloss`, the mean of its gloss; and, where the map can be trusted, `neighbours`,
    a mix of near words' rows; `mapped`, its vector through the map; `blend`, between pieces and neighbours, nearer to
    these the nearer they are. `trusting` makes the mixes, which need no map, in any case.
    Source: WECHSEL, Minixhofer et al. 2022; FOCUS, Dobler, de Melo 2023; norms as NVIDIA's tokenizer extension.
    """
    rows = {"subwords": space.table[list(pieces)].mean(dim=0)}
    if found.source == "gloss":
        rows["gloss"] = space.table[list(found.slots[0])].mean(dim=0)
    near = space.neighbours(vector)
    if near and (trusting or space.fitted.map is not None):
        cosines = torch.tensor([neighbour.cosine for neighbour in near])
        rows["neighbours"] = torch.softmax(cosines / SHARPNESS, dim=0) @ space.table[[one.token for one in near]]
        if space.fitted.map is not None and vector is not None:
            rows["mapped"] = torch.from_numpy(space.fitted.map(vector[None])[0]).float()
        trust = float(cosines.mean().clamp(0, 1))
        own, mix = (scaled(rows[name], space.norm) for name in ("subwords", "neighbours"))
        rows["blend"] = (1 - trust) * own + trust * mix
    return {name: scaled(row, space.norm) for name, row in rows.items()}


def tournament(
    reader: Reader, entrants: Sequence[Mapping[str, Row]], taught: Sequence[Sequence[Lesson]]
) -> list[dict[str, float]]:
    """How well each word's rows do in its lessons: the mean likeness, 1 at best; the best first."""
    pairs = [(number, name) for number, rows in enumerate(entrants) for name in rows]
    stacked = torch.stack([entrants[number][name] for number, name in pairs])
    grades = graded(reader, stacked, [taught[number] for number, _ in pairs])
    found: list[dict[str, float]] = [{} for _ in entrants]
    for (number, name), (likeness, _) in zip(pairs, grades, strict=True):
        found[number][name] = float(likeness.mean()) if len(likeness) else 0.0
    return [dict(sorted(scores.items(), key=lambda item: -item[1])) for scores in found]


def several(words: NewWords, counts: Mapping[str, int], seed: int) -> NewWords:
    """The same words, each with as many rows as `counts` says, one where it says nothing.

    The rows of a word are its one row, moved a little apart so that training can tell them from one another.
    Source: Gal et al. 2022, "An Image is Worth One Word", whose multi-vector form textual inversion tools have.
    """
    pairs: list[tuple[Word, dict[str, Tensor]]] = []
    for word, rows in words.entries():
        count = counts.get(word.surface, 1)
        pairs.append(
            (word, {name: _apart(own, count, (seed, "rows", word.surface), name) for name, own in rows.items()})
        )
    return NewWords.of(words.base, pairs)


def _apart(rows: Tensor, count: int, key: tuple[int | str, ...], encoder: str) -> Tensor:
    """So many rows near one, or the rows as they are where one is wanted."""
    if count <= 1:
        return rows
    keyed = key if encoder == ENCODER else (*key, encoder)
    apart = torch.from_numpy(normal((count, rows.shape[1]), *keyed))
    return rows[:1] + APART * rows[:1].norm() / rows.shape[1] ** 0.5 * apart


def scaled(row: Row, norm: float) -> Row:
    """A row of that norm."""
    return row * (norm / row.norm().clamp(min=1e-12))
