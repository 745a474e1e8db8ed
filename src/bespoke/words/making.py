"""Words turned into rows that a text encoder can use, each measured and judged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bespoke.models import Base, NewWords, Word
from bespoke.seeds import permutation
from bespoke.words.anchors import Neighbour, Vectors
from bespoke.words.asked import wanted
from bespoke.words.distil import Report, distil
from bespoke.words.gates import ALIKE, Measured, changed, gates, verdict
from bespoke.words.lessons import TEMPLATES, Context, Lesson, Reader, contexts, fitting, graded, lessons
from bespoke.words.meaning import Judge, Meaning, Standing, meaning
from bespoke.words.report import Method, RowsReport, WordReport
from bespoke.words.rows import FROM_VECTORS, Row, Space, candidates, tournament

HELD = 4
"""One in so many prompts of a word is held out."""


@dataclass(frozen=True, eq=False)
class _Draft:
    """A word on its way: what it may be, what it is taught, and what it is tried on."""

    word: Word
    note: str
    standing: Standing
    meaning: Meaning
    neighbours: tuple[Neighbour, ...]
    rows: Mapping[str, Row]
    taught: list[Lesson]
    kept: list[Lesson]
    """Prompts held out, with the states of its pieces."""
    meant: list[Lesson]
    """The same prompts with the states of its meaning; none where that is not known."""


def make_rows(
    words: Sequence[str], tokenizer: Any, text_encoder: Any, base: Base, *, vectors: Vectors | None = None,
    glosses: Mapping[str, str] | None = None, aliases: Mapping[str, Sequence[str]] | None = None,
    captions: Sequence[str] = (), method: Method = "tournament", seed: int = 0, strict: bool = True,
    report: Report = lambda *_: None,
) -> tuple[NewWords, RowsReport]:  # fmt: skip
    """New words with their rows for a base's tokenizer and frozen text encoder, and what became of each word.

    What the model knows, its pieces teach; what it does not, its gloss or its neighbours among the vectors. Words that
    no gate refuses are in the result; without `strict` all are that have a row at all, and word vectors are trusted
    where their map is not. Nothing in it depends on the order of the words.
    """
    reader = Reader(tokenizer, text_encoder)
    asked, out = wanted(reader, words, glosses or {}, aliases or {})
    space = Space.of(reader, vectors, seed)
    making = _Making(reader, space, Judge(reader, seed), captions, method, seed, trusting=not strict)
    drafts: list[_Draft] = []
    for number, (word, note) in enumerate(asked):
        draft = making.draft(word, note)
        drafts += [draft] if draft.rows else []
        out += [] if draft.rows else [_without_rows(draft, making.missing(word.surface))]
        report("read new words", number + 1, len(asked))
    rows, scores = making.chosen(drafts, report) if drafts else ([], [])
    made = making.judged(drafts, rows, scores, base) if drafts else []
    pairs = zip(made, rows, strict=True)
    kept = [(found.word, row[None]) for found, row in pairs if not strict or found.verdict != "refused"]
    reports = sorted((*out, *made), key=lambda found: found.word.surface)
    fitted = space.fitted
    told = RowsReport(method, seed, fitted.anchors, fitted.tried, fitted.reason, tuple(reports))
    return NewWords.of(base, kept), told


@dataclass(frozen=True, eq=False)
class _Making:
    """What all words of a build share."""

    reader: Reader
    space: Space
    judge: Judge
    captions: Sequence[str]
    method: Method
    seed: int
    trusting: bool = False
    """Whether mixes of neighbours are let in though the map is not to be trusted."""

    def draft(self, word: Word, note: str) -> _Draft:
        """A word with its candidates and its lessons."""
        reader, space = self.reader, self.space
        pieces = tuple(reader.pieces(word.surface))
        vector = space.vector(word.surface, shuffled=False, seed=self.seed)
        near = space.neighbours(vector)
        found = meaning(reader, word.gloss, near)
        places = fitting(reader, contexts(word.surfaces, self.captions), (*found.slots, pieces))
        if len(places) < len(TEMPLATES):
            note = "; ".join(filter(None, (note, "its gloss is too long for the model to read")))
            found, places = Meaning(), fitting(reader, contexts(word.surfaces, self.captions), (pieces,))
        standing = self.judge.standing(pieces, found)
        source = space.vector(word.surface, shuffled=True, seed=self.seed) if self.method == "shuffled" else vector
        made = candidates(space, pieces, found, source, trusting=self.trusting)
        rows = {name: row for name, row in made.items() if name in self._allowed}
        held, taught = self._parted(word.surface, places)
        slots = found.slots if standing.known is False else (pieces,)
        meant = lessons(reader, held, found.slots) if found.slots else []
        return _Draft(
            word, note, standing, found, near, rows,
            lessons(reader, taught, slots), lessons(reader, held, (pieces,)), meant,
        )  # fmt: skip

    def missing(self, surface: str) -> str:
        """Why a word has no row of the kind that is asked for."""
        if self.space.fitted.reason:
            return self.space.fitted.reason
        vector = self.space.vector(surface, shuffled=False, seed=self.seed)
        return "the word vectors do not know it" if vector is None else "none of its neighbours is a word of the base"

    def chosen(self, drafts: Sequence[_Draft], report: Report) -> tuple[list[Row], list[dict[str, float]]]:
        """The best row of each word, refined if that is asked for and helps; and the scores of all."""
        taught, entrants = [draft.taught for draft in drafts], [draft.rows for draft in drafts]
        scores = tournament(self.reader, entrants, taught)
        if self.method == "distilled":
            names, start = [draft.word.surface for draft in drafts], torch.stack(_best(entrants, scores))
            refined = distil(self.reader, names, start, taught, self.space.norm, seed=self.seed, report=report)
            entrants = [{**rows, "distilled": row} for rows, row in zip(entrants, refined, strict=True)]
            scores = tournament(self.reader, entrants, taught)
        return _best(entrants, scores), scores

    def judged(
        self, drafts: Sequence[_Draft], rows: Sequence[Row], scores: Sequence[dict[str, float]], base: Base
    ) -> list[WordReport]:
        """What the gates say of each row."""
        stacked = torch.stack(list(rows))
        kept = graded(self.reader, stacked, [draft.kept for draft in drafts])
        near = graded(self.reader, stacked, [draft.meant for draft in drafts])
        words = NewWords.of(base, [(draft.word, row[None]) for draft, row in zip(drafts, rows, strict=True)])
        prompts = [*self.captions, *(template.format("thing") for template in TEMPLATES)]
        others = changed(words, self.reader.tokenizer, prompts)
        return [
            self._reported(draft, row, scored, old, new, others[draft.word.surface])
            for draft, row, scored, (_, old), (_, new) in zip(drafts, rows, scores, kept, near, strict=True)
        ]

    def _reported(
        self, draft: _Draft, row: Row, scores: dict[str, float], kept: Tensor, near: Tensor, others: int
    ) -> WordReport:
        """The report of one word; `kept` and `near` are cosines over its prompts held out."""
        alike, names = self.space.near(row, ALIKE), tuple(neighbour.word for neighbour in draft.neighbours)
        shared = len({*alike} & {*names}) if names else None
        norm, known = float(row.norm()) / self.space.norm, draft.standing.known
        found = gates(Measured(row, norm, kept, near, _before(draft), others, shared), known)
        method = next(iter(scores)) + (", shuffled" if self.method == "shuffled" else "")
        word = replace(draft.word, method=method, figures={gate.name: gate.value for gate in found})
        failed = [f"{gate.name}: {gate.value:.3g}, wanted {gate.wanted}" for gate in found if not gate.passed]
        reason = "; ".join(filter(None, (*failed, draft.note)))
        meant = draft.meaning.source
        return WordReport(word, verdict(found, known), reason, draft.standing, meant, scores, names, alike, found)

    @property
    def _allowed(self) -> tuple[str, ...]:
        """The candidates that the method lets in."""
        own = {"subwords": ("subwords",), "vectors": FROM_VECTORS, "shuffled": FROM_VECTORS}
        return own.get(self.method, ("subwords", "gloss", *FROM_VECTORS))

    def _parted(self, surface: str, places: Sequence[Context]) -> tuple[list[Context], list[Context]]:
        """A word's prompts to hold out, and those to learn from."""
        order = permutation(len(places), self.seed, "held", surface)
        count = len(places) // HELD
        return [places[n] for n in order[:count]], [places[n] for n in order[count:]]


def _best(entrants: Sequence[Mapping[str, Row]], scores: Sequence[dict[str, float]]) -> list[Row]:
    """The row of each word that comes first."""
    return [rows[next(iter(found))] for rows, found in zip(entrants, scores, strict=True)]


def _before(draft: _Draft) -> Float[Tensor, " n"]:
    """How near a word's pieces come to its meaning in the prompts held out."""
    pairs = zip(draft.kept, draft.meant, strict=False)
    found = [F.cosine_similarity(a.target[a.end], b.target[b.end], dim=0) for a, b in pairs]
    return torch.stack(found) if found else torch.zeros(0)


def _without_rows(draft: _Draft, reason: str) -> WordReport:
    near: Iterator[str] = (neighbour.word for neighbour in draft.neighbours)
    return WordReport(draft.word, "refused", reason, draft.standing, draft.meaning.source, {}, tuple(near))
