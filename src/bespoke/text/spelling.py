"""Words turned into the misspelt forms that people type, and misspelt words turned back."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bespoke.text.classes import WORD

HERE = Path(__file__).parent
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SHORTEST = 5
"""Letters that a word must have to be misspelt: shorter ones become other words."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FAR = 8
"""Letters from which on a word may be two mistakes away from what was meant."""


class Speller:
    """Knows words and how frequent they are; tells what a misspelt one was meant to be."""

    def __init__(self, frequencies: Mapping[str, float | int]) -> None:
        self.frequencies = frequencies

    def known(self, word: str) -> bool:
        """Whether a word, or the word without its regular ending, is written as it should be."""
        word = word.lower()
        if word in self.frequencies or not word.isalpha():
            return True
        return any(
            word.endswith(ending) and word.removesuffix(ending) + instead in self.frequencies
            for ending, instead in (("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""))
        )

    def meant(self, word: str) -> str:
        """What a word was meant to be: the most frequent known one that is one mistake away, or the word itself.

        Well-known mistakes go first; long words may have two mistakes. Where several fit nearly as well, none is taken.
        Source: Norvig, "How to Write a Spelling Corrector".
        """
        lower = word.lower()
        if self.known(lower) or len(lower) < SHORTEST - 1:
            return word
        listed = common().get(lower)
        if listed:
            return listed
        for candidates in (self._one_away(lower), self._two_away(lower) if len(lower) >= FAR else []):
            if candidates:
                return self._clear(candidates) or word
        return word

    def mended(self, text: str) -> tuple[str, dict[str, str]]:
        """A text with its misspelt words as they were meant, and each of those words with what it became."""
        found = {word: self.meant(word) for word in dict.fromkeys(WORD.findall(text))}
        changed = {word: _cased(right, word) for word, right in found.items() if right != word}
        return WORD.sub(lambda match: changed.get(match[0], match[0]), text), changed

    def _one_away(self, word: str) -> list[str]:
        return sorted(edit for edit in edits(word) if edit in self.frequencies)

    def _two_away(self, word: str) -> list[str]:
        return sorted({far for edit in edits(word) for far in edits(edit) if far in self.frequencies})

    def _clear(self, candidates: list[str]) -> str:
        """The most frequent candidate, if it is ten times as frequent as the next; else nothing."""
        ranked = sorted(candidates, key=lambda word: (-self.frequencies[word], word))
        clear = len(ranked) == 1 or self.frequencies[ranked[0]] >= 10 * self.frequencies[ranked[1]]
        return ranked[0] if clear else ""


def edits(word: str) -> set[str]:
    """All words one mistake away: a letter left out, put in, replaced, or swapped with the next.

    Source: Damerau 1964, "A technique for computer detection and correction of spelling errors".
    """
    letters = {*LETTERS, *word}
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    lost = {left + right[1:] for left, right in cuts if right}
    swapped = {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    changed = {left + letter + right[1:] for left, right in cuts if right for letter in letters}
    added = {left + letter + right for left, right in cuts for letter in letters}
    return (lost | swapped | changed | added) - {word}


def slip(word: str, other: str, known: Callable[[str], bool]) -> bool:
    """Whether a word is no word, and one mistake away from the other: the other misspelt."""
    return common().get(word) == other or (not known(word) and len(other) >= SHORTEST - 1 and other in edits(word))


def misspelt(word: str, random: np.random.Generator, known: Callable[[str], bool]) -> str:
    """The word as someone in haste types it, with one mistake; the word itself where each try gives another word.

    Half of the time a mistake that people are known to make, where there is one. The first letter stays.
    """
    listed = _mistakes().get(word.lower(), ())
    if listed and random.random() < 0.5:
        return _cased(str(random.choice(listed)), word)
    if len(word) < SHORTEST or not word.isalpha():
        return word
    for _ in range(4):
        kind = WAYS[int(random.integers(len(WAYS)))]
        typed = kind(word, int(random.integers(1, len(word))), random)
        if typed.lower() != word.lower() and not known(typed):
            return typed
    return word


def _beside(word: str, place: int, random: np.random.Generator) -> str:
    """A letter's neighbour on the keyboard in its place."""
    row = next((row for row in ROWS if word[place].lower() in row), "")
    if not row:
        return word
    at = row.index(word[place].lower())
    near = row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    return word[:place] + near[int(random.integers(len(near)))] + word[place + 1 :]


def _doubled(word: str, place: int, _: np.random.Generator) -> str:
    return word[:place] + word[place] + word[place:]


def _lost(word: str, place: int, _: np.random.Generator) -> str:
    return word[:place] + word[place + 1 :]


def _swapped(word: str, place: int, _: np.random.Generator) -> str:
    place = min(place, len(word) - 2)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


WAYS = (_beside, _doubled, _lost, _swapped)


@functools.cache
def common() -> dict[str, str]:
    """What is meant by each well-known mistake."""
    lines = (HERE / "misspellings.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {wrong: right for wrong, _, right in pairs}


@functools.cache
def _mistakes() -> dict[str, tuple[str, ...]]:
    """The well-known mistakes of each word."""
    found: dict[str, list[str]] = {}
    for wrong, right in common().items():
        found.setdefault(right, []).append(wrong)
    return {right: tuple(wrong) for right, wrong in found.items()}


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like[:1].isupper() else word
