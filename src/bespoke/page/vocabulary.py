"""New words, how they were chosen and made, and what they save, as frozen records, turned into one HTML page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bespoke.page import wording
from bespoke.page.rendering import render
from bespoke.page.scores import Fact

MOST_REFUSED = 200
"""So many refused words are shown; the report holds them all."""


@dataclass(frozen=True)
class TokenCount:
    """Some texts in tokens, before and after new words."""

    name: str
    texts: int
    words: int
    before: int
    after: int
    per_word: tuple[float, float]
    too_long: tuple[int, int]
    """How many texts are longer than a window, before and after."""


@dataclass(frozen=True)
class Gate:
    """What was measured of a new word, and what was asked for."""

    name: str
    value: float
    wanted: str
    passed: bool


@dataclass(frozen=True)
class NewWord:
    """One word that was to be a token, and what became of it."""

    word: str
    verdict: str
    why: str
    """Why it was chosen, and what is to be said of the verdict."""
    also: tuple[str, ...]
    """Other ways to write it."""
    pieces: tuple[str, ...]
    """What the base's tokenizer makes of it."""
    meaning: str
    """What says what it means, as a sentence."""
    scores: tuple[tuple[str, float], ...]
    """Where its row might have come from, and how well that does in prompts, 1 at best; the winner first."""
    neighbours: tuple[str, ...]
    """Nearest to it among the word vectors."""
    near: tuple[str, ...]
    """Whole words of the base whose rows are nearest to its row."""
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class RefusedWord:
    """A word of the captions that is not worth a token, or may not be one."""

    word: str
    pieces: int
    saved: int
    """Tokens that it would save in the captions."""
    why: str


@dataclass(frozen=True)
class Source:
    """What a source knows: how many words, and which part of the captions' running words, 0 to 1."""

    name: str
    words: int
    train: float
    validation: float | None


@dataclass(frozen=True)
class MapQuality:
    """How well a map from word vectors to rows finds words that it was not fitted on, beside one of shuffled pairs."""

    kind: str
    usable: bool
    cosine: tuple[float, float]
    recall: tuple[tuple[int, float, float], ...]
    """Among how many nearest rows the right one is looked for, how often it is there, and how often by chance."""


@dataclass(frozen=True)
class Suggestion:
    """Words that may be one term."""

    words: str
    captions: int
    score: float


@dataclass(frozen=True)
class VocabularyReport:
    """All that the page shows."""

    title: str
    headline: str
    facts: tuple[Fact, ...]
    counts: tuple[TokenCount, ...]
    """The training captions' first."""
    words: tuple[NewWord, ...]
    refused: tuple[RefusedWord, ...]
    single: int
    """Words of the captions that are one token already."""
    sources: tuple[Source, ...]
    maps: tuple[MapQuality, ...]
    map_words: str
    phrases: tuple[Suggestion, ...]
    use: tuple[Fact, ...] = ()
    """How to use the new words: what for, and what to type."""


def write_vocabulary(report: VocabularyReport, path: Path) -> Path:
    """The page, written to `path`; nothing but the page is written."""
    filters: dict[str, Callable[..., object]] = {"number": wording.number, "percent": _percent}
    parts = {
        "tokens": ("Tokens", report.counts), "words": ("New words", report.words), "use": ("Use", report.use),
        "refused": ("Refused", report.refused), "sources": ("Sources", report.sources), "map": ("Map", report.maps),
        "phrases": ("Terms", report.phrases),
    }  # fmt: skip
    sections = {anchor: name for anchor, (name, content) in parts.items() if content}
    render("vocabulary.html", path, filters, report=report, sections=sections, most_refused=MOST_REFUSED)
    return path


def _percent(part: float) -> str:
    """A part of one in words; one that is not quite all, or not quite nothing, is not rounded to it."""
    if 0 < part < 0.001:
        return "< 0.1 %"
    return f"{min(100 * part, 99.9) if part < 1 else 100:.3g} %"
