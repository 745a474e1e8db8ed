"""A word turned into words that may stand for it: from a list of our own, from WordNet, from neighbouring vectors."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bespoke.errors import BespokeError
from bespoke.text.classes import PRAISE, SAYS_NOTHING, matters, opposed

Source = Callable[[str], Sequence[str]]
"""Gives the words, in lower case, that may stand for a word; none where it knows none."""
HERE = Path(__file__).parent
NEIGHBOURS = 4
NEAR = 0.75
"""The cosine from which on a neighbour counts: below it, words of one kind stand beside synonyms."""


@runtime_checkable
class Space(Protocol):
    """Words with vectors, as `text.Vectors`."""

    def __contains__(self, word: str) -> bool: ...

    def of(self, words: Sequence[str]) -> Any:  # noqa: ANN401 - rows of numpy
        """The rows of words, float32 [n d]."""
        ...

    def nearest(self, row: Any, count: int) -> list[tuple[str, float]]:  # noqa: ANN401
        """The words nearest to a row, each with its cosine, the nearest first."""
        ...


class Synonyms:
    """Which words may stand for which, by all the sources that are in use."""

    def __init__(self, *sources: Source) -> None:
        self.sources = sources

    def __call__(self, word: str) -> list[str]:
        """The words that may stand for `word`, those of earlier sources first; opposites and measures are left out."""
        found = dict.fromkeys(other for source in self.sources for other in source(word.lower()))
        return [other for other in found if other != word.lower() and not opposed(word, other)]

    def same(self, word: str, other: str) -> bool:
        """Whether one of two words may stand for the other."""
        return other in self(word) or word in self(other)


def curated(word: str) -> Sequence[str]:
    """The other words of a word's group in `synonyms.txt`; of a plural, their plurals."""
    groups = _groups()
    if word in groups:
        return groups[word]
    single = word[:-1] if word.endswith("s") else ""
    return [_plural(other) for other in groups.get(single, ())] if _plural(single) == word else []


def wordnet(lexicon: str = "oewn:2024") -> Source:
    """Synonyms of WordNet's first sense of nouns that have few senses, through `wn`.

    A word of many senses is left alone: which one is meant is not known. Source: Open English WordNet.

    Raises: BespokeError when `wn` is not installed or the lexicon is not on this machine; nothing is downloaded.
    """
    try:
        import wn  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BespokeError("WordNet needs the package wn.", 'pip install "bespoke[wordnet]"') from None
    try:
        net = wn.Wordnet(lexicon)
    except wn.Error:
        hint = f"Download it once with: python -m wn download {lexicon}"
        raise BespokeError(f"WordNet's {lexicon} is not on this machine.", hint) from None

    @functools.lru_cache(maxsize=100_000)
    def look_up(word: str) -> tuple[str, ...]:
        senses = net.synsets(word, pos="n")
        if not senses or len(senses) > FEW_SENSES:
            return ()
        lemmas = (lemma.lower().replace("_", " ") for lemma in senses[0].lemmas())
        return tuple(dict.fromkeys(lemma for lemma in lemmas if lemma != word))

    return look_up


FEW_SENSES = 2


def neighbours(space: Space) -> Source:
    """A word's nearest neighbours among vectors, those that are near enough and name nothing that is measured.

    Vectors set words near that stand in like places, opposites and kin among them. So what a list of ours puts into
    two groups is no neighbour here, nor are colours, numbers and the like; the rest is for the similarity to judge.
    """

    @functools.lru_cache(maxsize=100_000)
    def look_up(word: str) -> tuple[str, ...]:
        if word not in space or matters(word):
            return ()
        near = space.nearest(space.of([word])[0], NEIGHBOURS + 1)
        groups = _groups()
        apart = (other for other, cosine in near if cosine >= NEAR and other != word and not matters(other))
        return tuple(o for o in apart if not (word in groups and o in groups and o not in groups[word]))

    return look_up


@functools.cache
def _groups() -> dict[str, tuple[str, ...]]:
    groups = [tuple(word.strip() for word in line.removeprefix("~").split(",")) for line in _lines()]
    return {word: tuple(other for other in group if other != word) for group in groups for word in group}


def alone(before: str, word: str, after: str) -> bool:
    """Whether a word between two others, "" where there is none, is no part of a name of several words.

    As car is in "police car", and sea in "sea lion": a name does not stay itself when a word of it is replaced.
    """
    free = SAYS_NOTHING | PRAISE | describing() | {"", "and", "or", "his", "her", "their", "its"}
    if not (before in free or matters(before)):
        return False
    return word in describing() or after in free or matters(after) or after.endswith(("ing", "ed"))


@functools.cache
def describing() -> frozenset[str]:
    """The words of our list that describe what comes after them."""
    return frozenset(word.strip() for line in _lines() if line[0] == "~" for word in line[1:].split(","))


def _lines() -> list[str]:
    lines = (HERE / "synonyms.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _plural(word: str) -> str:
    """The regular plural; of what is no plain noun, the word itself, which then stands for no plural."""
    if not word or word.endswith(("s", "x", "ch", "sh", "y")):
        return f"{word[:-1]}ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else f"{word}es" if word else ""
    return f"{word}s"
