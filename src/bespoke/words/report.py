"""What became of words that were asked for, as a record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bespoke.models import Word
from bespoke.words.gates import Gate, Verdict
from bespoke.words.mapping import Quality
from bespoke.words.meaning import Standing

Method = Literal["tournament", "subwords", "vectors", "shuffled", "distilled"]
"""`tournament`: the best of all candidates; `distilled`: that, refined; `subwords`, `vectors`: those only; `shuffled`:
as `vectors`, with the vectors of other words, to see what vectors are worth."""


@dataclass(frozen=True)
class WordReport:
    """What became of one word, and why."""

    word: Word
    verdict: Verdict
    reason: str = ""
    """Why it was refused, or which alias was left out."""
    standing: Standing = field(default_factory=Standing)
    meaning: str = ""
    """What said what it means: "gloss", "neighbours", or nothing."""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """How well each candidate did in the lessons, 1 at best; the best first."""
    neighbours: tuple[str, ...] = ()
    """The words nearest to it among the word vectors."""
    near: tuple[str, ...] = ()
    """The whole words whose rows are nearest to its own."""
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class RowsReport:
    """How new rows were made."""

    method: Method
    seed: int
    anchors: int
    maps: tuple[Quality, ...]
    """The maps that were tried, the better one first, beside what shuffled pairs give."""
    without_vectors: str
    """Why no row comes from word vectors, where none does."""
    words: tuple[WordReport, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as a file holds it."""
        return asdict(self) | {"usable": [found.usable for found in self.maps]}
