"""A caption turned into what it says, and two captions into the reason why they do not say the same."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bespoke.text import classes
from bespoke.text.classes import WORD
from bespoke.text.synonyms import alone
from bespoke.text.trigger import plain

Same = Callable[[str, str], bool]
"""Whether a word may stand for another."""
Clause = tuple[str, ...]

_PHRASES = tuple((re.compile(rf"\b(?:{said})\b"), token) for said, token in classes.PHRASES)
_PARTS = re.compile(r"\s*[,;.!?]+(?:\s+|$)")
_BRACKETS = re.compile(r"[()\[\]]|:\s*(?:\d+\.?\d*|\.\d+)\s*\)")


def tokens(text: str) -> list[str]:
    """A text's words as their meaning goes: lower case, phrases of relation as one, numbers as digits."""
    text = _normal(text)
    for said, token in _PHRASES:
        text = said.sub(token, text)
    return [classes.canonical(word) for word in WORD.findall(text)]


@dataclass(frozen=True)
class Meaning:
    """What captions of one dataset say, read with its trigger and the terms that must stay as they are."""

    trigger: str = ""
    protected: Sequence[str] = ()
    synonyms: Same = field(default=lambda _word, _other: False)
    """Whether a word may stand for another where it stands alone."""
    slip: Same = field(default=lambda _word, _other: False)
    """Whether a word is another one misspelt."""

    def changed(self, before: str, after: str) -> str:
        """What of a caption another one no longer says, or says anew: "a colour", "the order", …; "" for nothing.

        Everything must be accounted for: each word of the one is the other's, in the same clause and place, or may
        stand for it, or says nothing of a picture. So what is unknown counts as changed.
        """
        for term in filter(None, (self.trigger, *self.protected)):
            if _count(before, term) != _count(after, term):
                return f"the protected {term!r}"
        if Counter(_BRACKETS.findall(before)) != Counter(_BRACKETS.findall(after)):
            return "weights"
        first, second = self.clauses(before), self.clauses(after)
        said, says = (Counter(token for clause in clauses for token in clause) for clauses in (first, second))
        for kind, of_kind in classes.KINDS:
            if Counter({t: n for t, n in said.items() if of_kind(t)}) != Counter(
                {t: n for t, n in says.items() if of_kind(t)}
            ):
                return kind
        if self._paired(first, second):
            return ""
        strangers = [w for w in says if w not in said and not any(self.slip(w, o) or self.synonyms(w, o) for o in said)]
        return f"the word {strangers[0]!r}" if strangers else "the order"

    def clauses(self, caption: str) -> list[Clause]:
        """The caption's clauses, each as its words in order, less those that say nothing of a picture.

        The trigger and words such as "picture of" are left off. A phrase of place that stands first, "on a beach, two
        dogs", belongs behind what comes next.
        """
        parts = [part for part in _PARTS.split(self._bare(caption)) if part.strip()]
        praise = (part for part in parts if _normal(part).strip() not in classes.PRAISE)
        read = [tuple(token for token in tokens(part) if token not in classes.SAYS_NOTHING) for part in praise]
        found = [tuple(t for t in clause if t not in classes.PRAISE) for clause in read]
        found = [clause for clause in found if clause]
        if len(found) > 1 and found[0][0] in classes.PLACES and found[1][0] not in classes.PLACES:
            found = [(*found[1], *found[0]), *found[2:]]
        return found

    def _bare(self, caption: str) -> str:
        """The caption without its trigger, wherever that stands, and without a beginning that says nothing."""
        if self.trigger:
            caption = plain(caption, self.trigger)
            caption = re.sub(rf"(^|, ?){re.escape(self.trigger)}(?=,|$)", r"\1", caption).strip(" ,")
        return classes.PREFIX.sub("", caption, count=1) if classes.PREFIX.match(caption) else caption

    def _paired(self, first: Sequence[Clause], second: Sequence[Clause]) -> bool:
        """Whether each clause of the one says what exactly one of the other does."""
        left = list(second)
        for clause in first:
            match = next((other for other in left if self._equal(clause, other)), None)
            if match is None:
                return False
            left.remove(match)
        return not left

    def _equal(self, clause: Clause, other: Clause) -> bool:
        return self._along(_spread(clause), _spread(other), "")

    def _along(self, clause: Clause, other: Clause, before: str) -> bool:
        """Whether words stand for one another all along two clauses; a synonym may be of several words."""
        if not clause or not other:
            return not clause and not other
        for one in range(1, min(3, len(clause)) + 1):
            for two in range(1, min(3, len(other)) + 1):
                said, says, after = " ".join(clause[:one]), " ".join(other[:two]), (*clause, "")[one]
                equal = said == says or self._stands_for(says, said, before, after)
                if equal and self._along(clause[one:], other[two:], clause[one - 1]):
                    return True
        return False

    def _stands_for(self, word: str, other: str, before: str, after: str) -> bool:
        if self.slip(word, other):
            return not classes.matters(other)
        return not classes.opposed(word, other) and self.synonyms(word, other) and alone(before, other, after)


def _spread(clause: Clause) -> Clause:
    """A clause with words of one hyphen apart: "close-up" is "close up"; relations stay as they are."""
    return tuple(p for t in clause for p in ([t] if t in classes.RELATIONS else t.split("-")))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _count(caption: str, term: str) -> int:
    """How often a term stands in a caption as words of its own, in any case."""
    return len(re.findall(rf"(?<!\w){re.escape(_normal(term))}(?!\w)", _normal(caption)))
