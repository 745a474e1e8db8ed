"""What a scorecard says, as frozen records that the report page shows: verdicts, tables, pairs, neighbours, sheets."""

from dataclasses import dataclass
from pathlib import Path

from bespoke.records import Curve, Score


@dataclass(frozen=True)
class Finding:
    """One question that was to be answered; `ok` is None where the measurements cannot tell."""

    question: str
    answer: str
    ok: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answers about one model, which is named where there are several."""

    findings: tuple[Finding, ...] = ()
    model: str = ""


@dataclass(frozen=True)
class Pair:
    """One prompt drawn by every model with the same seed, in the order of the report's models."""

    prompt: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class PairGroup:
    """Pairs that answer the same question, and what to look for in them."""

    title: str
    explanation: str
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Cell:
    """What one model scored, and what that changed against the first one."""

    score: Score
    change: str = ""
    ok: bool | None = None
    """Whether the change is for the better and beyond chance (true), for the worse and beyond it, or within it."""


@dataclass(frozen=True)
class ScoreRow:
    """One score of the models, in the order of the report's models; nothing where a model has none."""

    label: str
    cells: tuple[Cell | None, ...]
    explanation: str = ""

    @property
    def better(self) -> str:
        """Which direction is better."""
        return next((cell.score.better for cell in self.cells if cell), "")

    @property
    def notes(self) -> list[str]:
        """What the scores say of themselves, each once, as sentences: a note goes on after "It", or is one itself."""
        said = dict.fromkeys(cell.score.note for cell in self.cells if cell and cell.score.note)
        return [f"It {note}." if note[0].islower() else note for note in said]

    @property
    def scores(self) -> list[Score]:
        """The scores that there are."""
        return [cell.score for cell in self.cells if cell]


@dataclass(frozen=True)
class ScoreTable:
    """Scores that answer the same question."""

    title: str
    explanation: str
    rows: tuple[ScoreRow, ...] = ()


@dataclass(frozen=True)
class Neighbours:
    """A drawn picture and the training picture nearest to it."""

    drawn: Path
    training: Path
    words: str
    copied: bool = False


@dataclass(frozen=True)
class NeighbourGroup:
    """One model's pictures that are nearest to training pictures."""

    model: str
    explanation: str
    pairs: tuple[Neighbours, ...] = ()


@dataclass(frozen=True)
class Course:
    """A score over checkpoints: its value in its interval, and what the first model scored."""

    title: str
    words: str
    curves: tuple[Curve, Curve, Curve]
    """The low end, the value and the high end."""
    level: float


@dataclass(frozen=True)
class Sheet:
    """A grid of pictures over two settings, as one picture, and the page that shows it larger."""

    title: str
    explanation: str
    picture: Path
    page: Path | None = None


@dataclass(frozen=True)
class Fact:
    """One fact about the machine, one version of a library, one instrument, one thing that could not be measured."""

    label: str
    value: str
