"""Words that a person asks for turned into those that can be new tokens, and those that cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bespoke.models import Word, written
from bespoke.words.lessons import Reader
from bespoke.words.report import WordReport

MOST = 24
"""A word of more pieces leaves no room for prompts."""


def wanted(
    reader: Reader, words: Sequence[str], glosses: Mapping[str, str], aliases: Mapping[str, Sequence[str]]
) -> tuple[list[tuple[Word, str]], list[WordReport]]:
    """Words that can be tokens, in order, with a note on aliases that cannot; then words that cannot, with the reason.

    An alias never takes a word's place, nor that of an alias before it.
    """
    glosses = {written(word): gloss for word, gloss in glosses.items()}
    others = {written(word): tuple(map(written, found)) for word, found in aliases.items()}
    known, surfaces = reader.tokenizer.get_vocab(), sorted({written(word) for word in words})
    taken = set(surfaces)
    found: list[tuple[Word, str]] = []
    refused: list[WordReport] = []
    for surface in surfaces:
        word = Word(surface, gloss=glosses.get(surface, ""), pieces=tuple(reader.tokenizer.tokenize(surface)))
        if why := _impossible(reader, surface, known):
            refused.append(WordReport(word, "refused", why))
            continue
        asked = {
            alias: _impossible(reader, alias, known) or ("another word is written so" if alias in taken else "")
            for alias in dict.fromkeys(others.get(surface, ()))
            if alias != surface
        }
        good = tuple(sorted(alias for alias, why in asked.items() if not why))
        taken |= {*good}
        note = "; ".join(f"alias {alias!r} left out: {why}" for alias, why in asked.items() if why)
        found.append((replace(word, aliases=good), note))
    return found, refused


def _impossible(reader: Reader, surface: str, known: Mapping[str, int]) -> str:
    """Why something cannot be a new token, or nothing."""
    if not any(letter.isalnum() for letter in surface) or any("\ue000" <= letter <= "\uf8ff" for letter in surface):
        return "it has no letters, or some that nobody types"
    if surface in known:
        return "its letters are a piece of the base's vocabulary already"
    count = len(reader.pieces(surface))
    if count > MOST:
        return f"it is {count} pieces long, more than {MOST}"
    return "the base has one token for it already" if count == 1 else ""
