"""A word turned into the far more frequent one that it is probably a slip of."""

from bespoke.text.lexicon import Entry, Lexicon
from bespoke.text.spelling import edits

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
    for word in sorted(edits(entry.word)):
        other = lexicon.entry(word) if word in lexicon else None
        if other and _frequency(other, lexicon) >= bound:
            best, bound = word, _frequency(other, lexicon) + 1
    return best


def _frequency(entry: Entry, lexicon: Lexicon) -> int:
    return entry.wiki if lexicon.facts.wiki else entry.domain
