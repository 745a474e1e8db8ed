"""A word turned into the far more frequent one that it is probably a slip of."""

from collections.abc import Iterator

from bespoke.text.lexicon import Entry, Lexicon

TIMES = 50
"""How many times as frequent the other word must be."""
SHORTEST = 4
"""Letters; nearly every shorter word is one letter from a frequent one."""


def meant(entry: Entry, lexicon: Lexicon) -> str:
    """The word that was meant, one letter away and fifty times as frequent; "" for none, or where people write it so.

    Frequent is what the encyclopaedia says; without one, what the captions say. A word with a vector is one that
    people write.
    """
    if entry.vector or len(entry.word) < SHORTEST:
        return ""
    best, bound = "", TIMES * max(1, _frequency(entry, lexicon))
    for word in edits(entry.word):
        other = lexicon.entry(word) if word in lexicon else None
        if other and _frequency(other, lexicon) >= bound:
            best, bound = word, _frequency(other, lexicon) + 1
    return best


def edits(word: str) -> Iterator[str]:
    """All words that are one slip away: a letter left out, put in, replaced, or swapped with the next.

    Source: Damerau 1964, "A technique for computer detection and correction of spelling errors".
    """
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz" + word))
    for place in range(len(word) + 1):
        head, tail = word[:place], word[place:]
        yield from (head + letter + tail for letter in letters)
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in letters)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]


def _frequency(entry: Entry, lexicon: Lexicon) -> int:
    return entry.wiki if lexicon.facts.wiki else entry.domain
