"""Similarities of captions turned into the limit below which one no longer means what the other does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bespoke.seeds import generator
from bespoke.text.classes import COLOURS, NUMBERS, RELATIONS, SAYS_NOTHING, WORD, canonical

TELLS = 0.8
"""The area under the curve from which on a text encoder tells paraphrases from others well enough to be asked."""
LET_THROUGH = 0.05
"""Part of the pairs of another meaning that the strict limit lets through at most."""
FEWEST = 10
"""Pairs of each kind that a limit needs."""


@dataclass(frozen=True)
class Limit:
    """The lowest cosine that counts as the same meaning, and how well that tells pairs of this dataset apart."""

    value: float | None
    """Nothing where the encoder cannot tell, so that the rules alone decide."""
    area: float
    """The chance that a paraphrase is more similar than another pair; a half is by chance."""
    kept: float
    """Part of the paraphrases that are above it."""
    let_through: float
    """Part of the other pairs that are above it."""
    pairs: tuple[int, int]
    """How many paraphrases and other pairs there were."""
    strict: float | None = None
    """The cosine that one other pair in twenty reaches at most, for wordings that no rule vouches for."""


def calibrated(paraphrases: Sequence[float], others: Sequence[float], kept: float) -> Limit:
    """The highest limit that the part `kept` of the paraphrases reaches, from the cosines of both kinds of pairs.

    Source: Mann and Whitney 1947 for the area. A limit that keeps most paraphrases, rather than the one that tells the
    kinds apart best, because the rules have judged before, and what they let through is rarely wrong.
    """
    same, different = np.sort(np.asarray(paraphrases)), np.sort(np.asarray(others))
    counts = (len(same), len(different))
    if min(counts) < FEWEST:
        return Limit(None, 0.5, 1.0, 1.0, counts)
    below = np.searchsorted(different, same, "left") + np.searchsorted(different, same, "right")
    area = float(below.mean() / 2 / len(different))
    if area < TELLS:
        return Limit(None, area, 1.0, 1.0, counts)
    value = float(same[min(len(same) - 1, int((1 - kept) * len(same)))])
    strict = float(np.nextafter(different[-1 - int(LET_THROUGH * len(different))], np.inf))
    return Limit(value, area, float(np.mean(same >= value)), float(np.mean(different >= value)), counts, strict)


def spoilt(captions: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Captions each beside one of another meaning: one word of it replaced by a word of its kind from the captions.

    A colour by a colour, a number by a number, any other word by another one that says something.
    """
    words = dict.fromkeys(word for text in captions for word in WORD.findall(text.lower()))
    plain = [w for w in words if w.isalpha() and len(w) > 2 and _kind(w) == "word"]
    kinds = {"colour": sorted(COLOURS), "number": sorted(NUMBERS)[:10], "word": plain}
    found = list[tuple[str, str]]()
    for text in dict.fromkeys(captions):
        random = generator(seed, "spoilt", text)
        places = [match for match in WORD.finditer(text) if _kind(match[0].lower()) in kinds]
        if not places:
            continue
        chosen = places[int(random.integers(len(places)))]
        old = chosen[0].lower()
        rest = [word for word in kinds[_kind(old)] if canonical(word) != canonical(old)]
        if rest:
            new = rest[int(random.integers(len(rest)))]
            found.append((text, text[: chosen.start()] + new + text[chosen.end() :]))
    return found


def _kind(word: str) -> str:
    if word in SAYS_NOTHING or word in RELATIONS:
        return ""
    return "colour" if word in COLOURS else "number" if word in NUMBERS else "word"
