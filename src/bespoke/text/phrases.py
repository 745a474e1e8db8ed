"""Captions turned into words that stand together more often than chance: suggestions for terms of several words."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bespoke.text.normal import normal, words

LEAST = 3
"""Captions that must have a phrase."""
CRITICAL = 10.83
"""The log-likelihood ratio above which chance is one in a thousand: chi-squared of one degree of freedom."""
LINKS = {
    "a", "an", "the", "of", "in", "on", "at", "by", "for", "with", "from", "to", "and", "or", "as", "is", "are", "was",
    "be", "this", "that", "its", "it", "into", "over", "under",
}  # fmt: skip
"""Words at which no term begins or ends."""
_CLAUSES = re.compile(r"[,.;:()!?/|]")


@dataclass(frozen=True)
class Phrase:
    """Two or more words that may be one term."""

    words: str
    captions: int
    """How many captions have it."""
    score: float
    """The log-likelihood ratio; the larger, the less likely by chance."""


def suggested(captions: Sequence[str], count: int = 20) -> list[Phrase]:
    """The phrases of two to four words that most surely belong together, the surest first; never more than `count`.

    Phrases that are found count as one word in a second pass, which joins them to longer ones.
    Source: Dunning 1993, "Accurate methods for the statistics of surprise and coincidence"; the two passes as in
    Mikolov et al. 2013, "Distributed representations of words and phrases".
    """
    texts = [[words(clause) for clause in _CLAUSES.split(normal(caption))] for caption in captions]
    found = dict[str, Phrase]()
    for _ in range(2):
        together = _together(texts)
        found |= {phrase.words: phrase for phrase in together if phrase.words not in found}
        texts = [[_joined(clause, found) for clause in text] for text in texts]
    return sorted(found.values(), key=lambda phrase: (-phrase.score, phrase.words))[:count]


def _together(texts: Sequence[Sequence[Sequence[str]]]) -> list[Phrase]:
    pairs, captions = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for text in texts:
        near = [pair for clause in text for pair in itertools.pairwise(clause)]
        pairs.update(near)
        captions.update(set(near))
    first, second = Counter[str](), Counter[str]()
    for (one, other), times in pairs.items():
        first[one] += times
        second[other] += times
    found: list[Phrase] = []
    for (one, other), times in pairs.items():
        if captions[one, other] >= LEAST and one.split()[0] not in LINKS and other.split()[-1] not in LINKS:
            score = ratio(times, first[one], second[other], pairs.total())
            if score > CRITICAL:
                found.append(Phrase(f"{one} {other}", captions[one, other], score))
    return found


def ratio(both: int, first: int, second: int, total: int) -> float:
    """Dunning's G² of two words side by side; 0 where they meet no more often than by chance.

    `both` of `total` pairs hold the two, `first` begin with the one, `second` end with the other.
    """
    if both * total <= first * second:
        return 0.0
    table = (
        (both, first * second), (first - both, first * (total - second)), (second - both, (total - first) * second),
        (total - first - second + both, (total - first) * (total - second)),
    )  # fmt: skip
    return 2 * math.fsum(seen * math.log(seen * total / expected) for seen, expected in table if seen > 0)


def _joined(text: Sequence[str], phrases: dict[str, Phrase]) -> list[str]:
    joined: list[str] = []
    for word in text:
        if joined and f"{joined[-1]} {word}" in phrases and " " not in joined[-1]:
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined
